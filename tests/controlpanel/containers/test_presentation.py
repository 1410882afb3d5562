"""A container in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import translation

from controlpanel.base.templatetags.figures import age, iec, in_words
from controlpanel.containers import presentation
from controlpanel.containers.command import run_command
from engine.model.container import ContainerSpec, ContainerState, Status

ID = "ab" * 32


def view(
    state: ContainerState | None = None, *, desired: str = "created", host_seq: int = 0, spec: dict[str, Any] | None = None, **docker: Any
) -> Any:
    state = state or ContainerState(id=ID)
    words = {
        "id": ID,
        "tenant": "acme",
        "name": "web",
        "image_id": "sha256:" + "cd" * 32,
        "image": "busybox",
        "args": ("sh",),
        **(spec or {}),
    }
    return SimpleNamespace(
        id=ID, name="web", image="busybox", host="local", state=state, status=state.status, desired=desired, host_seq=host_seq,
        spec=ContainerSpec(**words), is_running=state.status in (Status.RUNNING, Status.PAUSED), created_at_ns=1,
        docker_config=docker.get("config", {}), docker_host_config=docker.get("host", {}),
    )  # fmt: skip


def exited(code: int, **words: Any) -> ContainerState:
    return ContainerState(id=ID, status=Status.EXITED, seq=2, run=1, exit_code=code, finished_at_ns=10**18, **words)


@pytest.mark.parametrize(
    ("state", "word", "tone", "why"),
    [
        (exited(0), "exited (0)", "secondary", ""),
        (exited(3), "exited (3)", "red", ""),
        (exited(137), "exited (137)", "red", "killed (SIGKILL)"),
        (exited(137, oom_killed=True), "exited (137)", "red", "killed: out of memory"),
        (exited(143), "exited (143)", "red", "terminated (SIGTERM)"),
        (exited(139), "exited (139)", "red", "crashed: segmentation fault (SIGSEGV)"),
        (ContainerState(id=ID, exit_code=127, error='exec: "x": not found'), "not started", "red", "command not found"),
        (ContainerState(id=ID, exit_code=128, error="no such network"), "not started", "red", "could not be started"),
        (ContainerState(id=ID), "created", "secondary", ""),
        (ContainerState(id=ID, status=Status.RUNNING, seq=1, run=1, started_at_ns=10**18), "running", "green", ""),
    ],
)
def test_a_state_has_a_word_a_colour_and_a_reason(state: ContainerState, word: str, tone: str, why: str) -> None:
    row = presentation.row(view(state))
    assert (row.state, row.tone, row.why, row.detail, row.unsettled) == (word, tone, why, state.error, False)


@pytest.mark.parametrize(
    ("desired", "status", "host_seq", "word"),
    [
        ("stopped", Status.RUNNING, 1, "stopping…"),
        ("running", Status.CREATED, 0, "starting…"),
        ("removed", Status.EXITED, 2, "removing…"),
        ("created", Status.CREATED, -1, "creating…"),
    ],
)
def test_what_was_asked_and_is_not_so_yet_is_said(desired: str, status: Status, host_seq: int, word: str) -> None:
    row = presentation.row(view(ContainerState(id=ID, status=status), desired=desired, host_seq=host_seq))
    assert (row.state, row.tone, row.unsettled) == (word, "blue", True)


def test_the_command_says_what_differs_from_image_and_defaults() -> None:
    image = {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"by": "us"}, "WorkingDir": "/srv"}
    same = {**image, "Hostname": ID[:12], "Image": "busybox"}
    assert run_command(view(config=same), image) == "docker run -d --name web busybox"
    config = {
        **same, "Tty": True, "OpenStdin": True, "Env": ["PATH=/bin", "A=b c"], "Entrypoint": ["sh", "-c"], "Cmd": ["echo $A"],
        "User": "1000", "Labels": {"by": "us", "x": "y"}, "StopTimeout": 3, "Hostname": "box",
    }  # fmt: skip
    host = {
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 20, "ReadonlyRootfs": True,
        "AutoRemove": True, "Tmpfs": {"/run": "size=1m", "/tmp": ""}, "MemorySwap": 0, "ShmSize": 0,
    }  # fmt: skip
    assert run_command(view(spec={"network_mode": "none"}, config=config, host=host), image) == (
        "docker run -d --name web -t -i --rm --network none --cpus 1.5 --memory 67108864 --pids-limit 20 --read-only --tmpfs /run:size=1m "
        "--tmpfs /tmp --cap-add NET_ADMIN --cap-drop ALL --user 1000 --hostname box --stop-timeout 3 -e 'A=b c' -l x=y "
        "--entrypoint sh busybox -c 'echo $A'"
    )


def test_figures_are_short_and_in_the_readers_language() -> None:
    assert [iec(value) for value in (0, 1023, 1024, 1536, 150 << 20, 5 << 40)] == ["0 B", "1023 B", "1 KiB", "1.5 KiB", "150 MiB", "5 TiB"]
    assert [in_words(value) for value in (-2, 0, 59, 60, 7200, 90_000, 10**8)] == ["0 s", "0 s", "59 s", "1 min", "2 h", "1 d", "3 y"]
    assert age(None) == "–"
    with translation.override("zh-hans"):
        assert in_words(120) == "2 分钟"
