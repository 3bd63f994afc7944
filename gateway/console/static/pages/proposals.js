import { get, getIfThere, may, post } from "../api.js";
import { badge, field, fill, h, name, number, say, select, table, time, tree } from "../dom.js";
import { shownText } from "../text.js";

const STATES = ["proposed", "shadow", "canary", "active", "failed", "rejected", "demoted"];

export default async function proposals(place, [id]) {
  await (id ? one(place, id) : list(place));
}

async function list(place) {
  const shown = h("div");
  let cursor = null;
  const choice = select("State", "state", [["", "any"], ...STATES.map((state) => [state, state])]);
  const load = async (from) => {
    const page = await getIfThere("proposals", { state: choice.querySelector("select").value, limit: 50, cursor: from });
    if (page === null) { fill(shown, h("p", { class: "empty" }, "This gateway makes no proposals.")); return; }
    cursor = page.next;
    fill(shown, table("Proposals, newest first", [
      ["pattern", (row) => h("a", { href: `#/proposals/${encodeURIComponent(row.id)}` }, name(row.pattern))],
      ["kind", (row) => row.kind, { optional: true }], ["state", (row) => row.state], ["category", (row) => name(row.category), { optional: true }],
      ["approvals", (row) => `${row.approvals} of ${row.quorum}`, { n: true }],
      ["trial", (row) => row.trial === null ? "not run" : row.trial.passed ? "passed" : "failed"],
      ["cases", (row) => number(row.cases), { n: true, optional: true }],
      ["author", (row) => row.author, { optional: true }], ["since", (row) => time(row.since ?? row.at), { unbroken: true, optional: true }],
    ], page.proposals), cursor ? h("button", { type: "button", onclick: () => load(cursor) }, "Older") : null);
  };
  choice.addEventListener("change", () => load(null));
  fill(place, h("h1", {}, "Proposals"), h("div", { class: "panel row" }, choice), shown);
  await load(null);
}

async function one(place, id) {
  const found = await get(`proposals/${encodeURIComponent(id)}`);
  const reason = h("input", { name: "reason", class: "wide", maxlength: 500 });
  const fresh = found.state === "proposed";
  const said = { approve: "Approved", promote: "Moved on", reject: fresh ? "Rejected" : "Taken back" };
  const vote = async (verb) => {
    try {
      const done = await post(`proposals/${encodeURIComponent(id)}/${verb}`, { reason: reason.value });
      say(`${said[verb]}: it is now ${done.state}, ${done.approvals} of ${done.quorum} approvals.`);
      await one(place, id);
    } catch (error) { say(error.message); }
  };
  const { pattern, trial, votes, evidence, nearest, reflection, worded, state, approvals, quorum, reason: why, ...rest } = found;
  const told = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null && value !== "" && value.length !== 0 && !(fresh && value === 0)));
  const gone = ["failed", "rejected", "demoted"].includes(found.state);
  fill(place, h("h1", {}, `Proposal: ${found.pattern.id ?? found.pattern}`),
    h("section", { class: "panel" }, h("h2", {}, "What it is"), h("p", {}, badge(state), ` ${approvals} of ${quorum} approvals. ${why ?? ""}`),
      reflection ? h("p", { class: "lines" }, reflection) : null,
      worded ? h("div", {}, shownText(worded.text, [], "the reflection as a language model worded it"), h("span", { class: "dim" }, `${worded.note} (${worded.by})`)) : null,
      tree(told)),
    may("approve") && !gone ? h("form", { class: "panel", onsubmit: (event) => event.preventDefault() }, h("h2", { class: "wide" }, "Your decision"), field("Reason", reason),
      fresh ? h("button", { type: "button", class: "main", onclick: () => vote("approve") }, "Approve") : null,
      ["shadow", "canary"].includes(found.state) ? h("button", { type: "button", class: "main", onclick: () => vote("promote") }, "Move on now") : null,
      h("button", { type: "button", onclick: () => vote("reject") }, fresh ? "Reject" : "Take back")) : null,
    h("section", { class: "panel" }, h("h2", {}, "Trial"), trial ? trialParts(trial) : h("p", { class: "empty" }, "Not run yet.")),
    h("section", { class: "panel" }, h("h2", {}, "Pattern"), patternParts(pattern)),
    h("section", { class: "panel" }, h("h2", {}, "Votes"), table("Votes", columns(votes), votes)),
    h("section", { class: "panel" }, h("h2", {}, "Evidence"), evidence.length ? evidence.map((one) => h("div", {},
      h("h3", {}, `Case ${one.case}: ${one.outcome}`, one.decision_id ? [" – ", h("a", { href: `#/decision/${one.decision_id}` }, "decision")] : null),
      one.text ? shownText(one.text, [], `text of case ${one.case}`) : h("p", { class: "dim" }, "Its text is not shown: it was not kept, or this key may not read texts."),
      one.lesson ? h("p", {}, one.lesson) : null,
      table("Labels", columns(one.labels), one.labels))) : h("p", { class: "empty" }, "None.")),
    nearest?.length ? h("section", { class: "panel" }, table("Nearest known examples", [
      ["id", (row) => row.id], ["category", (row) => row.category || "harmless"], ["similarity", (row) => row.similarity.toFixed(2), { n: true }],
      ["text", (row) => row.text ? shownText(row.text, [], `text of ${row.id}`) : "–"]], nearest)) : null);
}

/** What a trial found, in words, and then what speaks against the change. */
export function trialParts({ passed, own, caught, harmless, false_alarms, hostile, lost, false_alarm_bound, loss_bound, examples, against }) {
  const told = (part, all, what, bound) => all ? h("li", {}, `${number(part)} of ${number(all)} ${what}`,
    bound ? h("span", { class: "dim" }, ` (at most ${number(bound * 100, 2)} % would pass)`) : null) : null;
  return [h("p", {}, h("strong", {}, passed ? "Passed." : "Failed.")),
    h("ul", {}, told(caught, own, "of its own examples caught"), told(false_alarms, harmless, "harmless texts stopped", false_alarm_bound),
      told(lost, hostile, "known attacks let through", loss_bound)),
    against?.length ? [h("h3", {}, "What speaks against it"), h("ul", {}, against.map((one) => h("li", {}, one)))] : null,
    examples?.length ? [h("h3", {}, "Some of the texts that it would judge wrongly"), examples.map((text, index) => shownText(text, [], `example ${index + 1}`))] : null];
}

export const columns = (rows) => [...new Set((rows ?? []).flatMap(Object.keys))].map((name) =>
  [name.replaceAll("_", " "), (row) => ["at", "time"].includes(name) ? time(row[name]) : tree(row[name])]);

/** A pattern: its body and examples are texts of strangers too. */
export function patternParts(pattern) {
  const { body, hits, misses, ...rest } = pattern;
  const examples = (title, texts) => texts?.length ? [h("h3", {}, title), texts.map((text, index) => shownText(text, [], `${title} ${index + 1}`))] : null;
  return [tree(rest), body ? [h("h3", {}, "Body"), shownText(body, [], "body")] : null, examples("Hits", hits), examples("Misses", misses)];
}
