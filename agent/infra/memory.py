"""Keeping a daemon small: one malloc arena, and start-up's leftovers given back.

Figures in docs/operations.md. Nothing here changes behaviour; a C library without these calls is
left as it is.
"""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8  # malloc.h


def use_one_arena() -> None:
    """Before threads start: glibc would give each its own heap, which never shrinks again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """After start-up: collect what importing left, exempt the rest from collection, trim."""
    gc.collect()
    gc.freeze()  # a full collection then looks at what came later only
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
