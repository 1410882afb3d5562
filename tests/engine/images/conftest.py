from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.images.store import ImageStore
from tests.engine.images.archives import Pipe


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(EngineConfig(tmp_path / "data", tmp_path / "run"))


@pytest.fixture
def load(store: ImageStore) -> Callable[..., list[str]]:
    """Loads for a tenant and returns the image ids."""

    def run(data: bytes, tenant: str = "alice") -> list[str]:
        lines = list(store.load(tenant, Pipe(data)))
        assert lines[-1].keys() == {"images"}
        return list(lines[-1]["images"])

    return run


def leftovers(store: ImageStore) -> list[Path]:
    """What the store holds, or a load has forgotten: nothing, after one that failed."""
    config = store.config
    folders = (config.images, config.layers, config.refs, config.blobs, config.engine / "incoming")
    return [path for folder in folders if folder.exists() for path in folder.iterdir()]


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)
