"""What the commands print: lines for people, failures in one sentence that says who can fix them."""

from __future__ import annotations

import sys


class Refusal(Exception):
    """The command can't go on. The message is one line: what is wrong, and who can fix it how."""


def step(text: str) -> None:
    """Progress, to standard error: standard output stays for what scripts read."""
    print(f"slipway: {text}", file=sys.stderr, flush=True)


def line(text: str = "") -> None:
    print(text, flush=True)
