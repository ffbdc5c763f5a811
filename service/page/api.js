/** The API: requests with the key where there is one, problems as errors, event streams. */

import { ask, byId, pause } from "./dom.js";

const KEY = "panoramas-key";
let key = localStorage.getItem(KEY) ?? sessionStorage.getItem(KEY);
let asking = null;
const pictures = new Map(); // address to object URL, where a key is needed to fetch one
const MOST_PICTURES = 80;

/** An answer that is a problem (RFC 9457), or none at all: then `status` is 0. */
export class Problem extends Error {
  constructor(status, body = {}, retryAfter = null) {
    super(body.detail ?? body.title ?? "The server does not answer");
    this.status = status;
    this.title = body.title ?? "The server does not answer";
    this.faults = body.errors ?? [];
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may work in a moment. */
  get passing() {
    return [0, 408, 502, 503, 504].includes(this.status);
  }
}

export const hasKey = () => Boolean(key);

/** Ask for a key, once however many requests wait for it; false when the user does not want to. */
export function askForKey(refused = Boolean(key)) {
  asking ??= (async () => {
    byId("key").value = "";
    byId("key-fault").textContent = refused ? "The server does not know this key." : "";
    const given = await ask(byId("key-dialog"), byId("key-cancel"));
    if (given) {
      key = byId("key").value.trim() || null;
      for (const storage of [localStorage, sessionStorage]) storage.removeItem(KEY);
      if (key) (byId("key-keep").checked ? localStorage : sessionStorage).setItem(KEY, key);
    }
    byId("key-button").hidden = false;
    return given;
  })().finally(() => (asking = null));
  return asking;
}

/** The answer, once it is a good one. Raises Problem. */
export async function request(path, { method = "GET", json, headers = {}, signal } = {}) {
  const sent = { ...headers };
  const used = key;
  if (used) sent.Authorization = `Bearer ${used}`;
  if (json !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: sent, signal, body: json && JSON.stringify(json) });
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

/** Submit under a key of its own, so that trying again after a cut-off answer never paints twice. */
export async function submit(json) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const idempotency = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  for (let tries = 0; ; tries++) {
    try {
      return await getJson("/panoramas", { method: "POST", json, headers: { "Idempotency-Key": idempotency } });
    } catch (error) {
      if (!error.passing || tries === 4) throw error;
      await pause(500 * 2 ** tries);
    }
  }
}

/** An address that an <img> can load: itself, or where a key is needed what was fetched with it. */
export async function picture(path) {
  if (!key) return path;
  if (!pictures.has(path)) {
    const blob = await (await request(path)).blob();
    pictures.set(path, URL.createObjectURL(blob));
    if (pictures.size > MOST_PICTURES) {
      const [oldest, url] = pictures.entries().next().value;
      pictures.delete(oldest);
      setTimeout(() => URL.revokeObjectURL(url), 10_000); // whoever was just given it has loaded it by then
    }
  }
  return pictures.get(path);
}

const SILENCE = 40_000; // the server sends a comment every 15 s

/** Server-sent events {id, name, data}; EventSource cannot send a key. Ends with the stream, or by silence. */
export async function* events(path, { lastId, signal }) {
  const cut = new AbortController();
  const onAbort = () => cut.abort();
  signal.addEventListener("abort", onAbort);
  let watchdog = setTimeout(onAbort, SILENCE);
  try {
    const headers = lastId ? { "Last-Event-ID": lastId } : {};
    const response = await request(path, { headers, signal: cut.signal });
    if (!response.body) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(onAbort, SILENCE);
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", onAbort);
    cut.abort();
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
