"""MultiDiffusion panoramas from Stable Diffusion models: knows no HTTP, no Redis and no queue.

Nothing heavy is imported here, so that `engine.params`, `engine.catalog` and `engine.views` stay usable where torch
is not installed.
"""
