import { get, getIfThere, may, post } from "../api.js";
import { field, fill, h, say, table, time, tree } from "../dom.js";
import { patternParts } from "./proposals.js";

const PAGE = 100;

export default async function generations(place) {
  const serving = await get("generation");
  const shown = h("div");
  const difference = h("div", { "aria-live": "polite" });
  const compare = async (from, to) => {
    try {
      const one = await get(`generations/${from}/diff/${to}`);
      const whole = (title, count, rows) => [h("h3", {}, `${title}: ${count}`), rows.map((row) => h("details", {}, h("summary", {}, row.id), patternParts(row)))];
      fill(difference, h("section", { class: "panel" }, h("h2", {}, `From ${from} to ${to}`), whole("Added", one.counts.added, one.added), whole("Removed", one.counts.removed, one.removed),
        h("h3", {}, `Changed: ${one.counts.changed}`), Object.entries(one.changed).map(([id, changes]) => [h("h3", {}, h("code", {}, id)),
          table(`Changes of ${id}`, [["field", (row) => row.field], ["before", (row) => tree(row.before)], ["after", (row) => tree(row.after)]], changes)])));
      difference.scrollIntoView({ block: "nearest" });
    } catch (error) { say(error.message); }
  };
  const back = async (number) => {
    const reason = h("input", { name: "reason", required: true, maxlength: 500, class: "wide" });
    const dialog = h("dialog", { "aria-labelledby": "back-title" }, h("h2", { id: "back-title" }, `Roll back to generation ${number}?`),
      h("p", {}, "What stood then stands again, as a new generation; every replica follows."),
      h("form", { method: "dialog", onsubmit: async () => {
        try { const done = await post("rollback", { generation: number, reason: reason.value }); say(`Rolled back: generation ${done.generation}.`); await generations(place); }
        catch (error) { say(error.message); }
      } }, field("Reason", reason), h("button", { class: "main" }, "Roll back"), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  const load = async (from) => {
    const found = await getIfThere("generations", { limit: PAGE, cursor: from });
    if (found === null) { fill(shown, h("p", { class: "empty" }, "This gateway keeps no pattern store: its patterns come from packs alone.")); return; }
    const rows = found.next === null ? [...found.generations, { number: 0, reason: "the packs alone" }] : found.generations;
    fill(shown, table("Generations of the pattern store, latest first", [
      ["generation", (row) => row.number], ["time", (row) => row.at ? time(row.at) : "–", { unbroken: true }],
      ["by", (row) => row.author ?? "–"], ["reason", (row) => row.reason],
      ["compare", (row) => h("button", { type: "button", onclick: () => compare(row.number, found.generation) }, "With the latest")],
      ["roll back", (row) => may("approve") && row.number !== found.generation ? h("button", { type: "button", onclick: () => back(row.number) }, "To this one") : ""],
    ], rows), found.next === null ? null : h("button", { type: "button", onclick: () => load(found.next) }, "Older"));
  };
  fill(place, h("h1", {}, "Generations"), h("section", { class: "panel" }, h("h2", {}, "What serves here"), tree(serving)), shown, difference);
  await load(null);
}
