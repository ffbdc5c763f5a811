"""A client of the HTTP API: submit, wait, fetch. Knows nothing of the service but what `openapi.yaml` says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

# Nothing was accepted, or nothing was asked to change: safe to say again.
_TRANSIENT = frozenset({429, 503})


class ServiceError(Exception):
    """The service answered with a problem (RFC 9457), or not at all."""

    def __init__(self, message: str, *, status: int | None = None, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class JobFailed(Exception):
    """The job ended without a picture; `job` is its last state."""

    def __init__(self, job: dict[str, Any]) -> None:
        error = job.get("error") or {}
        super().__init__(error.get("detail") or error.get("title") or f"the job was {job['state']}")
        self.job = job


class Client:
    """One connection pool to one service. Use it as a context manager, or call `close`.

    Args:
        base_url: where the service is.
        timeout: seconds for one answer.
        patience: seconds to keep trying while the service is busy or restarting.
    """

    def __init__(
        self, base_url: str = "http://127.0.0.1:8000", *, timeout: float = 30.0, patience: float = 60.0
    ) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout)
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def submit(self, prompt: str, **params: Any) -> dict[str, Any]:
        """`POST /panoramas`; returns the job as it was accepted.

        Raises:
            ServiceError: refused (`problem` names the fields), or not reachable.
        """
        return self._request("POST", "/panoramas", json={"prompt": prompt, **params}).json()

    def get(self, job_id: str) -> dict[str, Any]:
        """`GET /jobs/{id}`.

        Raises:
            ServiceError
        """
        return self._request("GET", f"/jobs/{job_id}").json()

    def watch(self, job_id: str, *, interval: float | None = None) -> Iterator[dict[str, Any]]:
        """The job each time it was looked at, the last time in its terminal state.

        `interval` is in seconds; None follows the service's own Retry-After.

        Raises:
            ServiceError
        """
        while True:
            response = self._request("GET", f"/jobs/{job_id}")
            job = response.json()
            yield job
            if job["state"] in TERMINAL:
                return
            time.sleep(interval if interval is not None else _retry_after(response))

    def wait(self, job_id: str) -> dict[str, Any]:
        """The job once it has succeeded.

        Raises:
            JobFailed: when it ended in any other way.
            ServiceError
        """
        job: dict[str, Any] = {}
        for seen in self.watch(job_id):
            job = seen
        if job["state"] != "succeeded":
            raise JobFailed(job)
        return job

    def image(self, job: dict[str, Any]) -> bytes:
        """The PNG of a job that has succeeded, checked against its digest.

        Raises:
            ServiceError
        """
        data = self._request("GET", job["result"]["url"]).content
        if hashlib.sha256(data).hexdigest() != job["result"]["sha256"]:
            raise ServiceError("the image that arrived does not match its sha256")
        return data

    def cancel(self, job_id: str) -> dict[str, Any]:
        """`POST /jobs/{id}/cancel`; harmless when the job has ended.

        Raises:
            ServiceError
        """
        return self._request("POST", f"/jobs/{job_id}/cancel").json()

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        while True:
            response, fault = None, ""
            try:
                response = self._http.request(method, path, **kwargs)
            except httpx.ConnectError as error:  # nothing was sent, so that even a POST may be repeated
                fault = str(error)
            except httpx.TransportError as error:
                if method != "GET":
                    raise ServiceError(f"{method} {path}: {error}; whether it was accepted is unknown") from error
                fault = str(error)
            if response is not None and response.status_code not in _TRANSIENT:
                return _checked(response)
            pause = _retry_after(response) if response is not None else 1.0
            if time.monotonic() + pause > deadline:
                if response is not None:
                    return _checked(response)
                raise ServiceError(f"{self._http.base_url} does not answer: {fault}")
            time.sleep(pause)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
        lines = [problem.get("detail") or problem.get("title", "")]
        lines += [f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", ())]
    except (ValueError, AttributeError, KeyError, TypeError):
        problem, lines = {}, [f"HTTP {response.status_code}"]
    raise ServiceError("\n".join(lines), status=response.status_code, problem=problem)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the service asks for (RFC 9110, section 10.2.3), within 0.5 and 30."""
    try:
        return min(max(float(response.headers.get("Retry-After", "1")), 0.5), 30.0)
    except ValueError:  # an HTTP date, which this service never sends but a proxy may
        return 1.0
