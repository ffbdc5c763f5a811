/** Follows the jobs that have not ended: the most important ones by event stream, the others by polling. */

import { events, getJson } from "./api.js";
import { pause } from "./dom.js";
import { TERMINAL, active } from "./jobs.js";

// Over HTTP/1.1 a browser opens six connections to a host, and the rest of the page needs some of them.
const MAX_STREAMS = 3;
const POLL_INTERVAL = 3000;
const MAX_PAUSE = 5000;

export class JobFollower {
  #streams = new Map(); // id to AbortController
  #wakeUps = new Set(); // end pauses early

  constructor(jobs, current) {
    this.jobs = jobs;
    this.current = current; // id of the job on the stage
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retryNow());
    setInterval(() => document.hidden || this.#poll(), POLL_INTERVAL);
  }

  /** Open and close streams when jobs are added, end, or are selected. */
  update() {
    const wanted = this.#wanted().slice(0, MAX_STREAMS);
    for (const [id, stream] of this.#streams) {
      if (!wanted.includes(id)) {
        stream.abort();
        this.#streams.delete(id);
      }
    }
    for (const id of wanted) {
      if (this.#streams.has(id)) continue;
      const stream = new AbortController();
      this.#streams.set(id, stream);
      this.#follow(id, stream.signal).finally(() => {
        if (this.#streams.get(id) === stream) this.#streams.delete(id);
      });
    }
  }

  /** Ids by importance: the job on the stage, running jobs, then queued jobs, the oldest first. */
  #wanted() {
    const weight = (job) => (job.id === this.current() ? 0 : job.state === "running" ? 1 : 2);
    return this.jobs
      .list()
      .filter(active)
      .reverse()
      .sort((a, b) => weight(a) - weight(b))
      .map((job) => job.id);
  }

  async #follow(id, signal) {
    let lastId = null;
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        for await (const event of events(`/jobs/${id}/events`, { lastId, signal })) {
          tries = 0;
          lastId = event.id ?? lastId;
          this.#apply(id, event);
        }
        if (signal.aborted || !this.jobs.get(id) || TERMINAL.has(this.jobs.get(id).state)) return;
        const job = await getJson(`/jobs/${id}`, { signal }); // the stream broke off, or the job ended in between
        this.jobs.put(job);
        if (TERMINAL.has(job.state)) return;
      } catch (error) {
        if (signal.aborted) return;
        if ([404, 410].includes(error.status)) return this.jobs.remove(id);
        if (error.status === 401) return;
      }
      if (tries > 0) this.jobs.patch(id, { lost: true });
      await this.#pause(Math.min(MAX_PAUSE, 250 * 2 ** tries) * (0.75 + Math.random() / 2));
    }
  }

  #apply(id, { name, data }) {
    if (name === "job") return this.jobs.put(data);
    const job = this.jobs.get(id);
    if (!job || !active(job)) return;
    if (name === "preview") this.jobs.patch(id, { preview: data, lost: false });
    if (name === "progress") {
      const { queue_position, eta_seconds, ...progress } = data;
      this.jobs.patch(id, { progress, queue_position, eta_seconds, lost: false });
    }
  }

  /** Poll jobs without a stream, a few at a time. */
  async #poll() {
    for (const id of this.#wanted().slice(MAX_STREAMS, MAX_STREAMS + 8)) {
      try {
        this.jobs.put(await getJson(`/jobs/${id}`));
      } catch (error) {
        if ([404, 410].includes(error.status)) this.jobs.remove(id);
        else return;
      }
    }
  }

  async #pause(milliseconds) {
    let wake;
    const woken = new Promise((resolve) => (wake = resolve));
    this.#wakeUps.add(wake);
    await Promise.race([pause(milliseconds), woken]);
    this.#wakeUps.delete(wake);
  }

  #retryNow() {
    for (const wake of this.#wakeUps) wake();
  }
}
