"""HTTP only: requests in, job records out. Imports neither torch nor the worker."""
