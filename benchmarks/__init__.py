"""Measurements against the article's loop and diffusers' panorama pipeline. No part of what is installed."""
