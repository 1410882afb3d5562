"""A name is in a layer once (image-spec), however often it was put there: the last one wins."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conformance import built as images
from tests.engine.builds import building
from tests.engine.builds.building import TENANT, Bench, add

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with building.bench() as made:
        yield made


def archive(*files: tuple[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files:
            add(tar, name, content)
    return out.getvalue()


def layers(bench: Bench, tag: str, path: Path) -> Sequence[Sequence[str]]:
    with open(path, "wb", buffering=0) as file:
        bench.engine.images.save(bench.engine.images.choose(TENANT, [tag]), file.fileno())
    return images.read(path).layers[1:]


def test_archives_with_the_same_names(bench: Bench, tmp_path: Path) -> None:
    files = {
        "one.tar": archive(("same", "1"), ("sub/x", "1"), ("own", "1")),
        "two.tar": archive(("sub/x", "2"), ("same", "2")),
        "twice.tar": archive(("f", "first"), ("d/g", "x"), ("f", "last")),
    }
    built = bench.build("FROM busybox\nADD one.tar two.tar /both/\nADD twice.tar /t/\n", files, tags=("repeated",))
    found = bench.files(built.record)
    assert [found[name][3] for name in ("both/same", "both/sub/x", "both/own", "t/f", "t/d/g")] == ["2", "2", "1", "last", "x"]
    assert layers(bench, "repeated", tmp_path / "i.tar") == [["/both/own", "/both/same", "/both/sub/x"], ["/t/d/g", "/t/f"]]


def test_folders_with_the_same_names(bench: Bench, tmp_path: Path) -> None:
    files = {"a/same": "1", "a/dir/x": "1", "b/same": "2", "b/dir/y": "2", "same": "3"}
    built = bench.build("FROM busybox\nCOPY a b same /d/\n", files, tags=("folders",))
    found = bench.files(built.record)
    assert [found[name][3] for name in ("d/same", "d/dir/x", "d/dir/y")] == ["3", "1", "2"]
    assert layers(bench, "folders", tmp_path / "i.tar") == [["/d/dir/x", "/d/dir/y", "/d/same"]]


def test_paths_that_are_kept_and_what_is_left_out_of_them(bench: Bench) -> None:
    files = {"t/a.md": "", "t/k": "", "t/sub/deep/b.md": "", "t/sub/x.c": "", "t/sub/deep/y.c": ""}
    dockerfile = (
        "FROM busybox\nCOPY --parents t/**/*.c /one/\nCOPY --parents --exclude=*/a.md --exclude=**/deep ./t /two/\n"
        "COPY --parents t/./sub /three/\n"
    )
    found = {name for name, told in bench.files(bench.build(dockerfile, files).record).items() if told[0].startswith("100")}
    assert {name for name in found if name.startswith("one")} == {"one/t/sub/x.c", "one/t/sub/deep/y.c"}
    assert {name for name in found if name.startswith("two")} == {"two/t/k", "two/t/sub/x.c"}
    assert {name for name in found if name.startswith("three")} == {"three/sub/deep/b.md", "three/sub/x.c", "three/sub/deep/y.c"}


def test_folders_on_the_way_have_the_mode_that_was_asked_for(bench: Bench) -> None:
    dockerfile = "FROM busybox\nCOPY --chmod=700 f /new/deep/f\nCOPY --chmod=u=rwX,go=rX f /other/f\nCOPY --chmod=640 f /tmp/f\n"
    found = bench.files(bench.build(dockerfile, {"f": ""}).record)
    assert [found[name][0] for name in ("new", "new/deep", "new/deep/f", "other", "other/f", "tmp", "tmp/f")] == [
        "40700", "40700", "100700", "40755", "100644", found["tmp"][0], "100640",
    ]  # fmt: skip
