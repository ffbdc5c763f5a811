/** What the page knows of the jobs. Whoever shows them listens; nobody else keeps a copy. */

export const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
export const active = (job) => !TERMINAL.has(job.state);

/** Jobs by id. `preview` is the latest one's address, `lost` says that its stream is cut off. */
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

  /** The whole job, as the server tells it. A late answer never takes an ended job back. */
  put(job) {
    const known = this.#byId.get(job.id);
    if (known && !active(known) && active(job)) return;
    this.#byId.set(job.id, { preview: known?.preview, lost: false, ...job });
    this.#tell(job.id);
  }

  /** What has changed of it. */
  patch(id, changes) {
    const known = this.#byId.get(id);
    if (!known) return;
    this.#byId.set(id, { ...known, ...changes });
    this.#tell(id);
  }

  remove(id) {
    this.#byId.delete(id);
    this.#tell(id);
  }

  #tell(id) {
    this.dispatchEvent(new CustomEvent("change", { detail: id }));
  }
}
