import { get, getIfThere } from "../api.js";
import { badge, brief, categories, field, fill, h, number, say, select, table, time } from "../dom.js";
import { label } from "../labels.js";

const SIZE = 100;
const SPANS = [["", "any time"], ["900", "last 15 minutes"], ["3600", "last hour"], ["86400", "last day"], ["604800", "last week"]];
let remembered = {};

export default async function decisions(place, [what, value]) {
  const wanted = what === "category" ? { category: value } : remembered;
  const names = await getIfThere("taxonomy") ?? {};
  const known = Object.entries(names).flatMap(([name, one]) => [[name, name], ...subcategories(one).map((sub) => [`${name}.${sub}`, `  ${name}.${sub}`])]);
  if (wanted.category && !known.some(([name]) => name === wanted.category)) known.push([wanted.category, wanted.category]);
  const list = h("div"), chosen = new Set();
  let cursors = [null], rows = [], next = null;

  const form = h("form", { class: "panel", "aria-label": "Filters", onsubmit: (event) => { event.preventDefault(); load([null]); }, onchange: () => load([null]) },
    select("Action", "action", [["", "any"], ["block", "block"], ["redact", "redact"], ["flag", "flag"], ["allow", "allow"]], wanted.action ?? ""),
    select("Category", "category", [["", "any"], ...known], wanted.category ?? ""),
    field("Wire", h("input", { name: "wire", size: 14, placeholder: "openai.chat", value: wanted.wire ?? "" })),
    field("Tenant", h("input", { name: "tenant", size: 12, value: wanted.tenant ?? "" })),
    select("When", "span", SPANS, wanted.span ?? ""), h("button", {}, "Show"));
  const previous = h("button", { type: "button", onclick: () => load(cursors.slice(0, -1)) }, "Previous");
  const following = h("button", { type: "button", onclick: () => next && load([...cursors, next]) }, "Next");
  const bulk = h("div", { class: "row" });
  fill(place, h("h1", {}, "Decisions"), form, bulk, list, h("div", { class: "row" }, previous, following));

  async function load(to) {
    const given = Object.fromEntries(new FormData(form));
    remembered = given;
    const { span, ...query } = given;
    try {
      const page = await get("decisions", { ...query, limit: SIZE, cursor: to.at(-1), since: span ? Date.now() / 1000 - Number(span) : "" });
      cursors = to;
      rows = page.decisions;
      next = page.next;
      chosen.clear();
      draw();
    } catch (error) { fill(list, h("p", { class: "error", role: "alert" }, error.message)); }
  }

  function draw() {
    previous.disabled = cursors.length < 2;
    following.disabled = !next;
    fill(list, table(`Page ${cursors.length}: ${rows.length} decisions, newest first`, [
      ["chosen", (row) => h("input", { type: "checkbox", "aria-label": `choose ${row.id}`, tabindex: "-1", checked: chosen.has(row.id), onchange: () => choose(row) }), { brief: true }],
      ["time", (row) => h("a", { href: `#/decision/${row.id}`, tabindex: "-1" }, time(row.time)), { unbroken: true }],
      ["action", (row) => [badge(row.action), row.complete ? "" : " incomplete"]],
      ["categories", (row) => categories(row.categories)],
      ["score", (row) => number(row.score, 2), { n: true }],
      ["model", (row) => brief(row.model), { optional: true }], ["wire", (row) => row.wire, { unbroken: true, optional: true }],
      ["tenant", (row) => row.tenant, { optional: true }], ["status", (row) => row.status, { n: true, optional: true }],
      ["ms", (row) => number(row.seconds * 1000, 1), { n: true, optional: true }],
    ], rows, (row, index) => ({ tabindex: index ? "-1" : "0", "data-id": row.id, class: chosen.has(row.id) ? "chosen" : null })));
    offer();
  }

  function offer() {
    const count = chosen.size;
    fill(bulk, h("span", { class: "dim" }, `${count} chosen`),
      ["attack", "benign"].map((said) => h("button", { type: "button", disabled: !count, onclick: () => say_of(said) }, `Label ${said} (${said[0]})`)),
      h("button", { type: "button", disabled: !rows.length, onclick: () => { rows.forEach((row) => chosen.add(row.id)); draw(); } }, "Choose all on this page"));
  }

  function choose(row) {
    if (!chosen.delete(row.id)) chosen.add(row.id);
    const line = list.querySelector(`tr[data-id="${row.id}"]`);
    line.classList.toggle("chosen", chosen.has(row.id));
    line.querySelector("input").checked = chosen.has(row.id);
    offer();
  }

  async function say_of(said) {
    const here = document.activeElement?.dataset?.id;
    const ids = chosen.size ? [...chosen] : here ? [here] : [];
    if (!ids.length) { say("Choose a line first: j, k move, x chooses."); return; }
    await label(ids, said);
    chosen.clear();
    draw();
    if (here) list.querySelector(`tr[data-id="${here}"]`)?.focus();
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
    const lines = [...list.querySelectorAll("tr[data-id]")];
    const at = lines.indexOf(document.activeElement?.closest("tr[data-id]"));
    const go = (to) => lines[Math.min(Math.max(to, 0), lines.length - 1)]?.focus();
    const row = rows[at];
    const does = {
      j: () => go(at + 1), ArrowDown: at >= 0 && (() => go(at + 1)), k: () => go(at - 1), ArrowUp: at >= 0 && (() => go(at - 1)),
      x: row && (() => choose(row)), Enter: row && (() => { location.hash = `#/decision/${row.id}`; }),
      a: () => say_of("attack"), b: () => say_of("benign"),
      n: () => !following.disabled && following.click(), p: () => !previous.disabled && previous.click(),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  }
  document.addEventListener("keydown", keys);
  await load([null]);
  return () => document.removeEventListener("keydown", keys);
}

const subcategories = (one) => Array.isArray(one.subcategories) ? one.subcategories : Object.keys(one.subcategories ?? {});
