"""Benchmarks of the engine, the service and the page. They are not part of the installed packages."""
