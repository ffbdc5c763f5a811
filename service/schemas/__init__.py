"""The API's JSON. Docstrings and descriptions here are part of `openapi.yaml`. Field names are diffusers' own."""
