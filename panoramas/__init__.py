"""What users hold: the command line and the Python client."""

from panoramas.client import Client, JobFailed, ServiceError

__all__ = ["Client", "JobFailed", "ServiceError"]
