"""``slipway.ping`` on both queues: whoever answers takes tasks."""

from __future__ import annotations

import os
import time
from typing import Any

from workers import contract, report
from workers.app import app

_STARTED_AT_NS = time.time_ns()


@app.task(name=contract.PING)  # type: ignore[untyped-decorator]
def ping(operation: str, reply_to: str, payload: dict[str, Any], expires_at: float = 0) -> None:
    report.push(report.answer(reply_to, operation, {"ok": {"pid": os.getpid(), "started_at_ns": _STARTED_AT_NS}}))
