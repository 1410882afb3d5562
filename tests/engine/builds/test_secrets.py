"""RUN --mount=type=secret: there for one step, in no layer, no history and no cache."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from engine.errors import EngineError, InvalidArgument
from engine.model.build import MAX_SECRET, check_secret
from tests.engine.builds import building
from tests.engine.builds.building import Bench

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup"), pytest.mark.guest]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with building.bench() as made:
        yield made


def given(**values: bytes) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def test_a_secret_is_a_file_or_a_variable_of_one_step(bench: Bench) -> None:
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=token,uid=7,gid=8,mode=0440 stat -c '%a %u %g' /run/secrets/token >/stat\n"
        "RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token,target=/in/here "
        "sh -c 'echo $TOKEN | wc -c; wc -c </in/here' >/n\n"
        'RUN --mount=type=secret,id=token,target=/in/ro sh -c "echo x >/in/ro" 2>/ro; true\n'
        'RUN ls /run/secrets /in >/left 2>&1; echo "${TOKEN-unset}" >>/left; true\n'
    )
    built = bench.build(dockerfile, secrets=given(token=b"very-secret"))
    files = bench.files(built.record)
    assert files["stat"][3] == "440 7 8\n" and files["n"][3].split() == ["12", "11"] and files["left"][3].endswith("unset\n")
    assert "ead-only" in files["ro"][3] and not {"run/secrets", "run/secrets/token", "in", "in/here", "in/ro"} & files.keys()
    assert "very-secret" not in str(built.lines) + str(built.record.config) + str(files)


def test_another_value_does_not_spoil_the_cache_and_another_place_does(bench: Bench) -> None:
    step = "FROM busybox\nRUN --mount=type=secret,id=a,target=/a cat /a | wc -c >/n\n"
    assert bench.files(bench.build(step, secrets=given(a=b"1")).record)["n"][3] == "1\n"
    again = bench.build(step, secrets=given(a=b"22"))
    assert " ---> Using cache\n" in again.text and bench.files(again.record)["n"][3] == "1\n"
    moved = bench.build(step.replace("/a", "/b"), secrets=given(a=b"22"))
    assert "Using cache" not in moved.text and bench.files(moved.record)["n"][3] == "2\n"


def test_what_was_not_given(bench: Bench) -> None:
    built = bench.build(
        'FROM busybox\nRUN --mount=type=secret,id=no --mount=type=ssh test ! -e /run/secrets/no && echo "${SSH_AUTH_SOCK-unset}"\n'
    )
    assert "\nunset\n" in built.text
    with pytest.raises(InvalidArgument, match=r"^secret no: not found$"):
        bench.build("FROM busybox\nRUN --mount=type=secret,id=no,required true\n")
    with pytest.raises(EngineError, match="--mount=type=ssh,required is not supported"):
        bench.build("FROM busybox\nRUN --mount=type=ssh,required true\n")


def test_what_is_no_secret_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="is not base64"):
        check_secret("a", "?")
    with pytest.raises(InvalidArgument, match="is too big, the maximum size is 500KiB"):
        check_secret("a", base64.b64encode(b"x" * (MAX_SECRET + 1)).decode())
