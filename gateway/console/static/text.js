// Texts of strangers: shown whole, inert, with what cannot be seen made visible and findings marked.
import { h, visible } from "./dom.js";

const SHOWN = 20000; // UTF-16 units at first: a line of a megabyte takes a browser seconds to break

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
