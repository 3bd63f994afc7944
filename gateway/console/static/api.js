// Calls of the control plane. Whatever the console does goes through here, and any script with a key can do the same.

export class Failed extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export const session = { signed_in: false, open: false, permissions: [], csrf: "" };

/** Called when the session is over. */
export const lost = { then: () => {} };

export async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method !== "GET" && session.csrf) headers["x-portcullis-csrf"] = session.csrf;
  let reply;
  try {
    reply = await fetch(`/admin/v1/${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Failed(0, "the gateway does not answer");
  }
  const text = await reply.text();
  let document = null;
  try { document = JSON.parse(text); } catch { /* not JSON: told below */ }
  if (reply.status === 401 && path !== "session") lost.then();
  if (!reply.ok) throw new Failed(reply.status, explained(reply.status, document));
  return document;
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return call("GET", path + (given.length ? "?" + new URLSearchParams(given) : ""));
};

export const post = (path, body = {}) => call("POST", path, body);

/** As `get`, but null where this gateway does not offer it. */
export async function getIfThere(path, query) {
  try { return await get(path, query); } catch (error) {
    if (error.status === 404 || error.status === 405) return null;
    throw error;
  }
}

export const may = (permission) => session.permissions.includes(permission);

function explained(status, document) {
  const detail = document?.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).slice(1).join(".")}: ${one.msg}`).join("; ");
  return `the gateway answered ${status}`;
}
