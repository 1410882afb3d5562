"""Archives made to hurt: each ends with one sentence or costs little, stays inside, and leaves nothing."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from engine.errors import InvalidArgument
from engine.images.imageconfig import MAX_VALUES
from engine.images.limits import Limits
from engine.images.store import ImageStore
from engine.images.streams import WINDOW_BYTES, decompressed, drain
from tests.engine.images.archives import OCI, Layout, Pipe, docker_archive, file, folder, image_config, named, symlink, tar
from tests.engine.images.conftest import leftovers

pytestmark = pytest.mark.requires("root")

ROOT = Path(__file__).resolve().parents[3]
TOP = tar(file("etc/motd", b"hello"))


def refused(store: ImageStore, archive: bytes, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        list(store.load("alice", Pipe(archive, 1 << 20)))
    assert leftovers(store) == []


# -- tars --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_gigabytes_of_zeros_take_no_room(store: ImageStore, compress: object) -> None:
    """128 MiB here; ten gigabytes are only longer."""
    size = 128 << 20
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = size
        archive.addfile(info, _Zeros(size))
        small = tarfile.TarInfo("behind")
        small.size = 5
        archive.addfile(small, io.BytesIO(b"small"))
    data = docker_archive([layer.getvalue()], ["bomb:1"], compress)  # type: ignore[arg-type]
    assert len(data) < 1 << 20
    del layer
    list(store.load("alice", Pipe(data, 1 << 20)))
    record = store.resolve("alice", "bomb:1")
    tree = store.layers.diff(record.chain_ids[0])
    status = (tree / "zeros").stat()
    assert status.st_size == record.size_bytes - 5 == size and status.st_blocks * 512 < 1 << 20
    assert (tree / "behind").read_bytes() == b"small"


def test_a_file_that_ends_with_zeros_has_its_whole_length(store: ImageStore) -> None:
    content = os.urandom(300_000) + bytes(700_000) + b"x" + bytes(500_000)
    list(store.load("alice", Pipe(docker_archive([tar(file("f", content))], ["a:1"]))))
    assert (store.layers.diff(store.resolve("alice", "a:1").chain_ids[0]) / "f").read_bytes() == content


def test_a_layer_beyond_the_limit_ends_with_its_number(store: ImageStore) -> None:
    store.limits = Limits(layer_bytes=1 << 20)
    refused(store, docker_archive([tar(file("zeros", bytes(4 << 20)))], ["a:1"], gzip.compress), "the layer is larger than 1048576 bytes")


def test_more_entries_than_the_limit_end_with_its_number(store: ImageStore) -> None:
    store.limits = Limits(layer_entries=1000)
    many = tar(*(file(f"d/{number}") for number in range(1001)))
    refused(store, docker_archive([many], ["a:1"], gzip.compress), "the layer has more than 1000 entries, the limit of this host")


def test_names_with_newlines_and_control_characters_are_only_names(store: ImageStore) -> None:
    names = ["a\nb", "\x1b[31mred", "tab\there", "..\n", "back\\slash", "-rf", "\u202eevil"]
    list(store.load("alice", Pipe(docker_archive([tar(*(file(name, b"x") for name in names))], ["a:1"]))))
    tree = store.layers.diff(store.resolve("alice", "a:1").chain_ids[0])
    assert {path.name for path in tree.iterdir()} == set(names)


def test_a_link_that_takes_a_folders_place_leads_nowhere_outside(store: ImageStore, tmp_path: Path) -> None:
    """etc is a folder, then a link to the host's, then something is to be written through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = tar(
        folder("etc"), file("etc/passwd", b"ours"), symlink("etc", str(outside)), file("etc/passwd", b"theirs"),
        symlink("up", "../../../../../../../../.."), file(f"up{outside}/escaped", b"x"),
    )  # fmt: skip
    list(store.load("alice", Pipe(docker_archive([layer], ["a:1"]))))
    assert list(outside.iterdir()) == []
    tree = store.layers.diff(store.resolve("alice", "a:1").chain_ids[0])
    assert (tree / "etc").is_symlink() and (tree / str(outside).lstrip("/") / "passwd").read_bytes() == b"theirs"
    assert (tree / str(outside).lstrip("/") / "escaped").exists()


# -- compressions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27)).compress(bytes(200 << 20)),
    lzma.compress(b"small", preset=9),
], ids=["zstd", "xz"])  # fmt: skip
def test_a_window_that_would_fill_the_memory_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=rf"needs a window of more than {WINDOW_BYTES >> 20} MiB, the limit of this host"):
        drain(decompressed(iter([data])))


def test_the_strongest_usual_levels_are_read() -> None:
    text = os.urandom(100_000)
    for data in (zstandard.compress(text, 19), lzma.compress(text, preset=8), gzip.compress(text, 9)):
        assert b"".join(decompressed(iter([data]))) == text


# -- manifests ---------------------------------------------------------------------------------------


def test_a_hundred_megabytes_of_manifest_are_not_read(store: ImageStore) -> None:
    huge = b'[{"Config": "' + b"x" * (100 << 20) + b'"}]'
    refused(store, tar(file("manifest.json", huge)), "manifest.json is larger than 4194304 bytes, the limit of this host")


def test_a_document_of_very_many_little_values_is_not_read(store: ImageStore) -> None:
    refused(store, tar(file("manifest.json", b"[" + b"[]," * MAX_VALUES + b"[]]")), f"more than {MAX_VALUES} values")


def test_a_config_beyond_its_limit_is_refused(store: ImageStore) -> None:
    config = json.dumps({**json.loads(image_config([TOP])), "x": "y" * (5 << 20)}).encode()
    manifest = json.dumps([{"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}]).encode()
    refused(store, tar(file("c", config), file("l", TOP), file("manifest.json", manifest)), "the image config is larger than 4194304 bytes")


def test_more_images_than_the_limit_are_refused_before_they_are_read(store: ImageStore) -> None:
    entry = {"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}
    files = [file("c", image_config([TOP])), file("l", TOP), file("manifest.json", json.dumps([entry] * 1001).encode())]
    refused(store, tar(*files), "the archive has more than 1000 images, the limit of this host")


def test_one_big_config_named_by_many_images_is_read_only_so_often(store: ImageStore) -> None:
    config = json.dumps({**json.loads(image_config([TOP])), "x": "y" * 1_000_000}).encode()
    entry = {"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}
    files = [file("c", config), file("l", TOP), file("manifest.json", json.dumps([entry] * 1000).encode())]
    refused(store, tar(*files), "manifests and configs are more than 33554432 bytes")


def test_indexes_that_name_each_other_a_million_times_are_read_once(store: ImageStore) -> None:
    """Ten thousand references to an index of ten thousand references …: without a memory that would be 10^12 looks."""
    layout = Layout()
    foreign = layout.image([TOP], platform={"os": "linux", "architecture": "s390x"})
    inner = layout.index([foreign] * 5_000)
    middle = layout.index([inner] * 5_000)
    layout.tops = [layout.index([middle] * 5_000)]
    refused(store, layout.archive(), "no match for platform linux/")


def test_an_index_that_goes_too_deep_is_refused(store: ImageStore) -> None:
    layout = Layout()
    top = layout.image([TOP])
    for _depth in range(6):
        top = layout.index([top])
    layout.tops = [top]
    refused(store, layout.archive(), "indexes in indexes in indexes")


def test_an_index_cannot_name_itself(store: ImageStore) -> None:
    """Its digest would have to be known before it is written: whatever is claimed, the bytes are hashed."""
    layout = Layout()
    claim = "ab" * 32
    body = {"mediaType": f"{OCI}.index.v1+json", "digest": f"sha256:{claim}", "size": 10}
    layout.files[f"blobs/sha256/{claim}"] = json.dumps({"schemaVersion": 2, "manifests": [body]}).encode()
    layout.tops = [body]
    refused(store, layout.archive(), f"the archive is damaged: blobs/sha256/{claim} has the digest sha256:")


def test_descriptors_without_a_platform_are_looked_at_once(store: ImageStore) -> None:
    layout = Layout()
    image = layout.image([TOP], annotations=named("app:1"))
    layout.tops = [dict(image) for _ in range(1000)]
    assert list(store.load("alice", Pipe(layout.archive())))[-1]["images"] == [store.resolve("alice", "app:1").id]


# -- memory ------------------------------------------------------------------------------------------

_CHILD = """
import io, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine.config import EngineConfig
from engine.images.store import ImageStore
base = Path(sys.argv[2])
store = ImageStore(EngineConfig(base / "data", base / "run"))
for line in store.load("alice", sys.stdin.buffer):
    last = line
with open(os.devnull, "wb") as out:
    store.save(store.choose("alice", last["images"]), out.fileno())
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))  # ru_maxrss outlives execve
"""


def test_the_memory_of_load_and_save_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """Two layers of 150 MB, of 1,200 files and of one; then the whole process has used what it says, in MiB."""
    layers = [_random_layer(1200, 125_000), _random_layer(1, 150_000_000)]
    archive = tmp_path / "archive.tar"
    archive.write_bytes(docker_archive(layers, ["big:1"], lambda data: gzip.compress(data, 0)))
    del layers
    with archive.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(ROOT), str(tmp_path)], stdin=stdin, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 150


def _random_layer(files: int, size: int) -> bytes:
    piece = os.urandom(size)
    return tar(*(file(f"f{number}", piece) for number in range(files)))


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = bytes(min(size, self._left))
        self._left -= len(data)
        return data


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A mistake here must not take the machine along."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
