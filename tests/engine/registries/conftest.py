from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.claims import Claims
from engine.config import EngineConfig
from engine.images.store import ImageStore
from engine.networks import Networks
from engine.registries.registries import Registries
from engine.tenants import Tenants
from tests.engine.images.archives import Pipe, docker_archive, file, tar
from tests.engine.registries import toy as toys
from tests.engine.registries.toy import Toy


class Host:
    """An image store and its registries, with two tenants."""

    def __init__(self, folder: Path) -> None:
        self.config = EngineConfig(folder / "data", folder / "run")
        self.store = ImageStore(self.config)
        claims = Claims(folder / "claims.json", etc=folder)
        tenants = self.tenants = Tenants(self.config, claims)
        for name in ("alice", "bob"):
            tenants.ensure(name)
        self.networks = Networks(self.config, tenants, claims)
        self.registries = Registries(self.config, tenants, self.store, self.networks)

    def pull(self, name: str, tenant: str = "alice", **words: Any) -> list[dict[str, Any]]:
        return list(self.registries.pull(tenant, name, **words))

    def push(self, name: str, tenant: str = "alice", **words: Any) -> list[dict[str, Any]]:
        return list(self.registries.push(tenant, name, **words))

    def load(self, layers: list[bytes], name: str, tenant: str = "alice", **words: Any) -> str:
        return str(list(self.store.load(tenant, Pipe(docker_archive(layers, [name], **words))))[-1]["images"][0])

    def leftovers(self) -> list[Path]:
        """Of an image that did not come: nothing."""
        config = self.config
        folders = (config.images, config.layers, config.refs, config.blobs, config.engine / "incoming", config.engine / "origins")
        return [path for folder in folders if folder.exists() for path in folder.iterdir()]

    def close(self) -> None:
        self.registries.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", "127.0.0.0/8,localhost")
    (tmp_path / "subuid").touch()
    (tmp_path / "subgid").touch()
    host = Host(tmp_path)
    yield host
    host.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("pull", "push"))]


@pytest.fixture
def toy() -> Iterator[Toy]:
    with toys.running() as toy:
        yield toy


def layer(size: int, name: str = "f") -> bytes:
    """A tar of one file that does not compress."""
    return tar(file(name, os.urandom(size)))


def statuses(lines: list[dict[str, Any]]) -> list[str]:
    """Without figures and repeats."""
    said = [f"{line['id']}: {line['status']}" if line.get("id") else line["status"] for line in lines if "status" in line]
    return list(dict.fromkeys(said))
