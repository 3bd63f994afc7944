// Which known texts a text is nearest to in meaning: looked up when somebody asks, because it takes the encoder milliseconds.
import { post } from "./api.js";
import { fill, h, name, number, table } from "./dom.js";
import { shownText } from "./text.js";

/** A button that becomes the exemplars nearest to ``text``. */
export function nearestExemplars(text, origin = "user") {
  if (!text) return null;
  const place = h("div", { "aria-live": "polite" });
  const look = async () => {
    fill(place, h("p", { class: "dim" }, "Looking…"));
    try {
      const { nearest } = await post("exemplars/nearest", { text, origin });
      fill(place, table("Nearest exemplars", [["similarity", (row) => number(row.similarity, 2), { n: true }],
        ["exemplar", (row) => name(row.id), { optional: true }], ["known as", (row) => row.category ? name(row.category) : "harmless"],
        ["text", (row) => row.text ? shownText(row.text, [], `text of ${row.id}`) : "not shipped"]], nearest));
    } catch (error) { fill(place, h("p", { class: "error", role: "alert" }, error.message)); }
  };
  fill(place, h("button", { type: "button", onclick: look }, "Nearest exemplars"));
  return place;
}
