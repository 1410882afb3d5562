"""RUN --mount=type=secret: there for one step, in no layer, no history and no cache."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.model.build import MAX_SECRET, check_secret
from tests.engine.builds import building
from tests.engine.builds.building import Bench

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with building.bench() as made:
        yield made


def given(**values: bytes) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


@pytest.mark.guest
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
    with pytest.raises(InvalidArgument, match=r"^unset ssh forward key default$"):
        bench.build("FROM busybox\nRUN --mount=type=ssh,required true\n")


@pytest.mark.guest
def test_a_step_can_use_a_key_and_has_it_not(bench: Bench, tmp_path: Path) -> None:
    """The agent is asked by the container's root and by its user 7, is gone afterwards, and takes no code or keys from a step."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ours", "-f", tmp_path / "key"], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True).stdout
    files = program("ssh-add")
    dockerfile = (
        "FROM busybox\nCOPY --chmod=755 . /\n"
        "RUN --mount=type=ssh,required echo $SSH_AUTH_SOCK >/where; ssh-add -l >/listed 2>&1\n"
        "RUN --mount=type=ssh ssh-add -s /lib/x.so </dev/null 2>/code; true\n"
        "USER 7\nRUN --mount=type=ssh,id=other,uid=7,target=/tmp/a ssh-add -l >/tmp/seven 2>&1\n"
        "RUN --mount=type=ssh ssh-add -l >/tmp/denied 2>&1; ls /tmp /run >/tmp/left; true\n"
    )
    key = (tmp_path / "key").read_bytes()
    built = bench.build(dockerfile, files, ssh=given(default=key, other=key))
    found = bench.files(built.record)
    assert found["where"][3] == "/run/buildkit/ssh_agent.0\n"
    assert found["listed"][3] == shown and found["tmp/seven"][3] == shown
    assert "refused" in found["code"][3] and "ermission denied" in found["tmp/denied"][3]
    assert "a\n" not in found["tmp/left"][3] and not {"run/buildkit", "tmp/a"} & found.keys()
    assert b"PRIVATE KEY" not in str(found).encode()
    assert not agents()


def test_a_key_that_is_none_is_refused_in_one_sentence(bench: Bench) -> None:
    with pytest.raises(InvalidArgument, match=r"^ssh key default: ssh-add does not take it"):
        bench.build("FROM busybox\nRUN --mount=type=ssh true\n", ssh=given(default=b"no key"))
    assert not agents()


def program(name: str) -> dict[str, bytes]:
    """One of this machine's programs with its libraries, for an image that has none."""
    path = shutil.which(name)
    assert path is not None
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", said)
    return {file.lstrip("/"): Path(file).read_bytes() for file in (path, *libraries)}


def agents() -> list[str]:
    """Ours: no other has this option."""
    rows = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [row for row in rows if "ssh-agent -D -P none" in row]


def test_what_is_no_secret_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="is not base64"):
        check_secret("a", "?")
    with pytest.raises(InvalidArgument, match="is too big, the maximum size is 500KiB"):
        check_secret("a", base64.b64encode(b"x" * (MAX_SECRET + 1)).decode())
