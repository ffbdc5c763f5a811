"""`python -m training.sample [FILE]`: paints a contact sheet with the exported model, a grid of places and hours."""

import argparse
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from engine.loading import load_model
from engine.paint import paint
from recipe.fields import Recipe
from recipe.models import BUILTIN

PROMPTS = (
    "snowy mountains at sunset",
    "mountains at noon with a lake",
    "foggy mountains at dawn",
    "green hills in the morning",
    "hills at dusk",
    "rainy hills at noon",
    "a desert at noon",
    "sand dunes at sunset",
    "desert at night",
    "ocean at sunset",
    "cloudy ocean in the morning",
    "ocean at night with the moon",
    "forest at dawn in the fog",
    "snowy forest at night",
    "pine forest at noon by a lake",
    "city at night under the stars",
    "city skyline at dusk by the water",
    "a foggy city in the morning",
)


def main() -> None:
    """Paints every prompt with the entry's own defaults."""
    parser = argparse.ArgumentParser(prog="python -m training.sample", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("sheet.jpg"))
    parser.add_argument("--width", type=int, default=1024, help="px of a picture; its height is 512")
    parser.add_argument("--prompt", action="append", help="instead of the grid; may be given several times")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--stride", type=int)
    parser.add_argument("--scheduler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--height", type=int, default=192, help="px of a picture on the sheet")
    options = parser.parse_args()
    spec = BUILTIN["demo"]
    model = load_model(spec, device="cuda" if torch.cuda.is_available() else "cpu")
    prompts = options.prompt or PROMPTS
    height = options.height
    width = height * options.width // 512
    rows = -(-len(prompts) // options.columns)
    sheet = Image.new("RGB", (options.columns * (width + 4), rows * (height + 20)), "white")
    pen = ImageDraw.Draw(sheet)
    start = time.time()
    for i, prompt in enumerate(prompts):
        given = {
            "num_inference_steps": options.steps,
            "guidance_scale": options.guidance,
            "scheduler": options.scheduler,
            "view_stride": options.stride,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        params = Recipe(
            prompt=prompt, width=options.width, height=512, seed=options.seed + i, **{**spec.defaults, **chosen}
        )
        picture = Image.fromarray(paint(model, params).pixels).resize((width, height), Image.Resampling.LANCZOS)
        place = (i % options.columns * (width + 4), i // options.columns * (height + 20))
        sheet.paste(picture, (place[0], place[1] + 16))
        pen.text((place[0] + 4, place[1] + 2), prompt, fill=(0, 0, 0))
    sheet.save(options.file, quality=85)
    print(f"{len(prompts)} pictures, {(time.time() - start) / len(prompts):.1f} s each")


if __name__ == "__main__":
    main()
