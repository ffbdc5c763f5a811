/** The only copy of the jobs on the page. Components listen to its changes. */

export const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
export const active = (job) => !TERMINAL.has(job.state);

/** Jobs by id. `preview` is the latest preview event; `lost` is true while the event stream is disconnected. */
export class Jobs extends EventTarget {
  #byId = new Map();

  get(id) {
    return this.#byId.get(id);
  }

  /** Newest first, as GET /jobs lists them. */
  list() {
    return [...this.#byId.values()].sort((a, b) =>
      a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1,
    );
  }

  /** Store a job as the server sent it. A late response never replaces an ended job by a running one. */
  put(job) {
    const known = this.#byId.get(job.id);
    if (known && !active(known) && active(job)) return;
    this.#byId.set(job.id, { preview: known?.preview, lost: false, ...job });
    this.#notify(job.id);
  }

  /** Change some fields of a job. */
  patch(id, changes) {
    const known = this.#byId.get(id);
    if (!known) return;
    this.#byId.set(id, { ...known, ...changes });
    this.#notify(id);
  }

  remove(id) {
    this.#byId.delete(id);
    this.#notify(id);
  }

  #notify(id) {
    this.dispatchEvent(new CustomEvent("change", { detail: id }));
  }
}
