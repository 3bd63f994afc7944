// Labels: what a person says of a decision. Used by the list and by the page of one decision.
import { may, post } from "./api.js";
import { say } from "./dom.js";

/** Label decisions; tells how many were taken and the first reason why one was not. */
export async function label(ids, said, extra = {}) {
  if (!ids.length) return 0;
  if (!may("label")) { say("This key may not label."); return 0; }
  let taken = 0, why = "";
  for (const id of ids) {
    try {
      await post("feedback", { decision_id: id, label: said, ...extra });
      taken++;
    } catch (error) {
      why ||= error.status === 404 || error.status === 405 ? "this gateway takes no labels, or the decision is gone" : error.message;
    }
  }
  say(`${taken} labelled ${said}.${why ? ` ${ids.length - taken} not taken: ${why}` : ""}`);
  return taken;
}
