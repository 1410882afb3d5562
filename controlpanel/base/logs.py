"""What the panel's processes log."""

from __future__ import annotations

import logging


class InALine(logging.Filter):
    """Without the stack trace: a client's mistake is told in a line, however often it is made."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True
