"""`python -m training [STAGE...]`: runs the stages in order; each resumes, or is skipped when its result exists."""

import argparse
import importlib
import logging
import os

import torch

from . import config

STAGES = ("tokenizer", "vae", "latents", "judge", "unet", "export")


def main() -> None:
    """Parses the command line and runs the chosen stages, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"any of {', '.join(STAGES)}; default: all")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=1, help="that train the UNet; one thread each")
    parser.add_argument("--scenes", type=int, default=config.Settings.scenes, help="wide scenes to draw and encode")
    parser.add_argument("--vae-minutes", type=float, default=config.Settings.vae_minutes)
    parser.add_argument("--unet-minutes", type=float, default=config.Settings.unet_minutes)
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # branches that start at zero have tiny gradients, and denormals are slow
    settings = config.Settings(
        options.device, options.processes, options.scenes, options.vae_minutes, options.unet_minutes
    )
    for stage in options.stages or STAGES:
        importlib.import_module(f"training.{stage}").train(settings)


if __name__ == "__main__":
    main()
