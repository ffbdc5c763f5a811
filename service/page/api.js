/** Calls the API: adds the API key, turns problems into errors, reads event streams. */

import { ask, byId, pause } from "./dom.js";

const KEY = "panoramas-key";
let key = localStorage.getItem(KEY) ?? sessionStorage.getItem(KEY);
let keyPrompt = null; // pending while the dialog is open
const pictures = new Map(); // link to object URL, for images that need a key
const MAX_PICTURES = 80;

/** An error response (RFC 9457). `status` is 0 when the server did not respond. */
export class Problem extends Error {
  constructor(status, body = {}, retryAfter = null) {
    super(body.detail ?? body.title ?? "The server does not answer");
    this.status = status;
    this.title = body.title ?? "The server does not answer";
    this.faults = body.errors ?? [];
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed if it is sent again. */
  get temporary() {
    return [0, 408, 502, 503, 504].includes(this.status);
  }
}

const HOME = new URL("../../", import.meta.url); // of the service, which a proxy may serve under a path of its own

/** A link of the service from where this page was loaded, which need not be the address that the service knows of. */
export const here = (link) => new URL(/[\w.]+(?:\/[0-9a-f]{32}(?:\/\w+)?)?(?:\?.*)?$/.exec(link)[0], HOME).href;

export const hasKey = () => Boolean(key);

/** Ask the user for a key. Concurrent requests share one dialog. Resolves to false if the user cancels. */
export function askForKey(refused = Boolean(key)) {
  keyPrompt ??= (async () => {
    byId("key").value = "";
    byId("key-fault").textContent = refused ? "The server does not know this key." : "";
    const entered = await ask(byId("key-dialog"), byId("key-cancel"));
    if (entered) {
      key = byId("key").value.trim() || null;
      for (const storage of [localStorage, sessionStorage]) storage.removeItem(KEY);
      if (key) (byId("key-keep").checked ? localStorage : sessionStorage).setItem(KEY, key);
    }
    byId("key-button").hidden = false;
    return entered;
  })().finally(() => (keyPrompt = null));
  return keyPrompt;
}

/** Send a request; the response if it is successful. Throws Problem. */
export async function request(path, { method = "GET", json, headers = {}, signal } = {}) {
  const allHeaders = { ...headers };
  const used = key;
  if (used) allHeaders.Authorization = `Bearer ${used}`;
  if (json !== undefined) allHeaders["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(here(path), { method, headers: allHeaders, signal, body: json && JSON.stringify(json) });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(0);
  }
  if (response.ok) return response;
  if (response.status === 401 && (used !== key || (await askForKey(Boolean(used))))) {
    return request(path, { method, json, headers, signal });
  }
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  throw new Problem(response.status, await response.json().catch(() => ({})), retryAfter);
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** Submit under a new idempotency key, so that a retry after a lost response makes no second job. */
export async function submit(json) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const idempotency = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  for (let tries = 0; ; tries++) {
    try {
      return await getJson("/panoramas", { method: "POST", json, headers: { "Idempotency-Key": idempotency } });
    } catch (error) {
      if (!error.temporary || tries === 4) throw error;
      await pause(500 * 2 ** tries);
    }
  }
}

/** A URL that an <img> can load: the link itself, or an object URL if the image needs an API key. */
export async function picture(path) {
  if (!key) return here(path);
  if (!pictures.has(path)) {
    const blob = await (await request(path)).blob();
    pictures.set(path, URL.createObjectURL(blob));
    if (pictures.size > MAX_PICTURES) {
      const [oldest, url] = pictures.entries().next().value;
      pictures.delete(oldest);
      setTimeout(() => URL.revokeObjectURL(url), 10_000); // by then the image that was given this URL has loaded it
    }
  }
  return pictures.get(path);
}

const TIMEOUT = 40_000; // milliseconds without data; the server sends a comment every 15 s

/** Server-sent events {id, name, data}, until the stream ends or times out. EventSource cannot send a key. */
export async function* events(path, { lastId, signal }) {
  const connection = new AbortController();
  const onAbort = () => connection.abort();
  signal.addEventListener("abort", onAbort);
  let watchdog = setTimeout(onAbort, TIMEOUT);
  try {
    const headers = lastId ? { "Last-Event-ID": lastId } : {};
    const response = await request(path, { headers, signal: connection.signal });
    if (!response.body) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let incomplete = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(onAbort, TIMEOUT);
      const blocks = (incomplete + value.replaceAll("\r", "")).split("\n\n");
      incomplete = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", onAbort);
    connection.abort();
  }
}

function parse(block) {
  const fields = { id: null, event: "message", data: null };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return fields.data === null ? null : { id: fields.id, name: fields.event, data: JSON.parse(fields.data) };
}
