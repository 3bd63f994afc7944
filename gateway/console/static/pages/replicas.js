import { get, getIfThere } from "../api.js";
import { fill, h, number, table, tree } from "../dom.js";

export default async function replicas(place) {
  const refresh = async () => {
    const [serving, sync, audit] = await Promise.all([get("generation"), getIfThere("sync"), getIfThere("audit").catch(() => null)]);
    fill(place, h("h1", {}, "Replicas"),
      h("section", { class: "panel" }, h("h2", {}, "All"), sync?.peers ? all(sync)
        : h("p", { class: "empty" }, `This gateway shares patterns with no other: ${sync?.summary ?? "it does not know pattern sync"}.`)),
      h("section", { class: "panel" }, h("h2", {}, "What serves here"), tree(serving)),
      audit ? h("section", { class: "panel" }, h("h2", {}, "Audit log of the worker that answered"), tree(audit)) : null);
  };
  await refresh();
  const timer = setInterval(() => refresh().catch(() => {}), 10000);
  return () => clearInterval(timer);
}

/** Who holds what: this replica, those that it is connected to, and those that it only knows of. */
function all({ node, digest, entries, peers, members, summary, quorum, refused, certificate_expires_at }) {
  const away = members.filter((one) => !one.connected).map((one) => ({ node: one.node, address: one.address, says: `not connected; heard of ${number(one.heard_seconds)} s ago` }));
  const rows = [{ node, digest, entries, says: "this one" }, ...peers.map((one) => ({ ...one, says: one.in_words })), ...away];
  return [h("p", {}, `${summary}.`),
    table("Replicas and what they hold", [
      ["replica", (row) => row.node], ["says", (row) => row.says],
      ["patterns", (row) => number(row.entries), { n: true }], ["digest", (row) => row.digest ? h("code", { title: row.digest }, row.digest.slice(0, 12)) : "–", { unbroken: true }],
      ["lag s", (row) => number(row.lag_seconds, 1), { n: true }], ["round trip ms", (row) => number(row.round_trip_ms, 1), { n: true, optional: true }],
      ["over", (row) => row.transport ?? "–", { optional: true }], ["address", (row) => row.address ?? "–", { unbroken: true, optional: true }],
    ], rows),
    tree({ quorum, refused, certificate_expires_at })];
}
