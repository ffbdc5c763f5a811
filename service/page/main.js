/** Connects form, stage and gallery. The address names the job on the stage. */

import { Problem, askForKey, getJson, hasKey, request, submit } from "./api.js";
import { announce, ask, byId, duration, pause, toast } from "./dom.js";
import { JobFollower } from "./follower.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { Jobs, active } from "./jobs.js";
import { Stage } from "./stage.js";

const TITLE = document.title;
const jobs = new Jobs();
let form = null;
let current = null; // id of the job on the stage

const actions = {
  cancel: (job) => showProblems(async () => {
    jobs.put(await getJson(`/jobs/${job.id}/cancel`, { method: "POST" }));
    announce("Canceling");
  }),
  again: (job) => paint(job.input),
  vary: (job) => {
    const { seed, ...others } = job.input;
    return paint(others);
  },
  edit: (job) => {
    form.write(job.input);
    if (job.input.regions?.length) toast("This form has no regions. Painting it again or with another seed keeps them.");
    byId("composer").scrollIntoView({ block: "nearest" });
    byId("prompt").focus();
  },
  copy: (job) => showProblems(async () => {
    const address = new URL(`#/jobs/${job.id}`, location.href).href;
    try {
      await navigator.clipboard.writeText(address);
      toast("The link is copied.");
    } catch {
      prompt("The link to this panorama", address); // clipboards need https or localhost
    }
  }),
  remove: async (job) => {
    byId("delete-detail").textContent = `“${job.input.prompt}” and its picture will be gone for good.`;
    if (!(await ask(byId("delete-dialog"), byId("delete-cancel")))) return;
    await showProblems(async () => {
      await request(`/jobs/${job.id}`, { method: "DELETE" });
      jobs.remove(job.id);
      announce("Deleted");
      if (job.id === current) location.hash = "#/";
    });
  },
};

const stage = new Stage(actions);
const gallery = new Gallery(jobs, actions);
const follower = new JobFollower(jobs, () => current);

/** Submit a request and show its job, or the problems in the form. */
async function paint(values) {
  byId("form-fault").textContent = "";
  form.busy(true);
  try {
    const job = await submit(values);
    jobs.put(job);
    location.hash = `#/jobs/${job.id}`;
    scrollTo({ top: 0, behavior: "smooth" });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const rest = form.fault(error.faults);
    const later = error.retryAfter ? ` Try again in ${duration(error.retryAfter)}.` : "";
    if (!error.faults.length) rest.push(error.title === error.message ? error.title : `${error.title}. ${error.message}`);
    byId("form-fault").textContent = rest.length ? rest.join("; ") + later : "";
  } finally {
    form.busy(false);
  }
}

/** Run an action and show a problem as a toast. */
async function showProblems(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    toast(error.message);
  }
}

/** Show the job that the address names. */
async function route() {
  const found = /^#\/jobs\/([0-9a-f]{32})$/.exec(location.hash);
  if (location.hash && !found && !/^#\/?$/.test(location.hash)) return; // a link within the page
  current = found?.[1] ?? null;
  gallery.mark(current);
  if (!current) return show(null);
  if (!jobs.get(current)) {
    const id = current;
    try {
      const job = await untilAnswered(() => getJson(`/jobs/${id}`));
      jobs.put(job);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (id === current) show(undefined);
      return;
    }
  }
  show(jobs.get(current));
  follower.update();
}

function show(job) {
  stage.show(job);
  const part = job && active(job) ? `${Math.round(job.progress.fraction * 100)} % · ` : "";
  document.title = job?.input ? `${part}${job.input.prompt.slice(0, 60)} · ${TITLE}` : TITLE;
}

/** Retry for as long as the server does not answer. */
async function untilAnswered(action) {
  for (let tries = 0; ; tries++) {
    try {
      return await action();
    } catch (error) {
      if (!error.temporary) throw error;
      if (tries === 1) toast("The server does not answer; trying again.");
      await pause(Math.min(5000, 300 * 2 ** tries));
    }
  }
}

jobs.addEventListener("change", ({ detail }) => {
  if (detail === current) show(jobs.get(current));
  follower.update();
  gallery.mark(current);
});
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => document.hidden || showProblems(() => gallery.refresh()));
byId("key-button").addEventListener("click", async () => (await askForKey(false)) && location.reload());
byId("key-button").hidden = !hasKey();

async function start() {
  const [openapi, models] = await Promise.all(["/openapi.json", "/models"].map((path) => untilAnswered(() => getJson(path))));
  form = new Form(byId("composer"), openapi.components.schemas, models, () => {
    const values = form.read();
    if (values) paint(values);
  });
  document.documentElement.dataset.ready = "";
  await Promise.all([route(), untilAnswered(() => gallery.load())]);
}

start().catch((error) => {
  if (!(error instanceof Problem)) throw error;
  toast(error.status === 401 ? "Without a key there is nothing to see here." : error.message);
});
