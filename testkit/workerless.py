"""The API without a worker: the test claims jobs and ends them as it likes, in any order, without painting."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from PIL import Image

from jobs.claims import JobClaims
from jobs.limits import JobLimits
from jobs.record import JobRecord, State
from jobs.store import ImageStore
from testkit.processes import RedisServer, Stack, running_stack

PANORAMA = {"prompt": "mountains", "width": 256, "height": 136, "num_inference_steps": 5, "seed": 7}


class WorkerlessApi:
    """A running API, and the worker's operations on its jobs."""

    def __init__(self, stack: Stack, **headers: str) -> None:
        self.stack = stack
        self.http = httpx.Client(base_url=stack.url, timeout=30, headers=headers)
        self.redis = stack.redis.client()
        self.claims = JobClaims(self.redis, "a test", JobLimits(lease_seconds=600))
        self.store = ImageStore((stack.folder / "data" / "images").as_uri())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.redis.close()

    def submit(self, **changes: Any) -> dict[str, Any]:
        response = self.http.post("/panoramas", json={**PANORAMA, **changes})
        assert response.status_code == 202, response.text
        return response.json()

    def get(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"/jobs/{job_id}").json()

    def claim(self, job_id: str) -> JobRecord:
        record = self.claims.claim(job_id)
        assert record is not None
        return record

    def step(self, record: JobRecord, step: int) -> None:
        self.claims.progress(record.id, record.token, step=step, total_steps=5, phase="denoising")

    def succeed(self, record: JobRecord) -> dict[str, Any]:
        """Commit a valid picture for a claimed job."""
        buffer = io.BytesIO()
        Image.new("RGB", (256, 136), (10, 20, int(record.id[:2], 16))).save(buffer, "PNG")
        stored = self.store.put(record.id, record.token, buffer.getvalue())
        result = {"key": stored.key, "sha256": stored.sha256, "bytes": stored.bytes, "width": 256, "height": 136}
        self.claims.finish(record.id, record.token, State.SUCCEEDED, result=result, timings={"denoise": 1.5})
        return self.get(record.id)

    def done(self, **changes: Any) -> dict[str, Any]:
        """A job from submit to success."""
        return self.succeed(self.claim(self.submit(**changes)["id"]))


def model_on_paper(folder: Path) -> str:
    """PANORAMAS_MODELS with one model that consists of configuration files only, which is all that the API reads."""
    parts = {
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        "scheduler": ("diffusers", "DDIMScheduler"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
    }
    configs = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline", **parts},
        "unet/config.json": {"sample_size": 16, "cross_attention_dim": 8},
        "vae/config.json": {"block_out_channels": [4, 4, 4, 4]},
        "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"},
        "text_encoder/config.json": {"hidden_size": 8},
    }
    for name, config in configs.items():
        path = folder / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    return f"tiny={folder / 'model'}"


@contextmanager
def running_workerless_api(
    folder: Path, *, redis: RedisServer | None = None, **environment: str
) -> Iterator[WorkerlessApi]:
    """A separate API, for a test that changes settings or restarts it."""
    models = model_on_paper(folder)
    with (
        running_stack(folder, models, workers=0, redis=redis, **environment) as stack,
        WorkerlessApi(stack) as workerless,
    ):
        yield workerless
