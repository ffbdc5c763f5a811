"""Starts the server's processes. Imports `service`, `worker` and `jobs`; the client's wheel does not contain it."""
