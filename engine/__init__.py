"""MultiDiffusion panoramas from Stable Diffusion models: knows no HTTP, no Redis and no queue.

Nothing heavy is imported here, so that `recipe.fields`, `recipe.models` and `recipe.views` stay usable where torch
is not installed.
"""
