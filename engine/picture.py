"""PNG with its recipe inside, so that a picture can be made again."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import numpy as np
from PIL import Image, PngImagePlugin

from engine.params import PanoramaParams


def encode_png(pixels: np.ndarray, params: PanoramaParams, *, model: str, revision: str) -> bytes:
    """Encode (height, width, 3) uint8 with two text chunks.

    `parameters` is what AUTOMATIC1111's web UI writes and many viewers read; `recipe` is JSON with everything that
    determines the picture: the parameters, the model and its revision.
    """
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("parameters", a1111_parameters(params, model))
    chunks.add_itxt("recipe", json.dumps({**asdict(params), "model": model, "model_revision": revision}))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks, compress_level=1)
    return buffer.getvalue()


def a1111_parameters(params: PanoramaParams, model: str) -> str:
    """The settings in the layout of A1111's `create_infotext`: prompt, negative prompt, then `Key: value` pairs."""
    settings = {
        "Steps": params.num_inference_steps,
        "Sampler": params.scheduler,
        "CFG scale": f"{params.guidance_scale:g}",
        "Seed": params.seed,
        "Size": f"{params.width}x{params.height}",
        "Model": model,
        "View stride": params.view_stride,
        "View weights": params.view_weights,
        "Circular": params.circular,
    }
    lines = [params.prompt]
    if params.negative_prompt:
        lines.append(f"Negative prompt: {params.negative_prompt}")
    lines.append(", ".join(f"{key}: {value}" for key, value in settings.items()))
    return "\n".join(lines)
