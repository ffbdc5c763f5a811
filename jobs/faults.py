"""Why an attempt or a job failed, and whose fault that was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobs.problems import PROBLEMS

# Each has its own budget of `PANORAMAS_MAX_ATTEMPTS`.
Blame = Literal["job", "worker", "dependency"]

_BLAMES: dict[str, Blame] = {
    PROBLEMS["out-of-memory"].urn: "job",
    PROBLEMS["internal-error"].urn: "job",
    PROBLEMS["store-failed"].urn: "dependency",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job failed, in the fields of RFC 9457; becomes the job's `error`."""

    type: str
    title: str
    status: int
    detail: str

    @property
    def blame(self) -> Blame:
        """Whose fault it was: the worker's, unless it came from the job or from something the worker depends on."""
        return _BLAMES.get(self.type, "worker")


def fault(reason: str, detail: str) -> Fault:
    """The fault of one kind of `jobs.problems`."""
    problem = PROBLEMS[reason]
    return Fault(problem.urn, problem.title, problem.status, detail)
