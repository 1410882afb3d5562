"""This host: its name and its one Engine."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from engine.config import EngineConfig
from workers.journal import Journal

if TYPE_CHECKING:
    from engine.engine import Engine


def name() -> str:
    """SLIPWAY_HOST: what the panel calls this machine."""
    return os.environ.get("SLIPWAY_HOST", "local")


@cache
def engine() -> Engine:
    from engine.engine import Engine  # every room of the engine: a tenth of a second that a ping need not wait for

    return Engine(EngineConfig.from_environment())


@cache
def journal() -> Journal:
    return Journal(EngineConfig.from_environment().engine / "journal.db")
