from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pwd
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from engine.config import EngineConfig
from engine.errors import EngineError, InvalidArgument, NotFound, Unavailable
from engine.images.limits import Limits
from engine.images.store import ImageStore
from engine.model.platform import host_architecture
from tests.engine.images.archives import OCI, Layout, Pipe, digest, docker_archive, file, folder, image_config, named, plain, symlink, tar
from tests.engine.images.conftest import leftovers

pytestmark = pytest.mark.requires("root")

BASE = tar(folder("etc"), file("etc/hostname", b"base"), file("big", os.urandom(300_000)))
TOP = tar(file("etc/motd", b"hello"))
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"plain": plain, "gzip": gzip.compress, "zstd": zstandard.compress}
Load = Callable[..., list[str]]


# -- docker-archive ----------------------------------------------------------------------------------


@pytest.mark.guest
@pytest.mark.parametrize("outer", COMPRESSIONS)
@pytest.mark.parametrize("inner", COMPRESSIONS)
def test_a_docker_archive_is_loaded_whatever_is_compressed(store: ImageStore, outer: str, inner: str) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"], COMPRESSIONS[inner], Cmd=["sh"])
    lines = list(store.load("alice", Pipe(COMPRESSIONS[outer](archive))))
    image = store.resolve("alice", "app:1")
    assert lines[-2:] == [{"stream": "Loaded image: app:1\n"}, {"images": [image.id]}]
    assert image.id == digest(image_config([BASE, TOP], Cmd=["sh"])) and image.config["config"]["Cmd"] == ["sh"]
    assert image.size_bytes == 300_000 + len(b"basehello")
    top, base = (store.config.engine / lower for lower in store.lower_dirs(image))
    assert (top / "etc/motd").read_bytes() == b"hello" and (base / "etc/hostname").read_bytes() == b"base"


def test_progress_is_said_per_layer_unless_quiet(store: ImageStore) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"])
    loud, quiet = list(store.load("alice", Pipe(archive))), list(store.load("bob", Pipe(docker_archive([TOP], ["b"])), quiet=True))
    last = [line for line in loud if line.get("id") == digest(BASE)[7:19]][-1]
    assert last["status"] == "Loading layer"
    assert last["progressDetail"] == {"current": len(BASE), "total": len(BASE)}
    assert last["progress"] == f"[{'=' * 50}>]  307.2kB/307.2kB"
    assert [line.keys() for line in quiet] == [{"stream"}, {"images"}]


def test_an_image_without_a_name_is_told_by_its_id_and_belongs_to_who_brought_it(store: ImageStore) -> None:
    lines = list(store.load("alice", Pipe(docker_archive([TOP], None)), quiet=True))
    [image_id] = lines[-1]["images"]
    assert lines[0] == {"stream": f"Loaded image ID: {image_id}\n"}
    assert store.resolve("alice", image_id[7:19]).id == image_id
    with pytest.raises(NotFound):
        store.resolve("bob", image_id)


def test_a_name_that_moves_is_said_as_dockerd_says_it(store: ImageStore, load: Load) -> None:
    [old] = load(docker_archive([TOP], ["app"]))
    lines = list(store.load("alice", Pipe(docker_archive([BASE], ["app"])), quiet=True))
    assert lines[0] == {"stream": f"The image app:latest already exists, renaming the old one with ID {old} to empty string\n"}
    assert store.resolve("alice", old).id == old != store.resolve("alice", "app").id


def test_equal_layers_that_an_old_docker_saved_as_links_are_found(load: Load, store: ImageStore) -> None:
    manifest = [{"Config": "c.json", "RepoTags": ["linked:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    data = tar(
        file("c.json", image_config([TOP, TOP])), file("a/layer.tar", TOP), symlink("b/layer.tar", "../a/layer.tar"),
        file("manifest.json", json.dumps(manifest).encode()),
    )  # fmt: skip
    load(data)
    record = store.resolve("alice", "linked:1")
    assert len(set(record.chain_ids)) == 2 and len(set(record.diff_ids)) == 1


# -- OCI layouts -------------------------------------------------------------------------------------


@pytest.mark.guest
@pytest.mark.parametrize("inner", COMPRESSIONS)
@pytest.mark.parametrize("layout_first", [False, True])
def test_an_oci_layout_is_loaded_in_any_order_of_its_files(store: ImageStore, load: Load, inner: str, layout_first: bool) -> None:
    layout = Layout()
    layout.tops = [layout.image([BASE, TOP], COMPRESSIONS[inner], annotations=named("docker.io/library/app:2"))]
    [image_id] = load(layout.archive(layout_first=layout_first))
    assert store.resolve("alice", "app:2").id == image_id
    assert {path.name for path in store.config.blobs.iterdir()} == {name.rpartition("/")[2] for name in layout.files if "blobs" in name}


def test_of_an_index_this_hosts_platform_is_taken_and_attestations_are_not(store: ImageStore, load: Load) -> None:
    layout = Layout()
    ours = layout.image([TOP], platform={"os": "linux", "architecture": host_architecture()})
    elsewhere = {"digest": digest(b"elsewhere"), "size": 9, "platform": {"os": "linux", "architecture": "s390x"}}
    other = {"mediaType": f"{OCI}.manifest.v1+json", **elsewhere}
    unknown = {"os": "unknown", "architecture": "unknown"}
    attestation = layout.image([BASE], platform=unknown, annotations={"vnd.docker.reference.type": "x"})
    layout.tops = [layout.index([other, attestation, layout.index([ours])], annotations=named("app:multi"))]
    assert load(layout.archive()) == [store.resolve("alice", "app:multi").id]
    assert len(store.list("alice")) == 1


def test_an_index_without_this_platform_is_an_error_that_says_so(store: ImageStore) -> None:
    layout = Layout()
    other = layout.image([TOP], platform={"os": "linux", "architecture": "s390x"})
    layout.tops = [layout.index([other])]
    _fails(store, layout.archive(), "no match for platform linux/")


@pytest.mark.parametrize(("annotation", "name"), [("registry.example/team/app:3", "registry.example/team/app:3"), ("3", None)])
def test_names_in_the_standards_own_annotation_count_when_they_are_whole(
    store: ImageStore, load: Load, annotation: str, name: str | None
) -> None:
    layout = Layout()
    layout.tops = [layout.image([TOP], annotations={"org.opencontainers.image.ref.name": annotation})]
    load(layout.archive())
    assert list(store.refs("alice")) == ([name] if name else [])


def test_docker_save_of_today_has_both_forms_and_gives_one_image(store: ImageStore, load: Load) -> None:
    layout = Layout()
    layout.tops = [layout.image([BASE, TOP], annotations=named("docker.io/library/both:1"))]
    blobs = {digest(data): name for name, data in layout.files.items()}
    manifest = [{
        "Config": blobs[digest(image_config([BASE, TOP]))], "RepoTags": ["both:1"], "Layers": [blobs[digest(BASE)], blobs[digest(TOP)]],
    }]  # fmt: skip
    layout.files["manifest.json"] = json.dumps(manifest).encode()
    [image_id] = load(layout.archive())
    assert store.refs("alice") == {"both:1": image_id}
    assert layout.tops[0]["digest"][7:] in {path.name for path in store.config.blobs.iterdir()}


def test_blobs_named_by_sha512_are_accepted(store: ImageStore, load: Load) -> None:
    layout = Layout()
    top = layout.image([TOP])
    manifest = json.loads(layout.files.pop(f"blobs/sha256/{top['digest'][7:]}"))
    strong = hashlib.sha512(TOP).hexdigest()
    layout.files[f"blobs/sha512/{strong}"] = layout.files.pop(f"blobs/sha256/{digest(TOP)[7:]}")
    manifest["layers"][0]["digest"] = f"sha512:{strong}"
    layout.tops = [layout.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")]
    assert len(load(layout.archive())) == 1


# -- broken ones -------------------------------------------------------------------------------------


def _fails(store: ImageStore, data: bytes, sentence: str, kind: type[EngineError] = InvalidArgument) -> None:
    with pytest.raises(kind, match=sentence):
        list(store.load("alice", Pipe(data)))
    assert leftovers(store) == []
    assert store.list("alice") == []


def _layout(spoil: Callable[[Layout, dict[str, object]], None]) -> bytes:
    """A layout whose manifest ``spoil`` may change before it is sealed."""
    layout = Layout()
    top = layout.image([BASE, TOP])
    manifest = json.loads(layout.files.pop(f"blobs/sha256/{top['digest'][7:]}"))
    spoil(layout, manifest)
    layout.tops = [layout.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")]
    return layout.archive()


def _size(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["layers"][1]["size"] += 1


def _missing(layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    del layout.files[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"]


def _flipped(layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    name = f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"
    layout.files[name] = layout.files[name][:900] + b"X" + layout.files[name][901:]


def _fewer(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    del manifest["layers"][1]


def _version(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["schemaVersion"] = 1


def _type(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["mediaType"] = f"{OCI}.index.v1+json"


def _artifact(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["config"]["mediaType"] = "application/vnd.example.config"


def _upper_case(_layout: Layout, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest["layers"][0]["digest"] = manifest["layers"][0]["digest"].upper()


SPOILT = {
    _size: "its descriptor says", _missing: "is not in the archive", _flipped: "the archive is damaged", _fewer: "layers length mismatch",
    _version: "schemaVersion", _type: "says it is", _artifact: "only an artifact", _upper_case: "is no digest",
}  # fmt: skip


@pytest.mark.guest
@pytest.mark.parametrize("spoil", SPOILT)
def test_every_descriptor_is_checked_against_the_bytes(store: ImageStore, spoil: Callable[..., None]) -> None:
    _fails(store, _layout(spoil), SPOILT[spoil])


@pytest.mark.guest
@pytest.mark.parametrize("inner", COMPRESSIONS)
def test_a_flipped_bit_in_a_layer_leaves_nothing(store: ImageStore, inner: str) -> None:
    archive = bytearray(docker_archive([BASE, TOP], ["app:1"], COMPRESSIONS[inner]))
    archive[200_000] ^= 1
    _fails(store, bytes(archive), "layer .*(invalid diffID|damaged)")


@pytest.mark.guest
@pytest.mark.parametrize("outer", COMPRESSIONS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_stream_that_breaks_off_leaves_nothing(store: ImageStore, outer: str, part: float) -> None:
    whole = COMPRESSIONS[outer](docker_archive([BASE, TOP], ["app:1"]))
    _fails(store, whole[: int(len(whole) * part)], "unexpected end of file")


def _config(**changes: object) -> bytes:
    document = {**json.loads(image_config([TOP])), **changes}
    manifest = [{"Config": "c", "RepoTags": ["x"], "Layers": ["l"]}]
    return tar(file("c", json.dumps(document).encode()), file("l", TOP), file("manifest.json", json.dumps(manifest).encode()))


def _manifest(data: bytes) -> bytes:
    return tar(file("c", image_config([TOP])), file("l", TOP), file("manifest.json", data))


DAMAGED = {
    "an empty stream": (b"", "neither manifest.json nor index.json"),
    "no archive": (b"hello " * 1000, "invalid tar header"),
    "a root filesystem": (TOP, "goes to docker import"),
    "no JSON": (_manifest(b"{"), "manifest.json is not JSON"),
    "deep JSON": (_manifest(b"[" * 100_000), "manifest.json is not JSON"),
    "an object": (_manifest(b"{}"), "must be a list"),
    "no image": (_manifest(b"[]"), "no image in it"),
    "no config": (_manifest(b"[{}]"), "an entry without Config"),
    "a file that is not there": (_manifest(b'[{"Config":"d"}]'), "names 'd', which is not in it"),
    "a name in capitals": (_manifest(b'[{"Config":"c","RepoTags":["App"],"Layers":["l"]}]'), "must be lowercase"),
    "layers as text": (_manifest(b'[{"Config":"c","Layers":"l"}]'), "Layers must be a list"),
    "another system": (_config(os="windows"), "cannot load windows image on linux"),
    "no rootfs": (_config(rootfs=None), "rootfs.type must be"),
    "a diffID that climbs": (_config(rootfs={"type": "layers", "diff_ids": ["sha256:../../etc"]}), "must be sha256 digests"),
    "a wrong diffID": (_config(rootfs={"type": "layers", "diff_ids": [digest(BASE)]}), "invalid diffID"),
    "Env as text": (_config(config={"Env": "A=b"}), "config.Env has the wrong type"),
    "a zero byte in Cmd": (_config(config={"Cmd": ["a\0b"]}), "config.Cmd has the wrong type"),
    "a layer that climbs": (docker_archive([tar(file("../evil"))], ["x"]), "layer [0-9a-f]{12}: invalid tar entry '../evil'"),
    "a file name that climbs": (tar(file("../manifest.json", b"[]")), "may leave the tree"),
    "a link that climbs": (tar(symlink("manifest.json", "../../etc/passwd")), "may leave the tree"),
    "a link in a circle": (tar(symlink("manifest.json", "manifest.json")), "neither manifest.json"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_nonsense_is_refused_with_a_sentence_and_leaves_nothing(store: ImageStore, what: str) -> None:
    data, sentence = DAMAGED[what]
    _fails(store, data, sentence)


@pytest.mark.parametrize(("limits", "sentence"), [
    (Limits(archive_bytes=100_000), "the archive is larger than 100000 bytes"),
    (Limits(archive_entries=2), "more than 2 entries"),
    (Limits(layer_bytes=100_000), "the layer is larger than 100000 bytes"),
    (Limits(layer_entries=1), "the layer has more than 1 entries"),
    (Limits(layers=1), "has 2 layers; this host takes 1"),
    (Limits(document_bytes=10), "larger than 10 bytes"),
])  # fmt: skip
def test_every_limit_holds(tmp_path: Path, limits: Limits, sentence: str) -> None:
    store = ImageStore(EngineConfig(tmp_path / "data", tmp_path / "run"), limits)
    _fails(store, docker_archive([BASE, TOP], ["app:1"], gzip.compress), sentence)


def test_all_images_of_an_archive_come_or_none(store: ImageStore) -> None:
    good, bad = image_config([TOP]), image_config([BASE])
    manifest = [{"Config": "1", "RepoTags": ["good"], "Layers": ["a"]}, {"Config": "2", "RepoTags": ["bad"], "Layers": ["a"]}]
    _fails(store, tar(file("1", good), file("2", bad), file("a", TOP), file("manifest.json", json.dumps(manifest).encode())), "diffID")


def test_a_listener_that_goes_away_leaves_nothing(store: ImageStore) -> None:
    lines = store.load("alice", Pipe(docker_archive([BASE, TOP], ["app:1"])))
    assert isinstance(lines, Iterator) and next(lines)["status"] == "Loading layer"
    lines.close()  # type: ignore[attr-defined]
    assert leftovers(store) == []


@pytest.mark.guest
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], check=True)
    try:
        store = ImageStore(EngineConfig(tmp_path / "data", tmp_path / "run"))
        before = os.statvfs(tmp_path).f_bfree
        for size in (3_900_000, 9_000_000):  # the archive fits and its layers do not; not even the archive fits
            archive = docker_archive([tar(file("half", os.urandom(size // 2))), tar(file("rest", os.urandom(size)))], ["app:1"])
            _fails(store, archive, "no space left on this host's disk", Unavailable)
            assert os.statvfs(tmp_path).f_bfree >= before - 1
        assert len(list(store.load("alice", Pipe(docker_archive([TOP], ["app:1"]))))) >= 2
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# -- many at once ------------------------------------------------------------------------------------


@pytest.mark.guest
def test_loads_of_the_same_layers_at_once_all_succeed_and_keep_one_copy(store: ImageStore) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"], gzip.compress)

    def one(number: int) -> str:
        stores = ImageStore(store.config)
        return str(list(stores.load(f"tenant{number}", Pipe(archive, 65536), quiet=True))[-1]["images"][0])

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(one, range(16)))
    assert len(ids) == 1 and len(list(store.config.layers.iterdir())) == 2
    assert all(store.resolve(f"tenant{number}", "app:1").id in ids for number in range(16))
    assert list((store.config.engine / "incoming").iterdir()) == []


def test_loads_and_removals_of_the_same_image_at_once_never_lose_a_layer(store: ImageStore) -> None:
    archive = docker_archive([BASE, TOP], ["app:1"])

    def one(number: int) -> None:
        for _round in range(6):
            list(store.load(f"tenant{number}", Pipe(archive, 65536), quiet=True))
            image = store.resolve(f"tenant{number}", "app:1")
            for lower in store.lower_dirs(image):
                assert (store.config.engine / lower).is_dir()
            store.remove(f"tenant{number}", "app:1", in_use=lambda _image: [])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert leftovers(store) == []


def test_a_layer_that_is_here_already_must_be_brought_all_the_same(store: ImageStore, load: Load) -> None:
    load(docker_archive([BASE], ["theirs"], gzip.compress), tenant="bob")
    stolen = [{"Config": "c", "RepoTags": ["mine"], "Layers": ["l"]}]
    files = {"c": image_config([BASE]), "manifest.json": json.dumps(stolen).encode(), "l": gzip.compress(TOP)}
    with pytest.raises(InvalidArgument, match="invalid diffID"):
        load(tar(*(file(name, data) for name, data in files.items())))
    assert store.list("alice") == []


# -- places ------------------------------------------------------------------------------------------


def test_blobs_are_read_only_and_everything_else_is_roots_alone(store: ImageStore, load: Load) -> None:
    load(docker_archive([TOP], ["app:1"]))
    try:
        group = pwd.getpwnam("slipway").pw_gid
    except KeyError:
        group = 0
    for path in store.config.blobs.iterdir():
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid, path.stat().st_gid) == (0o440, 0, group)
        store.content.verify(path.name)
    assert stat.S_IMODE(store.config.blobs.stat().st_mode) == 0o750
    for path in (store.config.engine, store.config.layers, store.config.images, store.config.refs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_real_socket_feeds_a_load(store: ImageStore) -> None:
    ours, theirs = socket.socketpair()
    archive = docker_archive([BASE, TOP], ["app:1"])
    feeder = threading.Thread(target=lambda: (theirs.sendall(archive), theirs.close()))
    feeder.start()
    with ours, ours.makefile("rb", buffering=0) as stream:
        assert list(store.load("alice", stream))[-1]["images"]
    feeder.join()


def test_what_killed_processes_left_is_cleared_at_the_next_start(store: ImageStore, load: Load) -> None:
    [kept] = load(docker_archive([TOP], ["kept"]))
    dead = store.config.engine / "incoming" / "dead"
    (dead / "files").mkdir(parents=True)
    (dead / "files" / "0").write_bytes(b"half")
    (store.config.layers / ("f" * 64)).mkdir()
    load(docker_archive([BASE], ["lost"]), tenant="gone")
    (store.config.refs / "gone.json").unlink()
    store.recover()
    assert not dead.exists() and [record.id for record, _names in store.list("alice")] == [kept]
    assert {path.name for path in store.config.layers.iterdir()} == set(store.get(kept).chain_ids)
    assert len(list(store.config.blobs.iterdir())) == 2


def test_reading_in_memory_files_works_as_well(store: ImageStore) -> None:
    assert list(store.load("alice", io.BytesIO(docker_archive([TOP], ["app"]))))[-1]["images"]
