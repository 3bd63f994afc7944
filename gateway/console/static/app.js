// Pages, keys and the session. A page is a function of (main element, rest of the address) that may return how to end it.
import { call, get, lost, session } from "./api.js";
import { append, fill, h, name, say } from "./dom.js";

const none = (rest) => rest.length === 0, one = (rest) => rest.length === 1, few = (rest) => rest.length <= 1;
// `takes` says which rests of an address the page knows.
const PAGES = {
  live: { title: "Live", key: "l", takes: none, load: () => import("./pages/live.js") },
  decisions: { title: "Decisions", key: "d", takes: (rest) => !rest.length || (rest[0] === "category" && rest.length === 2),
    load: () => import("./pages/decisions.js") },
  decision: { takes: one, load: () => import("./pages/decision.js"), under: "decisions" },
  playground: { title: "Playground", key: "p", takes: none, load: () => import("./pages/playground.js") },
  proposals: { title: "Proposals", key: "r", takes: few, load: () => import("./pages/proposals.js") },
  patterns: { title: "Patterns", key: "t", takes: few, load: () => import("./pages/patterns.js") },
  generations: { title: "Generations", key: "g", takes: none, load: () => import("./pages/generations.js") },
  replicas: { title: "Replicas", key: "s", takes: none, load: () => import("./pages/replicas.js") },
};

const main = document.getElementById("main");
let end = null, turn = 0, pending = false;

// The page of the address and the rest for it; null where there is no such page.
function addressed() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").replace(/\/$/, "").split("/");
  try {
    const page = { name: decodeURIComponent(name) || "live", rest: rest.map(decodeURIComponent) };
    return Object.hasOwn(PAGES, page.name) && PAGES[page.name].takes(page.rest) ? page : null;
  } catch { return null; } // a percent sign with nothing behind it
}

async function show() {
  const mine = ++turn;
  end?.();
  end = null;
  document.querySelector("dialog")?.remove();
  if (!session.signed_in) {
    const { signIn } = await import("./pages/signin.js");
    signIn(main, begin);
    return;
  }
  const address = addressed();
  const page = PAGES[address?.name];
  const shownName = page?.under ?? address?.name;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === shownName) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone the pages are a row that scrolls
    } else link.removeAttribute("aria-current");
  }
  const place = h("div");
  if (!page) {
    fill(main, h("h1", {}, "There is no such page"), h("p", {}, "Nothing is kept at ", name(location.hash), "."));
    document.title = "There is no such page – Portcullis";
    return;
  }
  try {
    const module = await page.load();
    if (mine !== turn) return;
    fill(main, place);
    const ended = await module.default(place, address.rest);
    if (mine !== turn) ended?.(); else end = ended;
  } catch (error) {
    if (mine === turn) { fill(main, h("h1", {}, "This page cannot be shown"), h("p", { class: "error" }, error.message)); }
  }
  document.title = `${place.querySelector("h1")?.textContent ?? "Portcullis"} – Portcullis`;
}

function frame() {
  fill(document.getElementById("nav"), session.signed_in ? Object.entries(PAGES).filter(([, page]) => page.title)
    .map(([name, page]) => h("a", { href: `#/${name}`, "data-page": name, title: `g then ${page.key}` }, page.title)) : []);
  fill(document.getElementById("who"), session.signed_in ? [
    h("span", { class: "dim" }, session.open ? "local operator (no keys made)" : `key ${session.key}, tenant ${session.tenant} `), " ",
    session.open ? null : h("button", { type: "button", onclick: signOut }, "Sign out"),
    " ", h("button", { type: "button", onclick: help, "aria-label": "Keyboard shortcuts" }, "?")] : []);
}

async function begin() {
  Object.assign(session, { signed_in: false, open: false, permissions: [], csrf: "" }, await get("session"));
  frame();
  await show();
}

async function signOut() {
  await call("DELETE", "session");
  say("Signed out.");
  await begin();
}

lost.then = () => {
  if (!session.signed_in) return;
  session.signed_in = false;
  say("The session has ended: sign in again.");
  frame();
  show();
};

function help() {
  const rows = [["g, then a letter", Object.values(PAGES).filter((page) => page.title).map((page) => `${page.key} ${page.title}`).join(", ")],
    ["j, k", "next, previous line"], ["x", "choose a line"], ["Enter", "open a line"],
    ["a, b", "label the chosen lines, or this one, attack or benign"], ["n, p", "next, previous page"], ["?", "this help"]];
  const dialog = h("dialog", { "aria-labelledby": "help-title" }, h("h2", { id: "help-title" }, "Keys"),
    h("dl", {}, rows.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  append(document.body, [dialog]);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !session.signed_in) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  if (pending) {
    pending = false;
    const page = Object.entries(PAGES).find(([, one]) => one.key === event.key);
    if (page) { location.hash = `#/${page[0]}`; event.preventDefault(); event.stopImmediatePropagation(); }
    return;
  }
  if (event.key === "g") { pending = true; setTimeout(() => { pending = false; }, 1500); event.stopImmediatePropagation(); }
  if (event.key === "?") { help(); event.preventDefault(); }
}, true);

document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
// The address names the page, so the link to the content only moves the focus.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); scrollTo(0, 0); });
begin().catch((error) => fill(main, h("h1", {}, "Portcullis"), h("p", { class: "error", role: "alert" }, error.message)));
