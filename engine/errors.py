"""What can go wrong in the engine.

EngineError
├── ParamsError     the request cannot be painted; names every field at fault
├── ModelError      the model cannot be found, read or used
├── Interrupted     the step callback asked for an end
└── BadPicture      the model produced NaN, infinity or a black canvas
"""

from __future__ import annotations

from dataclasses import dataclass


class EngineError(Exception):
    """Base of every error that the engine raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one parameter. `field` is the parameter's name in `PanoramaParams`."""

    field: str
    detail: str


class ParamsError(EngineError):
    """The parameters cannot be painted; `errors` names each field at fault."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.detail}" for error in errors))
        self.errors = errors


class ModelError(EngineError):
    """The model's folder or repository is missing, unreadable, or not a Stable Diffusion that the engine knows."""


class Interrupted(EngineError):
    """Raised by a step callback to end the painting at a step boundary (a cancel, a drain)."""


class BadPicture(EngineError):
    """The decoded canvas is not a picture. It is never handed out as a result."""
