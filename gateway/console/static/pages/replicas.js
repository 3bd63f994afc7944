import { get, getIfThere } from "../api.js";
import { fill, h, tree } from "../dom.js";

export default async function replicas(place) {
  const refresh = async () => {
    const [serving, sync, audit] = await Promise.all([get("generation"), getIfThere("sync"), getIfThere("audit").catch(() => null)]);
    fill(place, h("h1", {}, "Replicas"),
      h("section", { class: "panel" }, h("h2", {}, "This one"), tree(serving)),
      h("section", { class: "panel" }, h("h2", {}, "All"), sync?.enabled ? tree(sync, "replicas") : h("p", { class: "empty" }, `This gateway shares patterns with no other: ${sync?.summary ?? "it does not know pattern sync"}.`)),
      audit ? h("section", { class: "panel" }, h("h2", {}, "Audit log of the worker that answered"), tree(audit)) : null);
  };
  await refresh();
  const timer = setInterval(() => refresh().catch(() => {}), 10000);
  return () => clearInterval(timer);
}
