import { exemplarClusters } from "../clusters.js";
import { get, getIfThere, may, post } from "../api.js";
import { field, fill, h, name, number, say, select, table, tree } from "../dom.js";
import { columns, patternParts, trialParts } from "./proposals.js";

const SIZE = 100;

export default async function patterns(place, [id]) {
  if (id) return one(place, id);
  const [names, list] = [await get("taxonomy"), h("div")];
  const options = Object.entries(names).flatMap(([category, one]) => [[category, `${category}: ${one.title}`],
    ...(Array.isArray(one.subcategories) ? one.subcategories : Object.keys(one.subcategories ?? {})).map((sub) => [`${category}.${sub}`, `  ${category}.${sub}`])]);
  const choice = select("Category", "category", [["", "all"], ...options]);
  const load = async (offset) => {
    const page = await get("patterns", { category: choice.querySelector("select").value, limit: SIZE, offset });
    fill(list, table(`${number(page.total)} patterns`, [
      ["id", (row) => h("a", { href: `#/patterns/${encodeURIComponent(row.id)}` }, name(row.id))], ["category", (row) => name(row.category)],
      ["kind", (row) => row.kind, { optional: true }], ["severity", (row) => row.severity], ["state", (row) => row.state, { optional: true }],
      ["from", (row) => row.provenance, { optional: true }]], page.patterns),
    h("div", { class: "row" }, h("button", { type: "button", disabled: offset === 0, onclick: () => load(Math.max(0, offset - SIZE)) }, "Previous"),
      h("button", { type: "button", disabled: offset + SIZE >= page.total, onclick: () => load(offset + SIZE) }, "Next")));
  };
  choice.addEventListener("change", () => load(0));
  fill(place, h("h1", {}, "Patterns"), h("div", { class: "panel row" }, choice, h("a", { href: "#/generations" }, "Generations: compare and roll back")), list, exemplarClusters());
  await load(0);
}

async function one(place, id) {
  const found = await getIfThere(`patterns/${encodeURIComponent(id)}`) ?? await listed(id);
  if (!found) { fill(place, h("h1", {}, id), h("p", {}, "There is no pattern with this id; the encoder and other stages name findings of their own.")); return; }
  const { history, effectiveness, from_pack, ...pattern } = found;
  fill(place, h("h1", {}, id),
    h("section", { class: "panel" }, h("h2", {}, "As it stands"), patternParts(pattern)),
    effectiveness ? h("section", { class: "panel" }, h("h2", {}, "How it did"), tree(effectiveness)) : null,
    editor(pattern),
    history ? h("section", { class: "panel" }, h("h2", {}, "History"), from_pack ? h("p", {}, "It ships with the gateway and was never changed.")
      : table("Revisions", columns(history.map(({ pattern: _, ...rest }) => rest)), history.map(({ pattern: _, ...rest }) => rest))) : null);
}

/** Where no page of one pattern is served: look through the list. */
async function listed(id) {
  for (let offset = 0; ; offset += 1000) {
    const page = await get("patterns", { limit: 1000, offset });
    const found = page.patterns.find((one) => one.id === id);
    if (found || offset + 1000 >= page.total) return found;
  }
}

const WRITTEN = ["id", "kind", "body", "category", "severity", "check", "origins", "hits", "misses", "state", "provenance"];

function editor(pattern) {
  if (!may("propose")) return null;
  const plain = Object.fromEntries(WRITTEN.map((key) => [key, pattern[key]]).filter(([, value]) => value !== null && value !== undefined && value !== "" && !(Array.isArray(value) && !value.length)));
  const input = h("textarea", { rows: 16, spellcheck: "false", name: "pattern" });
  input.value = JSON.stringify(plain, null, 2);
  const reason = h("input", { name: "reason", class: "wide", maxlength: 500 }), out = h("div", { "aria-live": "polite" });
  let timer = null, turn = 0;
  const read = () => { try { return JSON.parse(input.value); } catch (error) { fill(out, h("p", { class: "error" }, `Not JSON: ${error.message}`)); return null; } };
  const test = async () => {
    const mine = ++turn, wanted = read();
    if (!wanted) return;
    fill(out, h("p", { class: "dim" }, "Trying it against its hits, its misses and the benign corpus…"));
    try {
      const found = await post("patterns/test", wanted);
      if (mine !== turn) return;
      const { pattern: _, ...rest } = found;
      fill(out, trialParts(rest));
    } catch (error) { if (mine === turn) fill(out, h("p", { class: "error" }, error.status === 404 || error.status === 405 ? "This gateway offers no test of patterns." : error.message)); }
  };
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(test, 600); });
  const propose = async () => {
    const wanted = read();
    if (!wanted) return;
    try {
      const made = await post("patterns", { pattern: wanted, reason: reason.value });
      say("Proposed; somebody else approves it.");
      location.hash = `#/proposals/${encodeURIComponent(made.id)}`;
    } catch (error) { say(error.message); }
  };
  return h("section", { class: "panel" }, h("h2", {}, "Change it"), h("p", { class: "dim" }, "It is tried as you type. A change becomes a proposal, which others approve."),
    field("Pattern, as packs write it", input, true), h("div", { class: "row" }, h("button", { type: "button", onclick: test }, "Try it"), field("Reason", reason),
      h("button", { type: "button", class: "main", onclick: propose }, "Propose")), out);
}
