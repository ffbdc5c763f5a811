"""What can be wrong with a request or a model. The engine adds what can go wrong while it paints (`engine.errors`).

PaintError
├── RecipeError     the request cannot be painted; names every field at fault
└── ModelError      the model cannot be found, read or used
"""

from __future__ import annotations

from dataclasses import dataclass


class PaintError(Exception):
    """Base of every error that is raised on purpose: its text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field. `field` is its name in `recipe.fields.Recipe`."""

    field: str
    detail: str


class RecipeError(PaintError):
    """The request cannot be painted; `errors` names each field at fault."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.detail}" for error in errors))
        self.errors = errors


class ModelError(PaintError):
    """The model's folder or repository is missing, unreadable, or of a kind that the engine does not know."""
