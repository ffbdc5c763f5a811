"""Examples for the OpenAPI document. A test validates them against their schemas."""

from __future__ import annotations

from typing import Any

from recipe.facts import ModelFacts
from recipe.presets import PRESETS
from service.problems import FieldProblem, ProblemError, invalid_request

_ID = "4f0c2b7e9a5d4c118e36f1a2b3c4d5e6"
_BATCH_ID = "9d3b1c5a7f8e4d02b6a1c0e2f4d6b8a0"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

PANORAMA: dict[str, Any] = {
    "prompt": "snowy mountains at sunset",
    "width": 2048,
    "height": 512,
    "seed": 7,
    "metadata": {"order": 1017},
}

REGIONS: dict[str, Any] = {
    "prompt": "a valley at sunset",
    "regions": [
        {"prompt": "snowy mountains at sunset", "right": 0.5},
        {"prompt": "a city at sunset", "left": 0.5, "negative_prompt": "cars"},
    ],
    "region_feather": 0.25,
}

JOB: dict[str, Any] = {
    "id": _ID,
    "state": "succeeded",
    "priority": "interactive",
    "batch_id": None,
    "batch_index": None,
    "progress": {"step": 50, "total_steps": 50, "fraction": 1.0, "phase": "done"},
    "queue_position": None,
    "eta_seconds": None,
    "network_samples": 2500,
    "attempt": 1,
    "created_at": "2026-03-02T09:15:27.101000Z",
    "started_at": "2026-03-02T09:15:27.480000Z",
    "finished_at": "2026-03-02T09:15:41.922000Z",
    "expires_at": "2026-03-03T09:15:41.922000Z",
    "input": {
        "prompt": "snowy mountains at sunset",
        "negative_prompt": "",
        "width": 2048,
        "height": 512,
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "seed": 7,
        "model": "2.1",
        "scheduler": "ddim",
        "circular": False,
        "view_stride": 8,
        "view_weights": "uniform",
        "shift_views": False,
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "prompt_syntax": "plain",
        "clip_skip": 0,
        "regions": [],
        "region_feather": 0.0,
        "region_bootstrap": 0.0,
    },
    "result": {"url": f"/jobs/{_ID}/image", "sha256": _SHA256, "bytes": 2264031, "width": 2048, "height": 512},
    "error": None,
    "timings": {"load": 0.0, "encode": 0.04, "denoise": 13.6, "decode": 0.5, "png": 0.05, "store": 0.02},
    "notices": [],
    "model": {"name": "2.1", "revision": "4e63672c03103b6c636b8fb4119ba982469b2955"},
    "metadata": {"order": 1017},
    "links": {"self": f"/jobs/{_ID}"}
    | {name: f"/jobs/{_ID}/{name}" for name in ("image", "thumbnail", "events", "preview", "cancel")},
}

BATCH: dict[str, Any] = {
    "id": _BATCH_ID,
    "state": "running",
    "created_at": "2026-03-02T09:15:27.101000Z",
    "canceled_at": None,
    "total": 10000,
    "accepted": 10000,
    "refused": 0,
    "counts": {"queued": 9120, "running": 4, "succeeded": 875, "failed": 1, "canceled": 0, "expired": 0},
    "eta_seconds": 32200.5,
    "errors": [],
    "links": {
        "self": f"/batches/{_BATCH_ID}",
        "jobs": f"/jobs?batch={_BATCH_ID}",
        "cancel": f"/batches/{_BATCH_ID}/cancel",
        "images": f"/batches/{_BATCH_ID}/images.zip",
    },
}

WEBHOOK: dict[str, Any] = {
    "id": f"msg_{_ID}",
    "url": "https://shop.example/hooks/panoramas",
    "state": "pending",
    "attempts": 2,
    "last_attempt_at": "2026-03-02T09:15:47.310000Z",
    "last_status": 503,
    "last_error": "it answered 503",
    "next_attempt_at": "2026-03-02T09:16:06.120000Z",
}

MODELS: dict[str, Any] = {
    "items": [
        {
            "name": "2.1",
            "default": True,
            "unavailable": None,
            "family": "stable-diffusion",
            "window_px": 512,
            "latent_factor": 8,
            "supports": ["regions"],
            "defaults": {
                "width": 2048,
                "height": 512,
                "num_inference_steps": 50,
                "guidance_scale": 7.5,
                "scheduler": "ddim",
                "view_stride": 8,
                "view_weights": "uniform",
            },
            "presets": {"fast": PRESETS["fast"].values(ModelFacts())},
            "embeddings": [],
        }
    ],
    "schedulers": ["ddim"],
    "view_weights": ["uniform"],
    "limits": {
        "width": 8192,
        "height": 2048,
        "num_inference_steps": 200,
        "pixel_steps": 838860800,
        "samples": 1000000,
        "regions": 16,
    },
}


def _problem(kind: str, detail: str | None = None, **title_values: str) -> dict[str, Any]:
    return ProblemError(kind, detail, title_values=title_values).problem.model_dump(exclude_none=True)


_BAD_WIDTH = FieldProblem(pointer="#/width", detail="must be a multiple of 8, not 2050")
PROBLEM_EXAMPLES: dict[int, dict[str, Any]] = {
    problem["status"]: problem
    for problem in (
        _problem("body-cut", "Nothing was accepted."),
        _problem("unauthorized"),
        _problem("no-such-job", f"job_id: {_ID} is unknown"),
        _problem("not-acceptable", "Accept: one of image/png, image/webp"),
        _problem("no-image", state="is running"),
        _problem("expired"),
        _problem("body-too-large", "body: at most 65536 bytes are accepted"),
        _problem("unsupported-media-type", "Content-Type: application/json"),
        _problem("range-outside"),
        invalid_request([_BAD_WIDTH]).problem.model_dump(exclude_none=True),
        _problem("queue-full", "As many jobs wait as this server lets wait."),
        _problem("internal-error"),
        _problem("unavailable", "Nothing was changed; try again in a few seconds.", service="queue"),
        _problem("image-store-full", "Nothing was accepted; try again later."),
    )
}

_SHORT = {"prompt": "a harbour at night"}
SCHEMAS: dict[str, list[dict[str, Any]]] = {
    "PanoramaRequest": [PANORAMA, _SHORT, REGIONS],
    "BatchRequest": [{"items": [PANORAMA, _SHORT]}],
    "Job": [JOB],
    "Jobs": [{"items": [JOB]}],
    "JobEnded": [{"type": "panorama.succeeded", "timestamp": JOB["finished_at"], "data": JOB}],
    "Webhook": [WEBHOOK],
    "WebhookSecret": [{"secret": "whsec_VGhpcyBpcyBhbiBleGFtcGxlIGFuZCBubyBzZWNyZXQ="}],
    "Batch": [BATCH],
    "Models": [MODELS],
    "Health": [{"status": "ok", "workers": 2}],
}
