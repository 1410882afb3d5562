"""Archives that we write: what is in them, and that they come back as what they were."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from engine import disk
from engine.config import EngineConfig
from engine.errors import Internal, InvalidArgument, NotFound
from engine.images.store import ImageStore
from engine.model.platform import Platform, host_architecture
from tests.engine.images.archives import Layout, Pipe, digest, docker_archive, file, folder, named, plain, tar

pytestmark = pytest.mark.requires("root")

BASE = tar(folder("etc"), file("etc/hostname", b"base"), file("big", os.urandom(300_000)))
ONE, TWO = (tar(file(name, name.encode())) for name in ("one", "two"))
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"plain": plain, "gzip": gzip.compress, "zstd": zstandard.compress}
Load = Callable[..., list[str]]
Save = Callable[..., bytes]


@pytest.fixture
def save(store: ImageStore, tmp_path: Path) -> Save:
    def run(*names: str, tenant: str = "alice", platform: str = "") -> bytes:
        with (tmp_path / "saved.tar").open("wb") as out:
            store.save(store.choose(tenant, names, platform=platform), out.fileno())
        return (tmp_path / "saved.tar").read_bytes()

    return run


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("inner", COMPRESSIONS)
def test_what_is_saved_is_loaded_elsewhere_as_the_same_image(tmp_path: Path, load: Load, save: Save, inner: str) -> None:
    [image_id] = load(docker_archive([BASE, ONE], ["app:1", "registry.example/team/app:2"], COMPRESSIONS[inner], Cmd=["sh"]))
    elsewhere = ImageStore(EngineConfig(tmp_path / "other", tmp_path / "run"))
    lines = list(elsewhere.load("bob", Pipe(save("app:1", "registry.example/team/app:2"))))
    assert lines[-1] == {"images": [image_id]}
    assert elsewhere.refs("bob") == {"app:1": image_id, "registry.example/team/app:2": image_id}


def test_the_same_image_gives_the_same_archive_however_it_came(tmp_path: Path, load: Load, save: Save) -> None:
    load(docker_archive([BASE, ONE], ["app:1"]))
    other = ImageStore(EngineConfig(tmp_path / "other", tmp_path / "run"))
    list(other.load("alice", Pipe(docker_archive([BASE, ONE], ["app:1"], gzip.compress))))
    with (tmp_path / "other.tar").open("wb") as out:
        other.save(other.choose("alice", ["app:1"]), out.fileno())
    assert (tmp_path / "other.tar").read_bytes() == save("app:1")


def test_the_archive_is_docker_archive_and_oci_layout_in_one(load: Load, save: Save) -> None:
    [image_id] = load(docker_archive([BASE, ONE], ["app:1"], gzip.compress))
    found = members(save("app:1"))
    for name, data in found.items():
        if name.startswith("blobs/sha256/"):
            assert digest(data) == f"sha256:{name.rpartition('/')[2]}"
    [old] = json.loads(found["manifest.json"])
    assert old["Config"] == f"blobs/sha256/{image_id[7:]}" and old["RepoTags"] == ["app:1"]
    assert [found[layer] for layer in old["Layers"]] == [BASE, ONE]
    assert json.loads(found["repositories"]) == {"app": {"1": digest(ONE)[7:]}}
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    [top] = json.loads(found["index.json"])["manifests"]
    assert top["annotations"] == {"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}
    assert top["platform"] == {"architecture": host_architecture(), "os": "linux"}
    manifest = json.loads(found[f"blobs/sha256/{top['digest'][7:]}"])
    assert [layer["digest"] for layer in manifest["layers"]] == [digest(BASE), digest(ONE)]
    assert [layer["size"] for layer in manifest["layers"]] == [len(BASE), len(ONE)]


def test_several_images_share_their_layers_in_one_archive(load: Load, save: Save) -> None:
    load(docker_archive([BASE, ONE], ["app:1"]))
    load(docker_archive([BASE, TWO], ["app:2"]))
    found = members(save("app"))  # all tags of the repository
    assert [entry["RepoTags"] for entry in json.loads(found["manifest.json"])] == [["app:1"], ["app:2"]]
    assert sum(digest(data) == digest(BASE) for data in found.values()) == 1
    assert [entry["RepoTags"] for entry in json.loads(members(save("app:2"))["manifest.json"])] == [["app:2"]]


def test_by_its_id_an_image_has_no_name(load: Load, save: Save, store: ImageStore) -> None:
    [image_id] = load(docker_archive([ONE], ["app:1"]))
    for name in (image_id, image_id[7:19]):
        found = members(save(name))
        assert json.loads(found["manifest.json"])[0]["RepoTags"] is None and "repositories" not in found
        assert "annotations" not in json.loads(found["index.json"])["manifests"][0]


@pytest.mark.parametrize(("name", "sentence"), [
    ("absent", "No such image: absent"), ("absent:1", "reference does not exist"), ("BAD", "must be lowercase"),
    ("f" * 64, "No such image: fff"),
])  # fmt: skip
def test_what_is_not_there_is_said_in_mobys_words(load: Load, save: Save, name: str, sentence: str) -> None:
    load(docker_archive([ONE], ["app:1"]))
    with pytest.raises((NotFound, InvalidArgument), match=sentence):
        save("app:1", name)


def test_nobody_saves_what_another_tenant_has(load: Load, save: Save) -> None:
    [image_id] = load(docker_archive([ONE], ["app:1"]))
    for name in ("app", "app:1", image_id, image_id[7:19]):
        with pytest.raises(NotFound):
            save(name, tenant="bob")


def test_a_platform_that_the_image_is_not_of_is_not_found(load: Load, save: Save) -> None:
    load(docker_archive([ONE], ["app:1"]))
    assert save("app:1", platform=f"linux/{host_architecture()}") == save("app:1")
    with pytest.raises(NotFound, match=r"app:1 was found but does not provide the specified platform \(linux/s390x\)"):
        save("app:1", platform='{"os": "linux", "architecture": "s390x"}')


def test_a_blob_that_the_disk_has_spoiled_is_not_sent_whole(store: ImageStore, load: Load, save: Save) -> None:
    load(docker_archive([BASE], ["app:1"], gzip.compress))
    [blob] = store.records.layers(store.resolve("alice", "app:1").id[7:])
    path = store.content.path(blob)
    path.chmod(0o600)
    path.write_bytes(gzip.compress(BASE[:-512] + bytes(511) + b"!"))
    with pytest.raises(Internal, match="is damaged on this host's disk"):
        save("app:1")


def test_images_from_before_layers_were_noted_are_saved_as_well(store: ImageStore, load: Load, save: Save) -> None:
    [image_id] = load(docker_archive([BASE, ONE], ["app:1"], gzip.compress))
    whole = save("app:1")
    record = store.config.images / f"{image_id[7:]}.json"
    told = disk.read_json(record)
    disk.write_json(record, {name: value for name, value in told.items() if name != "layers"})
    for layer in store.config.layers.iterdir():
        known = disk.read_json(layer / "layer.json")
        disk.write_json(layer / "layer.json", {name: value for name, value in known.items() if name != "tar_bytes"})
    assert save("app:1") == whole
    assert len(store.records.layers(image_id[7:])) == 2


def test_of_an_archive_with_several_platforms_another_than_this_hosts_may_be_asked_for(store: ImageStore) -> None:
    layout = Layout()
    ours = layout.image([ONE], platform={"os": "linux", "architecture": host_architecture()})
    arm = layout.image([TWO], platform={"os": "linux", "architecture": "s390x"})
    layout.tops = [layout.index([ours, arm], annotations=named("app:multi"))]
    list(store.load("alice", Pipe(layout.archive()), platform="linux/s390x"))
    assert store.resolve("alice", "app:multi").diff_ids == (digest(TWO),)
    with pytest.raises(InvalidArgument, match="no match for platform linux/riscv64 in the archive"):
        list(store.load("alice", Pipe(layout.archive()), platform="linux/riscv64"))
    with pytest.raises(InvalidArgument, match=r"requested platform \(linux/riscv64\) not found"):
        list(store.load("alice", Pipe(docker_archive([ONE], ["x"])), platform="linux/riscv64"))


@pytest.mark.parametrize(("text", "wanted"), [
    ("linux/amd64", Platform("linux", "amd64")), ("linux/aarch64", Platform("linux", "arm64")), ("amd64", Platform("linux", "amd64")),
    ("linux/arm/v7", Platform("linux", "arm", "v7")), ("linux", Platform("linux", host_architecture())),
    ('{"os":"linux","architecture":"arm64","variant":"v8"}', Platform("linux", "arm64", "v8")),
])  # fmt: skip
def test_platforms_are_read_as_docker_reads_them(text: str, wanted: Platform) -> None:
    assert Platform.parse(text) == wanted
    assert Platform.parse(str(wanted)) == wanted


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/", "/", "{}", "{", '{"os": 1, "architecture": "x"}'])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Platform.parse(text)


@pytest.mark.parametrize(("wanted", "config", "fits"), [
    ("linux/arm64", {"architecture": "arm64"}, True), ("linux/arm64/v8", {"architecture": "arm64"}, True),
    ("linux/arm/v6", {"architecture": "arm", "variant": "v7"}, False), ("linux/arm", {"architecture": "arm", "variant": "v6"}, True),
    ("linux/amd64", {"architecture": "arm64"}, False),
])  # fmt: skip
def test_a_platform_without_a_variant_takes_any(wanted: str, config: dict[str, Any], fits: bool) -> None:
    assert Platform.parse(wanted).fits(config) is fits
