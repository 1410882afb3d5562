"""Layers that are unpacked while the archive is still being read: right guesses save the second look, wrong ones change nothing."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from engine.errors import InvalidArgument
from engine.images import layers
from engine.images.limits import Limits
from engine.images.store import ImageStore
from tests.engine.images.archives import Layout, Pipe, docker_archive, file, folder, image_config, named, plain, tar
from tests.engine.images.conftest import leftovers

pytestmark = pytest.mark.requires("root")

BIG = tar(folder("srv"), file("srv/data", os.urandom(3 << 20)), file("srv/zeros", bytes(1 << 20)), file("srv/end", b"end"))
OTHER = tar(file("other", os.urandom(2 << 20)))
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"plain": plain, "gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which threads unpacked a layer."""
    threads: list[str] = []

    def watched(name: str) -> None:
        real = getattr(layers, name)

        def call(*args: Any, **words: Any) -> Any:
            threads.append(threading.current_thread().name)
            return real(*args, **words)

        monkeypatch.setattr(layers, name, call)

    watched("prepare")
    watched("prepare_plain")
    return threads


@pytest.mark.parametrize("inner", COMPRESSIONS)
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_big_layers_are_unpacked_once_and_ahead(store: ImageStore, looked_at: list[str], inner: str, form: str) -> None:
    if form == "docker":
        archive = docker_archive([BIG, OTHER], ["app:1"], COMPRESSIONS[inner])
    else:
        layout = Layout()
        layout.tops = [layout.image([BIG, OTHER], COMPRESSIONS[inner], annotations=named("app:1"))]
        archive = layout.archive()
    lines = list(store.load("alice", Pipe(archive, 1 << 16)))
    assert looked_at == ["ahead", "ahead"]
    assert sum(line.get("status") == "Loading layer" for line in lines) == 2
    record = store.resolve("alice", "app:1")
    base, top = (store.layers.diff(chain_id) for chain_id in record.chain_ids)
    assert (base / "srv/end").read_bytes() == b"end" and (base / "srv/zeros").stat().st_size == 1 << 20
    assert (top / "other").stat().st_size == 2 << 20
    assert record.layer_bytes == ((4 << 20) + 3, 2 << 20)
    assert [store.layers.tar_bytes(chain_id) for chain_id in record.chain_ids] == [len(BIG), len(OTHER)]


def test_what_looked_like_a_layer_and_is_none_is_left_alone(store: ImageStore, looked_at: list[str]) -> None:
    """A tar that no manifest names, and one whose config says another diffID."""
    manifest = json.dumps([{"Config": "c", "RepoTags": ["app:1"], "Layers": ["a/layer.tar"]}]).encode()
    list(store.load("alice", Pipe(tar(
        file("b/layer.tar", BIG), file("a/layer.tar", OTHER), file("c", image_config([OTHER])), file("manifest.json", manifest),
    ))))  # fmt: skip
    assert len(list(store.config.layers.iterdir())) == 1 and list((store.config.engine / "incoming").iterdir()) == []


def test_a_layer_that_is_not_what_its_config_says_is_refused_as_ever(store: ImageStore) -> None:
    manifest = json.dumps([{"Config": "c", "RepoTags": ["app:1"], "Layers": ["a/layer.tar"]}]).encode()
    archive = tar(file("a/layer.tar", BIG), file("c", image_config([OTHER])), file("manifest.json", manifest))
    with pytest.raises(InvalidArgument, match="invalid diffID of a layer"):
        list(store.load("alice", Pipe(archive, 1 << 16)))
    assert leftovers(store) == []


def test_what_is_wrong_with_a_layer_is_said_once_it_is_known_to_be_one(store: ImageStore, looked_at: list[str]) -> None:
    store.limits = Limits(layer_entries=2)
    with pytest.raises(InvalidArgument, match=r"layer [0-9a-f]{12}: the layer has more than 2 entries"):
        list(store.load("alice", Pipe(docker_archive([BIG], ["app:1"]), 1 << 16)))
    assert looked_at == ["ahead"] and leftovers(store) == []


@pytest.mark.parametrize("length", [100_000, 2 << 20, 4 << 20])
def test_an_archive_that_breaks_off_amid_a_layer_leaves_nothing(store: ImageStore, length: int) -> None:
    with pytest.raises(InvalidArgument):
        list(store.load("alice", Pipe(docker_archive([BIG], ["app:1"])[:length], 1 << 16)))
    assert leftovers(store) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_blob_that_is_here_already_is_not_unpacked_ahead(store: ImageStore, looked_at: list[str]) -> None:
    layout = Layout()
    layout.tops = [layout.image([BIG], annotations=named("app:1"))]
    for _time in range(2):
        list(store.load("alice", Pipe(layout.archive(), 1 << 16)))
    assert looked_at == ["ahead"]
