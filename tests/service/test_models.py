"""`GET /models`."""

from __future__ import annotations

import httpx


def test_models_lists_models_defaults_schedulers_and_limits(http: httpx.Client) -> None:
    models = http.get("/models").json()
    assert [(item["name"], item["default"]) for item in models["items"]] == [("tiny", True), ("other", False)]
    assert models["items"][0]["defaults"] == {
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "scheduler": "ddim",
        "view_stride": 8,
        "view_weights": "uniform",
    }
    assert set(models["items"][0]["presets"]) == {"reference", "quality", "fast", "draft"}
    assert models["items"][0]["window_px"] == 128
    assert "ddim" in models["schedulers"]
    assert models["limits"] == {
        "width": 8192,
        "height": 2048,
        "num_inference_steps": 200,
        "pixel_steps": 8192 * 2048 * 50,
    }
