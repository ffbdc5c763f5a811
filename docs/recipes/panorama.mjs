// JavaScript: one panorama, followed by events, with fetch only; Node 20 or newer, no package.
//   PANORAMAS_URL=http://127.0.0.1:8000 PANORAMAS_API_KEY=... node panorama.mjs "snowy mountains at sunset" panorama.png
import { writeFile } from "node:fs/promises";

const [prompt, out = "panorama.png"] = process.argv.slice(2);
const base = process.env.PANORAMAS_URL ?? "http://127.0.0.1:8000";
const key = process.env.PANORAMAS_API_KEY;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** A request that is safe to repeat: a GET, or a POST with an Idempotency-Key. */
async function ask(path, { headers = {}, tries = 8, ...options } = {}) {
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  for (let left = tries; ; left--) {
    const response = await fetch(base + path, { ...options, headers: { ...authorization, ...headers } }).catch((error) => {
      if (left <= 1) throw error;
    });
    if (response?.ok) return response;
    if (left <= 1 || (response && ![429, 502, 503, 504].includes(response.status))) {
      const problem = await response.json().catch(() => ({}));
      throw new Error(problem.detail ?? problem.title ?? `HTTP ${response.status}`);
    }
    await pause(Number(response?.headers.get("retry-after") ?? 1));
  }
}

/** The job after each event. After a cut connection the stream resumes where it ended. */
async function* follow(job) {
  for (let seen = ""; ; await pause(1)) {
    const response = await ask(`/jobs/${job.id}/events`, { headers: seen ? { "last-event-id": seen } : {} });
    if (response.status === 204) return; // the job has ended, and its last event was received
    let rest = "";
    try {
      for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
        const blocks = (rest + bytes).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const event = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
          seen = event.id ?? seen;
          if (event.event === "job") job = JSON.parse(event.data);
          if (event.event === "progress") job = { ...job, progress: JSON.parse(event.data) };
          if (["job", "progress"].includes(event.event)) yield job;
          if (!["queued", "running"].includes(job.state)) return;
        }
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch throws this when a connection breaks
    }
  }
}

const accepted = await ask("/panoramas", {
  method: "POST",
  headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() },
  body: JSON.stringify({ prompt, width: 1024, height: 512 }),
});
let job = await accepted.json();
for await (job of follow(job)) console.error(job.state, job.progress.phase, job.progress.fraction);
if (job.state !== "succeeded") throw new Error(job.error?.detail ?? job.state);

const png = await (await ask(job.result.url)).arrayBuffer();
const digest = Buffer.from(await crypto.subtle.digest("SHA-256", png)).toString("hex");
if (digest !== job.result.sha256) throw new Error("the picture received does not match its sha256");
await writeFile(out, Buffer.from(png));
