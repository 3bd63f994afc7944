import { get } from "../api.js";
import { badge, fill, h, name, number, table, time } from "../dom.js";
import { label } from "../labels.js";
import { nearestExemplars } from "../nearest.js";
import { shownText } from "../text.js";

export default async function decision(place, [id]) {
  const found = await get(`decisions/${encodeURIComponent(id)}`);
  const pair = (what, value) => value === null || value === undefined || value === "" ? [] : [h("dt", {}, what), h("dd", {}, value)];
  fill(place, h("h1", {}, "Decision ", badge(found.action)),
    h("section", { class: "panel" }, h("h2", {}, "What happened"), h("dl", {},
      pair("reason", found.reason), pair("id", h("code", {}, found.id)), pair("time", time(found.time)),
      pair("answered with", found.status), pair("wire", `${found.wire} ${found.operation}${found.streaming ? ", streamed" : ""}`),
      pair("model", found.model), pair("tenant", found.tenant), pair("key", found.key || "none"),
      pair("policy", `${found.policy} (version ${found.version}), generation ${found.generation}`),
      found.shadow ? pair("shadow policy, of the request", [found.shadow.policy, " would have: ", badge(found.shadow.action), " ", found.shadow.reason]) : [],
      found.upstream ? pair("upstream", `${found.upstream.name}: ${found.upstream.status}, ${number(found.upstream.seconds * 1000, 1)} ms, ${found.upstream.retries} retries`) : [],
      pair("replaced values", Object.entries(found.edits).map(([what, count]) => `${what} ×${count}`).join(", ")),
      pair("took", `${number(found.seconds * 1000, 1)} ms, ${number(found.bytes_in)} bytes in, ${number(found.bytes_out)} out`),
      found.client_gone ? pair("caller", "left before the end") : [])),
    h("section", { class: "panel" }, h("h2", {}, "Was this right?"), h("div", { class: "row" },
      ["attack", "benign"].map((said) => h("button", { type: "button", onclick: () => label([id], said) }, `Label ${said} (${said[0]})`)))),
    side("Request", "request", found), found.reply ? side("Reply", "reply", found) : h("p", { class: "dim" }, "There was no reply to screen."));
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    if (event.key === "a" || event.key === "b") label([id], event.key === "a" ? "attack" : "benign");
  };
  document.addEventListener("keydown", keys);
  return () => document.removeEventListener("keydown", keys);
}

function side(title, direction, found) {
  const one = found[direction];
  const best = {};
  for (const finding of one.findings) best[finding.detector] = Math.max(best[finding.detector] ?? 0, finding.score);
  // Stages take time for what is new alone: of what was judged before it is remembered which stages had judged it.
  const remembered = one.parts.length && !(direction === "reply" && found.streaming) && Object.keys(one.timings).every((key) => key === "total");
  const judged = [...Object.keys(one.timings), ...one.parts.flatMap((part) => part.stages), ...Object.keys(best)];
  const stages = [...new Set(judged)].filter((stage) => stage !== "total");
  return h("section", { class: "panel" }, h("h2", {}, `${title}: `, badge(one.action), " ", one.reason),
    h("p", {}, `Score ${number(one.score, 3)}. ${one.parts.length} ${one.parts.length === 1 ? "part" : "parts"} screened in ${number(one.timings.total)} µs.${remembered ? " All of it was judged before, and is remembered." : ""}`,
      one.skipped.length ? h("strong", {}, ` Incomplete: ${one.skipped.map((skipped) => `${skipped.stage} ${skipped.reason}`).join(", ")}.`) : ""),
    table("Stages", [["stage", (stage) => stage], ["µs", (stage) => number(one.timings[stage]), { n: true }],
      ["highest score", (stage) => stage in best ? number(best[stage], 2) : "–", { n: true }]], stages),
    findings(one.findings),
    direction === "reply" && found.streaming ? inTheStream(one) : null,
    one.votes.length ? table("What replicas said", [["replica", (vote) => vote.node], ["said", (vote) => `${vote.said} ${vote.action}`],
      ["score", (vote) => vote.action ? number(vote.score, 3) : "–", { n: true }]], one.votes) : null,
    one.gaps.length ? table("Not screened", [["part", (gap) => h("code", {}, gap.path)], ["origin", (gap) => gap.origin], ["why", (gap) => gap.reason]], one.gaps) : null,
    texts(direction, one, found), h("details", {}, h("summary", {}, "Parts that were screened"),
      table("Parts", [["part", (part) => h("code", {}, part.path)], ["origin", (part) => part.origin], ["turn", (part) => part.turn, { n: true }],
        ["characters", (part) => number(part.length), { n: true }], ["stages", (part) => part.stages.join(", "), { optional: true }]], one.parts)));
}

const BECAME = { block: "held back, and the stream cut", redact: "held back, and replaced", flag: "reported", allow: "reported" };

/** What screening did to a reply on its way. What was only reported had gone out, or the stream was cut for something else. */
const inTheStream = (one) => [h("h3", {}, "In the stream"), h("p", {}, `${one.reason}.`),
  one.findings.length ? table("What became of it", [["what", (row) => name(row.category)], ["characters", (row) => `${number(row.start)}–${number(row.end)}`],
    ["was", (row) => BECAME[row.action] ?? row.action]], one.findings) : null];

export const findings = (rows, actions) => table("Findings", [["category", (row) => name(row.category)], ["pattern", (row) => h("a", { href: `#/patterns/${encodeURIComponent(row.pattern)}` }, name(row.pattern))],
  ["stage", (row) => row.detector, { optional: true }], ["score", (row) => number(row.score, 2), { n: true }],
  ["asked for", (row, index) => badge(actions ? actions[index] : row.action)],
  ["where", (row) => h("code", {}, `${row.path} ${row.start}–${row.end}`)]], rows);

function texts(direction, one, found) {
  if (found.texts === null) return h("p", { class: "dim" }, "No text was kept: retention.text is off, it has expired, the message was allowed, or this key may not read texts.");
  return found.texts.filter((text) => text.direction === direction).map((text) => h("div", {},
    h("h3", {}, h("code", {}, text.path), text.redacted ? " (values redacted)" : ""),
    shownText(text.text, text.redacted ? [] : one.findings.filter((finding) => finding.path === text.path), `text of ${text.path}`),
    text.canonical ? [h("h3", {}, "In canonical form: ", text.canonical.evidence.join(", ") || "characters folded"),
      shownText(text.canonical.text, text.canonical.spans, `canonical text of ${text.path}`)] : null,
    nearestExemplars(text.text, one.parts.find((part) => part.path === text.path)?.origin)));
}
