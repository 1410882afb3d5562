"""Signal names as Docker takes them."""

from __future__ import annotations

import re
import signal

from engine.errors import InvalidArgument

_REAL_TIME = re.compile(r"^RT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)$")


def signal_number(name: str) -> int:
    """``SIGTERM``, ``TERM``, ``15`` or ``SIGRTMIN+3`` → the number. InvalidArgument with moby's sentence."""
    word = name.upper().removeprefix("SIG")
    real_time = _REAL_TIME.match(word)
    if word.isascii() and word.isdigit():
        number = int(word)
    elif real_time:
        number = signal.SIGRTMIN + int(real_time[1] or 0) if word.startswith("RTMIN") else signal.SIGRTMAX - int(real_time[2] or 0)
    else:
        number = int(getattr(signal, f"SIG{word}", 0)) if word.isalnum() else 0
    if not 1 <= number <= 64:
        raise InvalidArgument(f"invalid signal: {name}")
    return number


def signal_name(number: int) -> str:
    """``SIGTERM``; real-time signals by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
