import { post } from "../api.js";
import { badge, field, fill, h, number, select } from "../dom.js";
import { nearestExemplars } from "../nearest.js";
import { shownText } from "../text.js";
import { findings } from "./decision.js";

const ORIGINS = ["user", "system", "assistant", "tool_result", "tool_definition", "document"];
const POLICIES = [["current", "The policy in force"], ["shadow", "Its shadow policy"], ["strict", "strict"], ["balanced", "balanced"], ["monitor", "monitor"]];

export default async function playground(place) {
  const input = h("textarea", { name: "input", rows: 8, spellcheck: "false", placeholder: 'A prompt, or a conversation: [{"role": "user", "content": "…"}]' });
  const out = h("div", { "aria-live": "polite" });
  const run = async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const text = input.value;
    try {
      const policies = [given.get("left"), given.get("right")];
      const asked = { policies: [...new Set(policies)], direction: given.get("direction"), tenant: given.get("tenant") };
      const messages = conversation(text);
      const found = await post("playground", messages ? { ...asked, messages } : { ...asked, text, origin: given.get("origin") });
      fill(out, result(found, policies));
    } catch (error) { fill(out, h("p", { class: "error", role: "alert" }, error.message)); }
  };
  const form = h("form", { class: "panel", onsubmit: run },
    field("Prompt or conversation", input, true),
    select("Said by", "origin", ORIGINS.map((one) => [one, one.replace("_", " ")]), "user"),
    select("Direction", "direction", [["request", "request"], ["reply", "reply"]], "request"),
    select("Policy", "left", POLICIES, "current"), select("Beside", "right", POLICIES, "shadow"),
    field("Tenant", h("input", { name: "tenant", size: 12 })),
    h("button", { class: "main" }, "Judge (Ctrl+Enter)"));
  input.addEventListener("keydown", (event) => { if (event.ctrlKey && event.key === "Enter") run(event); });
  fill(place, h("h1", {}, "Playground"), h("p", { class: "dim" }, "Judged by what is in force now. Nothing is sent anywhere, kept or counted."), form, out);
  input.focus();
}

/** Messages, where the input is a JSON array of them or an object that has them. */
function conversation(text) {
  try {
    const value = JSON.parse(text);
    const messages = Array.isArray(value) ? value : value?.messages;
    return Array.isArray(messages) && messages.every((one) => one && typeof one === "object" && "role" in one) ? messages : null;
  } catch { return null; }
}

function result(found, policies) {
  const verdict = (name) => {
    const one = found.policies[name];
    const title = POLICIES.find(([key]) => key === name)[1];
    return h("section", { class: "panel" }, h("h2", {}, title), one === null ? h("p", { class: "empty" }, "No shadow policy is set (policy.shadow).")
      : [h("p", {}, badge(one.action), " ", one.reason), h("p", { class: "dim" }, `${one.policy}, version ${one.version}${one.acts ? "" : "; it only reports"}`),
        findings(found.findings, one.actions)]);
  };
  return [h("p", {}, `Score ${number(found.score, 3)}, generation ${found.generation}, ${number(found.timings.total)} µs. `,
    found.complete ? "All stages that were needed ran." : h("strong", {}, `Not run: ${found.not_run.map((one) => `${one.stage} ${one.reason}`).join(", ")}.`)),
  h("div", { class: "grid" }, [...new Set(policies)].map(verdict)),
  h("section", { class: "panel" }, h("h2", {}, "Where"), found.texts.map((text) => [h("h3", {}, h("code", {}, text.path), ` (${text.origin})`),
    shownText(text.text, found.findings.filter((one) => one.path === text.path), `text of ${text.path}`),
    text.canonical ? [h("h3", {}, "In canonical form: ", text.canonical.evidence.join(", ") || "characters folded"),
      shownText(text.canonical.text, text.canonical.spans, `canonical text of ${text.path}`)] : null,
    nearestExemplars(text.text, text.origin)]))];
}
