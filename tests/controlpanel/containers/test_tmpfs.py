"""File systems in memory, asked for in both of Docker's ways."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import tmpfs
from engine.errors import InvalidArgument


def mount(**members: Any) -> dict[str, Any]:
    return {"Mounts": [{"Type": "tmpfs", "Target": "/t", **members}]}


def test_both_ways_become_options_of_one_path() -> None:
    asked = {"Tmpfs": {"/a": "size=1m,exec", "/b": ""}, **mount(ReadOnly=True, TmpfsOptions={"SizeBytes": 4096, "Mode": 0o700})}
    assert tmpfs.read(asked) == {"/a": "size=1m,exec", "/b": "", "/t": "ro,size=4096,mode=700"}
    assert [(point["Destination"], point["RW"]) for point in tmpfs.mount_points(asked)] == [("/t", False)]
    assert tmpfs.read({}) == {} and tmpfs.mount_points({"Mounts": None}) == []


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        ({"Tmpfs": {"/t": "nonsense"}}, InvalidArgument, 'invalid tmpfs option "nonsense"'),
        ({"Tmpfs": {"/t": "size"}}, InvalidArgument, 'invalid tmpfs option "size"'),
        ({"Tmpfs": {"t": ""}}, InvalidArgument, "must be absolute"),
        ({"Tmpfs": {"/t": ""}, **mount()}, InvalidArgument, "Duplicate mount point: /t"),
        (mount(Target=""), InvalidArgument, "field Target must not be empty"),
        (mount(Target="t"), InvalidArgument, "must be absolute"),
        (mount(Source="/x"), InvalidArgument, "field Source must not be specified"),
        (mount(TmpfsOptions={"SizeBytes": -1}), InvalidArgument, "number of bytes"),
        (mount(TmpfsOptions={"Mode": 0o70000}), InvalidArgument, "07777"),
        (mount(TmpfsOptions=7), InvalidArgument, "TmpfsOptions"),
    ],
)
def test_what_is_wrong_is_said(asked: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as refused:
        tmpfs.read(asked)
    assert sentence in str(refused.value)
