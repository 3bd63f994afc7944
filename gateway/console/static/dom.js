// Elements are made from values and never from markup, so nothing that a prompt holds can become part of the page.

/** An element: h("a", {href: "#", class: "x", onclick: f}, "text", [more, children]). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(...(child instanceof Node ? [child] : visible(String(child))));
  }
}

// Controls, bidirectional controls, invisible and tag characters, variation selectors, lone surrogates; tabs and newlines aside.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]+|[\u{e0000}-\u{e0fff}]+|\p{Surrogate}+/gu;

/** A text with what cannot be seen, or turns what stands beside it around, as its code points: parts for `append`. */
export function visible(text) {
  const out = [];
  let last = 0;
  for (const match of text.matchAll(UNSEEN)) {
    out.push(text.slice(last, match.index), unseen(match[0]));
    last = match.index + match[0].length;
  }
  out.push(text.slice(last));
  return out.filter((one) => one !== "");
}

function unseen(run) {
  const points = Array.from(run);
  const names = points.slice(0, 4).map((one) => "U+" + one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0"));
  return h("span", { class: "ctl" }, names.join(" ") + (points.length > 4 ? ` … ${points.length} in all` : ""));
}

/** The beginning of a text of strangers, where there is no room for more. */
export const brief = (text, most = 60) => {
  const points = Array.from(text ?? "");
  return points.length > most ? points.slice(0, most).join("") + "…" : points.join("");
};

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

export const badge = (action) => h("span", { class: `badge ${["block", "redact", "flag", "allow"].includes(action) ? action : ""}` }, action);

/** A name such as prompt_injection.task_hijack: its lines end after a dot, dash or underscore. */
export const name = (value) => h("span", { class: "name" }, String(value).split(/(?<=[._-])/).map((part, index) => [index ? h("wbr") : null, part]));

/** Names of categories with a subcategory, which say more than those without. */
export const categories = (values) => {
  const precise = values.filter((one) => one.includes("."));
  return precise.length ? precise.map((one, index) => [index ? ", " : "", name(one)]) : "–";
};

/** Day and time of day; a line ends between the two and nowhere else. */
export const time = (seconds) => seconds ? h("time", { datetime: new Date(seconds * 1000).toISOString() },
  new Date(seconds * 1000).toLocaleString("sv-SE").split(" ").map((part, index) => [index ? " " : null, h("span", { class: "unbroken" }, part)])) : "–";

export const number = (value, digits = 0) => value === null || value === undefined ? "–"
  : Number(value).toLocaleString("en", { maximumFractionDigits: digits });

/** A table: columns are [title, cell function, options]; options: n (a number), unbroken (one line), and on a phone
 *  optional (not there) and brief (without its title). */
export function table(caption, columns, rows, rowProps = () => ({})) {
  if (!rows.length) return h("p", { class: "empty" }, `${caption}: none`);
  const style = (options) => [options?.n && "n", options?.optional && "optional", options?.unbroken && "unbroken", options?.brief && "brief"].filter(Boolean).join(" ") || null;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , options]) => h("th", { scope: "col", class: style(options) }, title)))),
      h("tbody", {}, rows.map((row, index) => h("tr", rowProps(row, index),
        columns.map(([, cell, options]) => h("td", { class: style(options) }, cell(row, index))))))));
}

/** Any JSON value for people: lists of objects as tables, objects as definitions. */
export function tree(value, caption = "values", depth = 0) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Math.round(value * 1e4) / 1e4);
  if (typeof value === "string") return value;
  if (Array.isArray(value)) {
    if (!value.length) return "none";
    if (depth < 3 && value.every((one) => one && typeof one === "object" && !Array.isArray(one))) {
      const names = [...new Set(value.flatMap(Object.keys))].slice(0, 12);
      return table(caption, names.map((name) => [name, (row) => cell(name, row[name], depth + 1)]), value.slice(0, 200));
    }
    return value.slice(0, 200).map((one, index) => [index ? ", " : "", tree(one, caption, depth + 1)]);
  }
  const entries = Object.entries(value);
  return entries.length ? h("dl", {}, entries.map(([name, one]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, cell(name, one, depth + 1))])) : "none";
}

const TIMES = new Set(["at", "since", "time", "created_at", "loaded_at", "began", "last_root", "seen", "last_seen", "heard", "certificate_expires_at"]);

function cell(name, value, depth) {
  return TIMES.has(name) && typeof value === "number" && value > 1e9 && value < 1e11 ? time(value) : tree(value, name.replaceAll("_", " "), depth);
}

/** Say something to everybody, screen readers too. */
export function say(message) {
  const line = h("p", {}, message);
  document.getElementById("status").append(line);
  setTimeout(() => line.remove(), 6000);
}

let fields = 0;

/** An input with its label before it. */
export function field(label, input, wide = false) {
  input.id ||= `field-${++fields}`;
  return h("div", { class: wide ? "field wide" : "field" }, h("label", { for: input.id }, label), input);
}

export const select = (label, name, options, value = "") => field(label, h("select", { name },
  options.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
