"""Builds on the real kernel: what each instruction does, what the cache saves, what is left over (nothing)."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from engine.builds import running
from engine.builds.builder import Builder
from engine.builds.pruning import prune
from engine.errors import EngineError, FailedPrecondition, InvalidArgument, NotFound
from engine.kernel import cgroups
from engine.model.build import BuildRequest
from engine.model.resources import Resources
from tests.engine.builds import building
from tests.engine.builds.building import TENANT, Bench, context, link

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with building.bench() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(bench: Bench) -> Iterator[None]:
    yield
    config = bench.engine.config
    assert [spec.name for spec, _state in bench.engine.list(TENANT)] == []
    assert list((config.engine / "incoming").iterdir()) == []
    assert list((config.builds / "running").iterdir()) == []


@pytest.mark.guest
def test_words_and_image(bench: Bench) -> None:
    dockerfile = 'FROM busybox\nENV A=b\nRUN echo out; echo err >&2; echo $A >/f\nCOPY x /d/\nWORKDIR /w\nCMD ["cat", "/f"]\n'
    built = bench.build(dockerfile, {"x": "hello"}, tags=("team/app", "app:2"))
    lines = built.text.splitlines()
    assert lines[0] == "Step 1/6 : FROM busybox" and lines[1].startswith(" ---> ")
    assert lines[2] == "Step 2/6 : ENV A=b" and lines[3].startswith(" ---> Running in ")
    assert lines[4].startswith(" ---> Removed intermediate container ")
    assert {"out", "\x1b[91merr"} <= set(lines)
    assert lines[-3:] == [f"Successfully built {built.record.id[7:19]}", "Successfully tagged team/app:latest", "Successfully tagged app:2"]
    assert {"aux": {"ID": built.record.id}} in built.lines
    files = bench.files(built.record)
    assert files["f"][3] == "b\n" and files["d/x"][3] == "hello" and files["w"][0] == "40755"
    config = built.record.config
    assert config["config"]["Cmd"] == ["cat", "/f"] and config["config"]["WorkingDir"] == "/w" and "A=b" in config["config"]["Env"]
    assert [bool(step.get("empty_layer")) for step in config["history"][1:]] == [True, False, False, False, True]
    assert config["history"][2]["created_by"] == "/bin/sh -c echo out; echo err >&2; echo $A >/f"
    assert bench.engine.images.refs(TENANT)["app:2"] == built.record.id


def test_everything_from_the_cache_is_the_same_image(bench: Bench) -> None:
    dockerfile = "FROM busybox\nRUN date +%N >/n\nCOPY a /\nLABEL x=y\n"
    first = bench.build(dockerfile, {"a": "1"})
    again = bench.build(dockerfile, {"a": "1"})
    assert again.record.id == first.record.id and again.text.count(" ---> Using cache\n") == 3
    assert "Running in" not in again.text
    other = bench.build(dockerfile, {"a": "2"})
    assert other.record.id != first.record.id and other.text.count(" ---> Using cache\n") == 1
    fresh = bench.build(dockerfile, {"a": "1"}, no_cache=True)
    assert fresh.record.id != first.record.id and "Using cache" not in fresh.text


def test_a_step_that_changes_nothing_has_no_layer(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN true\nRUN test -d /etc\n")
    assert len(built.record.chain_ids) == 1
    assert [step.get("empty_layer") for step in built.record.config["history"][1:]] == [True, True]


@pytest.mark.guest
def test_a_command_that_fails(bench: Bench) -> None:
    with pytest.raises(FailedPrecondition, match="The command '/bin/sh -c exit 3' returned a non-zero code: 3") as caught:
        bench.build("FROM busybox\nRUN exit 3\n")
    assert caught.value.detail["exit_code"] == 3
    with pytest.raises(EngineError, match="no-such"):
        bench.build('FROM busybox\nRUN ["/no-such"]\n')


def test_stages_and_copies_between_them(bench: Bench) -> None:
    dockerfile = (
        "ARG TAG=latest\nFROM busybox:$TAG AS one\nRUN echo 1 >/out; chown 7 /out\n"
        "FROM busybox AS two\nRUN echo 2 >/out\n"
        "FROM scratch\nCOPY --from=one /out /one\nCOPY --from=1 --chown=3:4 /out /two\nCOPY --from=busybox /bin/busybox /bin/\n"
    )
    built = bench.build(dockerfile)
    files = bench.files(built.record)
    assert files["one"][1:] == (7, 0, "1\n") and files["two"][1:] == (3, 4, "2\n") and "bin/busybox" in files
    numbers = [line.split()[1] for line in built.text.splitlines() if line.startswith("Step ")]
    assert numbers == [f"{number}/9" for number in range(1, 10)]
    one = bench.build(dockerfile, target="one")
    assert "out" in bench.files(one.record) and "Step 3/3" in one.text
    with pytest.raises(InvalidArgument, match='target stage "three" could not be found'):
        bench.build(dockerfile, target="three")


def test_a_failing_stage_ends_the_others(bench: Bench) -> None:
    began = time.monotonic()
    with pytest.raises(FailedPrecondition, match="non-zero code: 9"):
        bench.build(
            "FROM busybox AS a\nRUN sleep 300\nFROM busybox AS b\nRUN exit 9\nFROM busybox\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
        )
    assert time.monotonic() - began < 200


def test_arguments_and_their_traces(bench: Bench) -> None:
    dockerfile = "FROM busybox\nARG A=1\nARG B\nRUN echo $A-$B >/f\n"
    built = bench.build(dockerfile, args={"B": "2", "C": "unused"})
    assert bench.files(built.record)["f"][3] == "1-2\n"
    assert built.record.config["history"][-1]["created_by"] == "|2 A=1 B=2 /bin/sh -c echo $A-$B >/f"
    assert "[Warning] One or more build-args [C] were not consumed\n" in built.text
    assert not any(item.startswith("A=") for item in built.record.config["config"]["Env"])


def test_owners_by_name(bench: Bench) -> None:
    dockerfile = (
        "FROM busybox\nRUN echo me:x:1234:1234::/:/bin/sh >>/etc/passwd; echo me:x:1234: >>/etc/group\n"
        "COPY --chown=me a /a\nCOPY --chown=me:0 --chmod=600 a /b\n"
    )
    files = bench.files(bench.build(dockerfile, {"a": ""}).record)
    assert files["a"][1:3] == (1234, 1234) and files["b"][:3] == ("100600", 1234, 0)
    with pytest.raises(InvalidArgument, match="unable to convert uid/gid chown string to host mapping"):
        bench.build("FROM busybox\nCOPY --chown=nobody-here a /a\n", {"a": ""})


def test_heredocs(bench: Bench) -> None:
    dockerfile = (
        "FROM busybox\nARG WHO=you\nRUN <<EOF\necho one >/1\necho $WHO >/2\nEOF\n"
        'RUN <<EOF\n#!/bin/sh -e\necho script >/3\nEOF\nCOPY <<a.txt <<"b.txt" /d/\nhello $WHO\na.txt\nraw $WHO\nb.txt\n'
    )
    files = bench.files(bench.build(dockerfile).record)
    assert [files[name][3] for name in ("1", "2", "3", "d/a.txt", "d/b.txt")] == ["one\n", "you\n", "script\n", "hello you\n", "raw $WHO\n"]
    assert "dev/pipes" not in files


@pytest.mark.guest
def test_mounts_of_a_run(bench: Bench) -> None:
    dockerfile = (
        "FROM busybox AS other\nRUN echo other >/o\nFROM busybox\n"
        "RUN --mount=type=bind,target=/ctx --mount=type=bind,from=other,source=/o,target=/in/o cat /ctx/sub/a /in/o >/out\n"
        "RUN --mount=type=cache,target=/cache echo x >>/cache/n; wc -l </cache/n >/count\n"
        "RUN --mount=type=tmpfs,target=/t,size=1048576 echo x >/t/f && grep ' /t ' /proc/mounts >/m\n"
        "RUN --mount=type=bind,target=/ctx,rw rm -r /ctx/sub && ls /ctx >/left\n"
    )
    built = bench.build(dockerfile, {"sub/a": "a\n"})
    files = bench.files(built.record)
    assert files["out"][3] == "a\nother\n" and files["count"][3].strip() == "1" and files["left"][3] == "Dockerfile\n"
    assert not {"ctx", "in", "cache", "t"} & files.keys()
    again = bench.build(dockerfile, {"sub/a": "a\n"}, no_cache=True)
    assert bench.files(again.record)["count"][3].strip() == "2"
    changed = bench.build(dockerfile, {"sub/a": "b\n"})
    assert bench.files(changed.record)["out"][3] == "b\nother\n"
    with pytest.raises(EngineError, match="ead-only"):
        raise_unless_refused(bench)


def raise_unless_refused(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN --mount=type=bind,target=/ctx touch /ctx/x 2>/said; cat /said; true\n")
    raise InvalidArgument(built.text)


def test_triggers_of_a_base(bench: Bench) -> None:
    bench.build("FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a >/b\n", {"a": ""}, tags=("trigger",))
    built = bench.build("FROM trigger\nRUN cat /b >/c\n", {"a": "x"})
    assert "# Executing 2 build triggers\n" in built.text
    assert bench.files(built.record)["c"][3] == "x" and not built.record.config["config"]["OnBuild"]


def test_labels_health_and_the_rest(bench: Bench) -> None:
    dockerfile = (
        'FROM busybox\nMAINTAINER me\nEXPOSE 80 443/udp\nVOLUME /v\nUSER 7\nSTOPSIGNAL SIGQUIT\nSHELL ["/bin/ash", "-c"]\n'
        "HEALTHCHECK --interval=5s CMD true\nENTRYPOINT exec top\n"
    )
    built = bench.build(dockerfile, labels={"b": "2", "a": "1"})
    config = built.record.config["config"]
    assert config["Labels"] == {"a": "1", "b": "2"} and set(config["ExposedPorts"]) == {"80/tcp", "443/udp"}
    assert config["Volumes"] == {"/v": {}} and config["User"] == "7" and config["StopSignal"] == "SIGQUIT"
    assert config["Entrypoint"] == ["/bin/ash", "-c", "exec top"] and config["Cmd"] is None
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9}
    assert built.record.config["author"] == "me"
    assert "Step 11/11 : LABEL b=2" in built.text


@pytest.mark.guest
def test_network_and_limits(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN --network=none ls /sys/class/net >/n\nRUN ls /sys/class/net >/m\n")
    files = bench.files(built.record)
    assert "eth0" not in files["n"][3] and "eth0" in files["m"][3]
    built = bench.build(
        "FROM busybox\nRUN cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null >/p; true\nRUN cat /etc/hosts >/h\n",
        resources=Resources(pids_limit=77),
        extra_hosts=("there:10.1.2.3",),
    )
    assert bench.files(built.record)["p"][3].strip() == "77"
    assert "10.1.2.3\tthere" in bench.files(built.record)["h"][3]


def test_the_same_bytes_with_a_source_date(bench: Bench) -> None:
    dockerfile = "FROM busybox\nARG SOURCE_DATE_EPOCH\nCOPY a /a\nRUN echo x >/b\nRUN mkdir /d\n"
    words = {"args": {"SOURCE_DATE_EPOCH": "1600000000"}, "no_cache": True}
    first, second = (bench.build(dockerfile, {"a": "1"}, **words) for _ in range(2))
    assert first.record.diff_ids == second.record.diff_ids
    assert first.record.config["created"] == "2020-09-13T12:26:40Z"


def test_squash(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN echo 1 >/a; echo 2 >/b\nRUN rm /a /bin/wget; echo 3 >/b\nCMD x\n", squash=True)
    assert len(built.record.chain_ids) == 2
    files = bench.files(built.record)
    assert "a" not in files and "bin/wget" not in files and files["b"][3] == "3\n"
    assert built.record.config["history"][-1]["comment"].startswith("merge sha256:")


def test_cache_from_an_image_that_came_from_elsewhere(bench: Bench) -> None:
    dockerfile = "FROM busybox\nRUN date +%N >/n\nENV A=1\nCOPY a /\n"
    first = bench.build(dockerfile, {"a": "1"}, tags=("seed",))
    prune(bench.engine.images, TENANT, {})
    again = bench.build(dockerfile, {"a": "1"}, cache_from=("seed", "not-here"))
    assert again.record.diff_ids == first.record.diff_ids and again.text.count("Using cache") == 3
    assert bench.build(dockerfile, {"a": "1"}, no_cache=True).record.diff_ids != first.record.diff_ids


def test_pruning_leaves_images_alone(bench: Bench) -> None:
    kept = bench.build("FROM busybox\nRUN echo kept >/k\n", tags=("kept",))
    done = prune(bench.engine.images, TENANT, {})
    assert done["caches"] and done["bytes"] > 0
    assert bench.files(kept.record)["k"][3] == "kept\n"
    assert "Using cache" not in bench.build("FROM busybox\nRUN echo kept >/k\n").text
    assert prune(bench.engine.images, TENANT, {"until": ["24h"]})["caches"] == []
    with pytest.raises(InvalidArgument, match="invalid filter"):
        prune(bench.engine.images, TENANT, {"what": []})


def test_a_removed_image_leaves_the_cache_whole(bench: Bench) -> None:
    dockerfile = "FROM busybox\nRUN date +%N >/n\n"
    first = bench.build(dockerfile, tags=("gone",))
    bench.engine.remove_image(TENANT, "gone")
    again = bench.build(dockerfile)
    assert again.record.id == first.record.id and "Using cache" in again.text


@pytest.mark.parametrize(
    ("dockerfile", "sentence"),
    [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("FROM nowhere/at:all\n", "No such image: nowhere/at:all"),
        (
            "FROM busybox\nCOPY none /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat none: file",
        ),
        ("FROM busybox\nCOPY *.none /\n", "COPY failed: no source files were specified"),
        ("FROM busybox\nCOPY --from=nowhere /a /\n", "invalid from flag value nowhere: No such image: nowhere:latest"),
        ("FROM scratch\n", "No image was generated. Is your Dockerfile empty?"),
        ("FROM scratch\nRUN true\n", "there is no file in scratch"),
    ],
)
def test_refusals(bench: Bench, dockerfile: str, sentence: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)) as caught:
        bench.build(dockerfile)
    assert sentence in caught.value.message


def test_where_the_dockerfile_is(bench: Bench) -> None:
    assert bench.build("FROM no\n", {"sub/My.file": "FROM busybox\n"}, dockerfile="sub/My.file").image
    with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile: nope"):
        bench.build("FROM no\n", dockerfile="nope")
    files = bench.files(bench.build("FROM busybox\nCOPY . /c/\n", {".dockerignore": "*.log\nDockerfile\n", "a.log": "", "b": ""}).record)
    assert {name for name in files if name.startswith("c/")} == {"c/.dockerignore", "c/b"}


@pytest.mark.guest
def test_nothing_of_a_context_is_followed(bench: Bench) -> None:
    evil = {"e": link("/etc"), "up": link("../../../../../etc/shadow"), "a": "x"}
    files = bench.files(bench.build("FROM busybox\nCOPY . /c/\n", evil).record)
    assert files["c/e"][3] == "/etc" and files["c/up"][3].endswith("shadow")
    for source in ("up", "e/shadow"):
        with pytest.raises(InvalidArgument, match="file not found in build context"):
            bench.build(f"FROM busybox\nCOPY {source} /c/\n", evil)


@pytest.mark.guest
def test_an_image_cannot_lead_a_copy_outside(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN ln -s /etc/passwd /p; ln -s ../../../../../../etc /e\n", tags=("evil",))
    built = bench.build("FROM evil\nCOPY a /e/passwd-\nCOPY a /p\n", {"a": "mine"})
    files = bench.files(built.record)
    assert files["etc/passwd-"][3] == files["etc/passwd"][3] == "mine"


@pytest.mark.guest
def test_cancelled(bench: Bench) -> None:
    request = BuildRequest(id=secrets.token_hex(16), tenant=TENANT)
    builder = Builder(bench.engine, request)
    said: list[str] = []

    def say(line: dict[str, object]) -> None:
        said.append(str(line.get("stream", "")))
        if "begun\n" in said[-1]:
            threading.Thread(target=builder.cancel, args=("Build cancelled",)).start()

    with pytest.raises(running.Cancelled, match="Build cancelled"):
        builder.build(context("FROM busybox\nRUN echo begun; sleep 600\n", {}), say)


@pytest.mark.guest
def test_what_a_killed_build_left_is_cleared(bench: Bench) -> None:
    engine = bench.engine
    pid = os.fork()
    if pid == 0:
        try:
            request = BuildRequest(id=secrets.token_hex(16), tenant=TENANT)
            Builder(type(engine)(engine.config), request).build(context("FROM busybox\nRUN sleep 600\n", {}), lambda _line: None)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 120
    while not any(state.has_process for _spec, state in engine.list(TENANT)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.clear_dead(engine)
    assert engine.list(TENANT)  # it is under way: nobody clears it
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (spec, _state), *_ = engine.list(TENANT)
    running.clear_dead(engine)
    assert engine.list(TENANT) == [] and not cgroups.exists(engine.cgroup(spec))
    engine.images.recover()


def test_another_tenant_sees_nothing_of_it(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN echo mine >/m\n", tags=("mine",))
    steps = [path.name for path in (bench.engine.config.builds / "cache" / TENANT / "held").iterdir()]
    for name in ("mine", built.record.id, *steps):
        with pytest.raises(NotFound):
            bench.engine.images.resolve("stranger", f"sha256:{name}" if len(name) == 64 else name)
    request = BuildRequest(id=secrets.token_hex(16), tenant="stranger")
    lines: list[dict[str, object]] = []
    Builder(bench.engine, request).build(context("FROM busybox\nRUN echo mine >/m\n", {}), lines.append)
    assert not any("Using cache" in str(line.get("stream")) for line in lines)


def test_steps_are_no_images(bench: Bench) -> None:
    built = bench.build("FROM busybox\nRUN echo 1 >/1\nRUN echo 2 >/2\n")
    shown = [line.removeprefix(" ---> ") for line in built.text.splitlines() if line.startswith(" ---> ") and len(line) == 18]
    middle = next(each for each in held(bench) if each[7:19] == shown[1])
    listed = {record.id for record, _names in bench.engine.images.list(TENANT)}
    assert built.record.id in listed and middle not in listed
    assert bench.engine.images.resolve(TENANT, middle).id == middle  # a container of the build's is made of it


def held(bench: Bench) -> list[str]:
    return [f"sha256:{path.name}" for path in (bench.engine.config.builds / "cache" / TENANT / "held").iterdir()]


def test_at_the_command_line(bench: Bench, tmp_path: object) -> None:
    config = bench.engine.config
    environment = {**os.environ, "SLIPWAY_DATA": str(config.data), "SLIPWAY_RUN": str(config.run)}
    command = ["python3", "-m", "engine", "--tenant", TENANT, "build", "-t", "cli", "--build-arg", "A=5", "-"]
    done = subprocess.run(
        command, input=b"FROM busybox\nARG A\nRUN echo $A\n", env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"\n5\n" in done.stdout and b"Successfully tagged cli:latest" in done.stdout
