import { get, getIfThere } from "../api.js";
import { badge, categories as named, fill, h, name as shown, number, table, time } from "../dom.js";
import { lines } from "../plot.js";

const EVERY = 5000;
const ACTIONS = [["allow", "--allow"], ["flag", "--flag"], ["redact", "--redact"], ["block", "--block"]];

export default async function live(place) {
  const tiles = h("div", { class: "tiles" }), rates = h("div", { class: "plot-box" }), delays = h("div", { class: "plot-box" });
  const top = h("div"), recent = h("div"), note = h("p", { class: "dim" });
  fill(place, h("h1", {}, "Live"), note, tiles,
    h("div", { class: "grid" },
      h("section", { class: "panel" }, h("h2", {}, "Requests a second, by action"), rates),
      h("section", { class: "panel" }, h("h2", {}, "Time spent screening, milliseconds"), delays)),
    h("div", { class: "grid" },
      h("section", { class: "panel" }, h("h2", {}, "Findings by category, since the start"), top),
      h("section", { class: "panel" }, h("h2", {}, "Latest that were not just allowed"), recent)));
  const plots = await Promise.all([
    lines(rates, ACTIONS, ""), lines(delays, [["p50", "--allow"], ["p95", "--flag"], ["p99", "--block"]], ""),
  ]);
  const refresh = async () => {
    try {
      const [traffic, state] = await Promise.all([get("traffic"), getIfThere("generation")]);
      draw(traffic, state);
      fill(recent, await latest());
      note.textContent = "";
    } catch (error) { note.textContent = error.message; }
  };
  const draw = ({ samples, categories }, state) => {
    const times = samples.map((one) => one.time);
    plots[0].set([times, ...ACTIONS.map(([name]) => samples.map((one) => one.rates[name] ?? 0))]);
    plots[1].set([times, ...[0, 1, 2].map((at) => samples.map((one) => one.screening[at] === null ? null : one.screening[at] * 1000))]);
    const now = samples.at(-1);
    const total = now ? Object.values(now.rates).reduce((sum, one) => sum + one, 0) : 0;
    const p95 = now?.screening[1];
    const tile = (what, value) => h("div", { class: "tile" }, h("span", {}, what), h("b", {}, value));
    fill(tiles, tile("requests / s", number(total, 1)), ...ACTIONS.slice(1).map(([name]) => tile(`${name} / s`, number(now?.rates[name] ?? 0, 2))),
      tile("screening p95", p95 ? `≤ ${number(p95 * 1000, 2)} ms` : "–"), tile("generation", state?.generation ?? "–"));
    const most = Math.max(1, ...Object.values(categories));
    fill(top, table("Categories", [["category", ([name]) => h("a", { href: `#/decisions/category/${encodeURIComponent(name)}` }, shown(name))],
      ["findings", ([, count]) => number(count), { n: true }],
      ["share of the most", ([, count]) => { const bar = h("div", { class: "bar" }); bar.style.width = `${count / most * 100}%`; return bar; }, { optional: true }],
    ], Object.entries(categories)));
  };
  await refresh();
  const timer = setInterval(refresh, EVERY);
  return () => { clearInterval(timer); plots.forEach((plot) => plot.end()); };
}

async function latest() {
  const pages = await Promise.all(["block", "redact", "flag"].map((action) => get("decisions", { action, limit: 8 })));
  const found = pages.flatMap((page) => page.decisions).sort((a, b) => b.time - a.time).slice(0, 8);
  return table("Decisions", [["time", (one) => h("a", { href: `#/decision/${one.id}` }, time(one.time)), { unbroken: true }],
    ["action", (one) => badge(one.action)], ["categories", (one) => named(one.categories)]], found);
}
