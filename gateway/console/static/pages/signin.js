import { call } from "../api.js";
import { field, fill, h } from "../dom.js";

export function signIn(main, done) {
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true, spellcheck: "false", class: "wide" });
  const wrong = h("p", { class: "error", role: "alert" });
  const form = h("form", {
    class: "panel", onsubmit: async (event) => {
      event.preventDefault();
      wrong.textContent = "";
      try {
        await call("POST", "session", { key: key.value });
        key.value = "";
        await done();
      } catch (error) { wrong.textContent = error.message; key.select(); }
    },
  }, h("p", { class: "wide" }, "With a gateway key that is not for applications: ", h("code", {}, "portcullis keys create --role analyst --tenant '*'")),
  field("Gateway key", key), h("button", { class: "main" }, "Sign in"));
  fill(main, h("div", { class: "sign-in" }, h("h1", {}, "Sign in"), form, wrong));
  key.focus();
}
