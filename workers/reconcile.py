"""At the start of the host worker: what a worker, or a whole host, that died in the midst left behind is tidied up.

Beside the tasks and not before them: emptying the trash of big images takes time, and nobody needs to wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from engine import recovery
from engine.engine import Engine
from engine.errors import EngineError
from engine.recovery import UNFINISHED_S

log = logging.getLogger(__name__)

LATER_S: Final = 5.0


def in_background(engine: Engine) -> threading.Thread:
    thread = threading.Thread(target=reconcile, args=(engine,), name="reconcile", daemon=True)
    thread.start()
    return thread


def reconcile(engine: Engine) -> None:
    try:
        recovery.recover(engine)
        time.sleep(UNFINISHED_S + LATER_S)  # what was being created when the worker before us was killed is old enough now
        recovery.forget_unfinished(engine)
    except (EngineError, OSError):
        log.exception("tidying up failed; the next start tries again")
