"""Running out of memory: how it is told from other failures, and what can be given back before another try."""

from __future__ import annotations

import gc
import sys
from typing import Any

PHRASES = ("out of memory", "can't allocate memory", "Cannot allocate memory", "not enough memory", "ALLOC_FAILED")
"""What torch, oneDNN, CUDA and cuBLAS say; torch has a class for it on CUDA alone."""

LATER = 5.0
"""Seconds after which to try again what found no memory."""


def lacking(cause: BaseException) -> bool:
    return isinstance(cause, MemoryError) or (
        isinstance(cause, RuntimeError) and any(phrase in str(cause) for phrase in PHRASES)
    )


def release() -> None:
    """Give back what only cycles hold, and the device's cached memory, where it has such."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
