/** The large view: a running job with its preview, a finished picture, or the reason why there is none. */

import { picture } from "./api.js";
import { announce, byId, duration, h, icon } from "./dom.js";
import { active } from "./jobs.js";

/** Labels of the phases of a running job. `starting` lasts until the worker reports its first phase. */
export const PHASE_LABELS = {
  starting: "Starting",
  loading: "Loading the model",
  encoding: "Reading the prompt",
  denoising: "Painting",
  decoding: "Decoding the picture",
};

/** A job's status as text: [phase, detail]. A phase of a later version is shown by its name. */
export function statusText(job) {
  const { step, total_steps, phase } = job.progress;
  const left = job.eta_seconds == null ? "" : ` · ${duration(job.eta_seconds)} left`;
  if (job.lost) return ["Reconnecting", "the painting goes on meanwhile"];
  if (job.state === "queued") {
    const ahead = job.queue_position;
    return ["Waiting", `${ahead ? `${ahead} before this one` : "next in line"}${left}`];
  }
  return [PHASE_LABELS[phase] ?? phase, `${phase === "denoising" ? `step ${step} of ${total_steps}` : ""}${left}`.replace(/^ · /, "")];
}

const ENDED = {
  failed: "This one failed",
  canceled: "Canceled",
  expired: "This panorama is gone",
};

export class Stage {
  #shown = null; // id and state of the job that is shown
  #announced = "";
  #preview = null;
  #viewer = null;

  constructor(actions) {
    this.actions = actions;
    byId("cancel").addEventListener("click", () => actions.cancel(this.job));
    this.#buildTools();
  }

  /** Show a job. null shows the empty page; undefined means that the address belongs to no job (any more). */
  show(job) {
    const before = this.job;
    this.job = job;
    const shown = job ? `${job.id} ${job.state}` : String(job);
    if (job && active(job)) this.#showStatus(job);
    if (shown === this.#shown) return;
    this.#shown = shown;
    if (before?.id !== job?.id) this.#preview = null;
    const done = job?.state === "succeeded";
    byId("empty").hidden = job !== null;
    byId("working").hidden = !(job && (active(job) || done));
    byId("working").classList.toggle("done", Boolean(done));
    byId("ended").hidden = !(job === undefined || ENDED[job?.state]);
    byId("look").hidden = byId("tools").hidden = true;
    const { width, height } = job?.input ?? { width: 4, height: 1 };
    byId("stage").style.setProperty("--ratio", width / height);
    if (!job?.preview && before?.id !== job?.id) byId("preview").hidden = true;
    if (job === undefined) this.#end("expired", "It has expired, was deleted, or never was.");
    else if (ENDED[job?.state]) this.#end(job.state, job.error ? job.error.detail || job.error.title : "");
    if (done) this.#open(job, before?.id === job.id);
    this.#recipe(job);
  }

  #showStatus(job) {
    const [phase, detail] = statusText(job);
    byId("phase").textContent = phase;
    byId("detail").textContent = detail;
    byId("progress").value = job.progress.fraction;
    byId("progress").dataset.step = job.progress.step;
    byId("working").classList.toggle("begun", job.state === "running");
    const quarter = Math.floor(job.progress.fraction * 4) * 25;
    this.#announce(job.state === "queued" ? `${phase}, ${detail}` : quarter ? `${phase}, ${quarter} percent` : phase);
    if (job.preview && job.preview.url !== this.#preview) this.#showPreview(job.preview.url);
  }

  /** Replace the preview once the new one has loaded, so that it does not flicker. */
  async #showPreview(url) {
    this.#preview = url;
    try {
      const next = new Image();
      next.src = await picture(url);
      await next.decode();
      if (this.#preview !== url) return;
      byId("preview").src = next.src;
      byId("preview").hidden = false;
    } catch {
      // Skip it; the next preview follows in a second.
    }
  }

  async #open(job, wasFollowed) {
    if (wasFollowed) this.#announce("The panorama is there.");
    try {
      const image = new Image();
      image.src = await picture(job.result.url);
      const [viewer] = await Promise.all([this.#loadViewer(), image.decode()]);
      if (this.job?.id !== job.id) return;
      byId("look").setAttribute("aria-label", `Panorama: ${job.input.prompt}`);
      byId("look").hidden = byId("tools").hidden = false;
      byId("working").hidden = true;
      viewer.show(image, job.input.circular);
      this.download.href = image.src;
      this.download.download = `panorama-${job.id.slice(0, 8)}.png`;
    } catch (error) {
      if (this.job?.id === job.id) {
        byId("working").hidden = true;
        this.#end("expired", error.status ? error.message : "Its picture cannot be loaded.");
      }
    }
  }

  /** The viewer is loaded with the first picture. */
  async #loadViewer() {
    const { Viewer } = await import("./viewer.js");
    return (this.#viewer ??= new Viewer(byId("look"), byId("canvas"), byId("stage")));
  }

  #end(state, detail) {
    byId("ended").hidden = false;
    byId("ended-title").textContent = ENDED[state];
    byId("ended-detail").textContent = detail;
    this.#announce(`${ENDED[state]}. ${detail}`);
  }

  #announce(text) {
    if (text !== this.#announced) announce((this.#announced = text));
  }

  #buildTools() {
    const tool = (name, label, action) =>
      h("button", { type: "button", class: "glass round", title: label, "aria-label": label, onclick: action }, icon(name));
    this.download = h("a", { class: "glass round", title: "Download", "aria-label": "Download" }, icon("down"));
    byId("tools").append(
      tool("minus", "Zoom out", () => this.#viewer.zoom(0.7)),
      tool("plus", "Zoom in", () => this.#viewer.zoom(1.4)),
      tool("whole", "See the whole", () => this.#viewer.whole()),
      tool("full", "Full screen", () => this.#viewer.full()),
      this.download,
    );
  }

  /** The module is loaded with the first job. */
  async #recipe(job) {
    const section = byId("recipe");
    section.hidden = !job?.input;
    if (section.hidden) return;
    const { recipe } = await import("./recipe.js");
    if (this.job?.id === job.id) section.replaceChildren(...recipe(this.job, this.actions));
  }
}
