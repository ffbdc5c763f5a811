// What a stranger writes with a client that was generated from openapi.yaml alone. Prints what it has seen as JSON.
import { client } from "./api/client.gen.js";
import { cancelJob, getImage, getJob, listModels, streamEvents, submitPanorama } from "./api/index.js";
import type { Job, PanoramaRequest } from "./api/index.js";

client.setConfig({ baseUrl: process.argv[2]! });

async function submit(wanted: PanoramaRequest): Promise<Job> {
  const { data } = await submitPanorama({
    body: wanted,
    headers: { "idempotency-key": crypto.randomUUID() },
    throwOnError: true,
  });
  return data;
}

async function wait(id: string): Promise<Job> {
  for (;;) {
    const { data: job } = await getJob({ path: { job_id: id }, headers: { prefer: "wait=10" }, throwOnError: true });
    if (job.state !== "queued" && job.state !== "running") return job;
  }
}

const { data: models } = await listModels({ throwOnError: true });
const small = { prompt: "mountains", width: 128, height: 128, num_inference_steps: 1, model: models.items[0]!.name };

const done = await wait((await submit(small)).id);
const { data: image } = await getImage({ path: { job_id: done.id }, parseAs: "blob", throwOnError: true });
const bytes = new Uint8Array(await image.arrayBuffer());
const digest = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");

const long = await submit({ ...small, width: 1024, num_inference_steps: 200 });
const { stream } = await streamEvents({ path: { job_id: long.id } });
const first = (await stream.next()).value as Job;
await cancelJob({ path: { job_id: long.id }, throwOnError: true });
const canceled = await wait(long.id);

const refused = await submitPanorama({ body: { ...small, width: 130 } });

console.log(
  JSON.stringify({
    done: done.state,
    matches: digest === done.result?.sha256,
    told: first.id === long.id,
    canceled: canceled.state,
    pointer: refused.error && "errors" in refused.error ? refused.error.errors?.[0]?.pointer : null,
  }),
);
process.exit(0); // what is left of the stream holds nobody up
