// What the shipped exemplars are about: worked out when somebody asks, because it takes seconds the first time.
import { get } from "./api.js";
import { fill, h, name, number, table } from "./dom.js";
import { shownText } from "./text.js";

/** Buttons that become the clusters of attacks, or of harmless texts. */
export function exemplarClusters() {
  const place = h("div", { "aria-live": "polite" });
  const look = async (harmless) => {
    fill(place, h("p", { class: "dim" }, "Looking…"));
    try {
      const { clusters } = await get("exemplars/clusters", { harmless });
      fill(place, table(harmless ? "Clusters of harmless exemplars" : "Clusters of attacks", [["about", (row) => row.name],
        ["exemplars", (row) => number(row.size), { n: true }], ["closeness", (row) => number(row.closeness, 2), { n: true, optional: true }],
        ["most central", (row) => h("details", {}, h("summary", {}, name(row.central[0].id)),
          row.central.map((one) => shownText(one.text, [], `text of ${one.id}`)))]], clusters));
    } catch (error) { fill(place, h("p", { class: "error", role: "alert" }, error.message)); }
  };
  return h("section", { class: "panel" }, h("h2", {}, "What the exemplars are about"),
    h("div", { class: "row" }, h("button", { type: "button", onclick: () => look(false) }, "Attacks"),
      h("button", { type: "button", onclick: () => look(true) }, "Harmless texts")), place);
}
