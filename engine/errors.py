"""What can go wrong while painting, beside what is wrong with the request or the model (`recipe.errors`).

PaintError
├── Interrupted     the step callback asked for an end
└── BadPicture      the model produced NaN, infinity or a black canvas
"""

from __future__ import annotations

from recipe.errors import PaintError


class Interrupted(PaintError):
    """Raised by a step callback to end the painting at a step boundary (a cancel, a drain)."""


class BadPicture(PaintError):
    """The decoded canvas is not a picture. It is never handed out as a result."""
