"""Scratch folders. And a plugin that loads before the settings, so that no test touches a platform that lives on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

given = "SLIPWAY_DATA" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ  # a worker's was made by who started it, for itself
_root = Path(tempfile.mkdtemp(prefix="slipway-test-")) if not given else None
if _root is not None:
    os.environ["SLIPWAY_DATA"] = str(_root / "data")
    os.environ["SLIPWAY_RUN"] = str(_root / "run")
    os.environ.setdefault("SLIPWAY_HTTP", "127.0.0.1:0")
    (_root / "run").mkdir(mode=0o755)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if _root is not None:
        shutil.rmtree(_root, ignore_errors=True)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Below /tmp and 0711. Gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
