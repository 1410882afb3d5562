from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from engine.errors import InvalidArgument
from engine.images.changes import apply_changes
from engine.images.store import ImageStore
from engine.model.platform import host_architecture
from tests.engine.images.archives import Pipe, device, digest, file, folder, plain, symlink, tar
from tests.engine.images.conftest import leftovers

# What debootstrap leaves: devices, absolute links, a set-uid program, names below ./ and from the root.
ROOTFS = tar(
    folder("./"), folder("./dev"), device("./dev/null", 1, 3, mode=0o666), folder("/usr/bin"), symlink("bin", "usr/bin"),
    file("bin/su", b"su", mode=0o4755), symlink("./var/run", "/run"), folder("run"), file("var/run/utmp"), folder("tmp", mode=0o1777),
)  # fmt: skip


@pytest.mark.guest
@pytest.mark.requires("root")
@pytest.mark.parametrize("compress", [plain, gzip.compress, zstandard.compress, lzma.compress])
def test_a_root_filesystem_becomes_an_image_of_one_layer(store: ImageStore, compress: Callable[[bytes], bytes]) -> None:
    changes, stream = ['CMD ["sh"]', "ENV A=b"], compress(ROOTFS)  # once: a gzip header tells its second
    lines = list(store.import_rootfs("alice", Pipe(stream), ref="debian", changes=changes, message="from the disk"))
    image = store.resolve("alice", "debian:latest")
    assert lines == [{"status": image.id}, {"images": [image.id]}]
    assert image.diff_ids == (digest(ROOTFS),) and image.config["config"] == {"Cmd": ["sh"], "Env": ["A=b"]}
    assert (image.config["architecture"], image.config["os"]) == (host_architecture(), "linux")
    assert image.config["history"][0]["comment"] == image.config["comment"] == "from the disk"
    root = store.config.engine / store.lower_dirs(image)[0]
    assert (root / "usr/bin/su").stat().st_mode & 0o7777 == 0o4755 and (root / "run/utmp").exists()
    assert {path.name for path in store.config.blobs.iterdir()} == {image.id[7:], digest(stream)[7:]}
    assert json.loads(store.content.path(image.id[7:]).read_bytes()) == image.config


@pytest.mark.requires("root")
def test_without_a_name_and_a_message_the_image_is_known_by_its_id(store: ImageStore) -> None:
    [_status, last] = store.import_rootfs("alice", Pipe(ROOTFS))
    image = store.resolve("alice", last["images"][0])
    assert image.config["comment"] == "Imported from -" and store.refs("alice") == {}


@pytest.mark.requires("root")
@pytest.mark.parametrize(("data", "ref", "changes"), [
    (tar(file("../evil")), "x", []), (gzip.compress(ROOTFS)[:-20], "x", []), (ROOTFS[:1500], "x", []), (b"text" * 500, "x", []),
    (ROOTFS, "Upper", []), (ROOTFS, "x@sha256:" + "0" * 64, []), (ROOTFS, "x", ["RUN rm -rf /"]),
])  # fmt: skip
def test_a_bad_import_leaves_nothing(store: ImageStore, data: bytes, ref: str, changes: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        list(store.import_rootfs("alice", Pipe(data), ref=ref, changes=changes))
    assert leftovers(store) == []


CHANGES: list[tuple[list[str], dict[str, Any]]] = [
    (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
    (["cmd echo $HOME | cat"], {"Cmd": ["/bin/sh", "-c", "echo $HOME | cat"]}),
    (["CMD []"], {"Cmd": []}),
    (['CMD ["not json]'], {"Cmd": ["/bin/sh", "-c", '["not json]']}),
    (['ENTRYPOINT ["/init"]', "ENTRYPOINT exec top"], {"Entrypoint": ["/bin/sh", "-c", "exec top"]}),
    (["ENV A=1 B='two words' C=\"x\\\"y\" D=a\\ b"], {"Env": ["A=1", "B=two words", 'C=x"y', "D=a b"]}),
    (["ENV PATH /bin:/usr/bin and more", "ENV PATH=/bin"], {"Env": ["PATH=/bin"]}),
    (["EXPOSE 80 443/tcp 53/udp", "EXPOSE 80-81"], {"ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "53/udp": {}, "81/tcp": {}}}),
    (['LABEL a=b "c d"="e f"', "LABEL a=z"], {"Labels": {"a": "z", "c d": "e f"}}),
    (['VOLUME ["/data", "/more"]', "VOLUME /x /y"], {"Volumes": {"/data": {}, "/more": {}, "/x": {}, "/y": {}}}),
    (["USER nobody:nogroup", "WORKDIR /srv", "WORKDIR app", "STOPSIGNAL SIGINT"],
     {"User": "nobody:nogroup", "WorkingDir": "/srv/app", "StopSignal": "SIGINT"}),
    (["USER a\nWORKDIR /b"], {"User": "a", "WorkingDir": "/b"}),
    (["ONBUILD RUN make"], {"OnBuild": ["RUN make"]}),
]  # fmt: skip


@pytest.mark.guest
@pytest.mark.parametrize(("changes", "config"), CHANGES)
def test_changes_are_read_as_a_dockerfile_reads_them(changes: list[str], config: dict[str, Any]) -> None:
    assert apply_changes(changes) == config


@pytest.mark.parametrize(("change", "sentence"), [
    ("RUN make", "RUN is not a valid change command"), ("ENV", "requires at least one argument"), ("ENV A=1 B", "can't find = in"),
    ("ENV A", "must have two arguments"), ("LABEL =x", "names can not be blank"), ("EXPOSE http", "invalid containerPort: http"),
    ("EXPOSE 70000", "invalid containerPort"), ("EXPOSE 9-8", "invalid containerPort"), ("USER a b", "exactly one argument"),
    ("STOPSIGNAL SIGNOPE", "invalid signal"), ('VOLUME [""]', "empty string"), ("ONBUILD ONBUILD RUN x", "isn't allowed"),
])  # fmt: skip
def test_what_is_no_change_is_refused_with_a_sentence(change: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        apply_changes([change])
