// Texts of strangers: shown whole, inert, with what cannot be seen made visible and findings marked.
import { h } from "./dom.js";

const SHOWN = 20000; // UTF-16 units at first: a line of a megabyte takes a browser seconds to break

// Controls, bidirectional controls, invisible and tag characters, variation selectors, lone surrogates; tabs and newlines aside.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]+|[\u{e0000}-\u{e0fff}]+|\p{Surrogate}+/gu;

/** A text with findings, whose ``start`` and ``end`` count code points. */
export function shownText(text, findings = [], label = "text") {
  const box = h("div", { class: "text", tabindex: "0", role: "group", "aria-label": label });
  const render = (limit) => box.replaceChildren(...pieces(text.slice(0, limit), located(text, findings)));
  render(SHOWN);
  if (text.length <= SHOWN) return box;
  const more = h("button", { type: "button", onclick: () => { render(text.length); more.remove(); } },
    `Show all ${text.length.toLocaleString("en")} characters`);
  return h("div", {}, box, more);
}

/** Findings with their places in UTF-16 units, as strings of JavaScript count. */
function located(text, findings) {
  const wanted = [...new Set(findings.flatMap((one) => [one.start, one.end]))].sort((a, b) => a - b);
  const places = new Map();
  let unit = 0, point = 0;
  for (const at of wanted) {
    for (; point < at && unit < text.length; point++) unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
    places.set(at, unit);
  }
  return findings.map((one) => ({ ...one, from: places.get(one.start), to: places.get(one.end) }));
}

function pieces(text, findings) {
  const cuts = [...new Set([0, text.length, ...findings.flatMap((one) => [one.from, one.to])])]
    .filter((at) => at <= text.length).sort((a, b) => a - b);
  const out = [];
  for (let index = 0; index + 1 < cuts.length; index++) {
    const [from, to] = [cuts[index], cuts[index + 1]];
    const here = findings.filter((one) => one.from <= from && to <= one.to);
    const inside = visible(text.slice(from, to));
    if (here.length) {
      const why = here.map((one) => `${one.category} (${one.pattern}${one.score === undefined ? "" : `, ${one.score.toFixed(2)}`})`).join("; ");
      out.push(h("mark", { title: why }, inside));
    } else out.push(...inside);
  }
  return out;
}

function visible(text) {
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
