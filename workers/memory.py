"""How a long-lived process of few megabytes stays one."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h


def few_arenas(count: int) -> None:
    """glibc gives threads their own heaps, up to eight a core, each of which keeps what was freed in it. mallopt(3).

    Call it before the first thread begins. Elsewhere than with glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)
