"""What an exception in the model process means: the job's own fault, too little memory, or a broken device."""

from __future__ import annotations

import re

import torch

from engine.batching import is_out_of_memory
from engine.errors import BadPicture
from recipe.errors import ModelError, PaintError, RecipeError
from worker.messages import Failed

# Errors of the request or of the model's arithmetic: another attempt would fail in the same way.
_FINAL = {RecipeError: "cannot-be-painted", ModelError: "model-unavailable", BadPicture: "bad-picture"}
# The same input raises these again on any device.
_DETERMINISTIC = (ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError)
_SHAPE = re.compile(
    r"shape|\bsizes?\b|\bdimensions?\b|must match|scalar type|same dtype|same device|channels|not implemented",
    re.IGNORECASE,
)
_FATAL = re.compile(r"(CUDA|HIP) error|CUDNN_STATUS|CUBLAS_STATUS|CUSOLVER_STATUS|NCCL|device-side", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.:/])~?/[^\s'\",:;()\[\]]*/")
_LONGEST = 300


def is_device_fault(error: BaseException) -> bool:
    """Whether the device failed, so that every later call in this process may fail with it."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and not is_out_of_memory(error) and bool(_FATAL.search(str(error)))


def failed(error: Exception, *, step: int) -> Failed:
    """The report for an attempt that ended with `error` after `step` steps. One that is not final costs the process.

    Up to the first step, an error of the arithmetic's own kind (a shape, a missing key) is certain to come again. After
    it, the same calls have already worked with these shapes, so that another attempt is worth making.
    """
    if isinstance(error, PaintError):
        return Failed(_FINAL.get(type(error), "engine-error"), str(error), final=True)
    if is_device_fault(error):
        return Failed("device-error", without_folders(_first_line(error)))
    if is_out_of_memory(error):
        return Failed("out-of-memory", without_folders(str(error)))
    if step == 0 and _is_deterministic(error):
        return Failed("model-fault", describe(error), final=True)
    return Failed("internal-error", f"{type(error).__name__} in the model")


def describe(error: BaseException) -> str:
    """The kind of an error and the first line of its text, without the server's folders."""
    return f"{type(error).__name__}: {without_folders(_first_line(error))}"[:_LONGEST]


def without_folders(text: str) -> str:
    """The text with the last component of each absolute path only: users do not learn how the server is laid out."""
    return _PATH.sub("", text)


def _is_deterministic(error: Exception) -> bool:
    if isinstance(error, _DETERMINISTIC):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and bool(_SHAPE.search(text))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
