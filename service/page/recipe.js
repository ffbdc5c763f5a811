/** A job's input and the buttons for it. */

import { h, icon } from "./dom.js";
import { active } from "./jobs.js";

/** Elements that show a job's input, and buttons for `actions`. */
export function recipe(job, actions) {
  const { input, model, timings } = job;
  const seconds = timings && Object.values(timings).reduce((sum, each) => sum + each, 0);
  const facts = {
    Size: `${input.width} × ${input.height}${input.circular ? ", all round" : ""}`,
    Regions: input.regions?.length || null,
    Seed: input.seed,
    Steps: input.num_inference_steps,
    Guidance: input.guidance_scale,
    Scheduler: input.scheduler,
    Model: model ? model.name : input.model,
    Painted: seconds ? `in ${seconds.toFixed(1)} s` : null,
  };
  const button = (name, label, action) =>
    h("button", { type: "button", class: "plain", onclick: () => action(job) }, icon(name), label);
  const { again, vary, edit, copy, remove } = actions;
  return [
    h("p", { class: "prompt" }, input.prompt),
    input.negative_prompt ? h("p", { class: "without" }, `without ${input.negative_prompt}`) : "",
    ...job.notices.map((notice) => h("p", { class: "notice" }, notice.detail)),
    h("dl", {}, Object.entries(facts).map(([name, value]) => value != null && h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "buttons" },
      button("again", "Paint this again", again),
      button("dice", "Vary the seed", vary),
      button("pen", "Edit", edit),
      button("link", "Copy link", copy),
      !active(job) && button("bin", "Delete", remove)),
  ].filter(Boolean);
}
