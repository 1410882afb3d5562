"""Variables in instructions, the scopes of ARG, stages, triggers, scripts and modes."""

from __future__ import annotations

from typing import Any

import pytest

from engine.builds.dockerfile import model
from engine.builds.dockerfile.expansion import expanded
from engine.builds.dockerfile.model import Arg, Dockerfile, DockerfileError, Mount, Run
from engine.builds.dockerfile.modes import changed
from engine.builds.dockerfile.parse import parse
from engine.builds.dockerfile.scopes import GlobalScope, automatic_arguments
from engine.builds.dockerfile.script import Script, run_script
from engine.builds.dockerfile.stages import base_of, needed, source_of, target_of
from engine.builds.dockerfile.triggers import parse_triggers

ENV = {"x": "one two", "d": "/data", "n": "8080", "e": ""}


def first(text: str) -> Any:
    return parse(f"FROM x\n{text}\n".encode()).stages[0].instructions[0]


EXPANDED: list[tuple[str, dict[str, Any]]] = [
    ("ENV a$n=$x x=2 b=$x", {"pairs": (("a8080", "one two"), ("x", "2"), ("b", "one two"))}),
    ("ENV a '$x' \"$x\"", {"pairs": (("a", "$x one two"),)}),
    ("LABEL a='$x' b=\"$x\"", {"pairs": (("a", "$x"), ("b", "one two"))}),
    ("WORKDIR $d/x", {"path": "/data/x"}), ("USER ${n}:$n", {"user": "8080:8080"}), ("VOLUME $d /b", {"paths": ("/data", "/b")}),
    ('VOLUME ["$d", "/b c"]', {"paths": ("/data", "/b c")}), ("STOPSIGNAL ${s:-SIGTERM}", {"signal": "SIGTERM"}),
    ("EXPOSE $n ${p:-1} 127.0.0.1:80:90 5-6 $x2 3/UDP", {"words": ("8080", "1", "127.0.0.1:80:90", "3/UDP", "5-6"),
     "ports": ("8080/tcp", "1/tcp", "90/tcp", "3/udp", "5/tcp", "6/tcp")}),
    ("COPY --chown=$n --chmod=${m:-0755} $d/a \"b c\" $d/", {"owner": "8080", "mode": "0755", "sources": ("/data/a", '"b', 'c"')}),
    ("ADD --checksum=sha256:$n https://h/$n /x", {"checksum": "sha256:8080", "sources": ("https://h/8080",)}),
    ("RUN echo $x", {"command": model.Command(words=("echo $x",), in_shell=True)}),
    ("CMD $x", {"command": model.Command(words=("$x",), in_shell=True)}),
    ("RUN --mount=type=cache,id=$n,target=$d,sharing=locked,mode=0755,uid=1,gid=$e2 x", {}),
    ("RUN --mount=src=a,dst=/b,rw --mount=type=secret,id=s,env=S,required --mount=type=ssh --mount=type=tmpfs,target=$d,size=1.5g x",
     {"mounts": (
        Mount(type="bind", source="a", target="/b", is_read_only=False), Mount(type="secret", id="s", env="S", is_required=True),
        Mount(type="ssh"), Mount(type="tmpfs", target="/data", is_read_only=False, size_bytes=3 << 29))}),
    ("RUN --mount=type=cache,target=$d,sharing=locked,mode=0755,uid=1,gid=2,ro x", {"mounts": (
        Mount(type="cache", target="/data", sharing="locked", mode=0o755, uid=1, gid=2, is_read_only=True),)}),
    ("RUN --mount='type=bind,\"source=a,b\",target=/x,from=Base' x",
     {"mounts": (Mount(type="bind", source="a,b", target="/x", from_="Base"),)}),
]  # fmt: skip
WRONG_WORDS = [text for text, wanted in EXPANDED if not wanted or '"b c" $d/' in text]


@pytest.mark.parametrize(("text", "wanted"), [each for each in EXPANDED if each[0] not in WRONG_WORDS])
def test_variables_are_replaced(text: str, wanted: dict[str, Any]) -> None:
    found = expanded(first(text), ENV)
    assert {name: getattr(found, name) for name in wanted} == wanted and found.text == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((text, "failed to process|invalid value") for text in WRONG_WORDS), ("ENV $e=1", "ENV names can not be blank"), ("WORKDIR $e",
        "cannot normalize nothing"),
        ("VOLUME $e", "VOLUME specified can not be an empty string"), ("STOPSIGNAL $x", "invalid signal: one two"), ("EXPOSE http",
        "Invalid containerPort: http"),
        ("EXPOSE 9-8", "Invalid containerPort: 9-8"), ("EXPOSE 1/x", "Invalid proto: x"), ("EXPOSE 70000",
        "Invalid containerPort: 70000"), ("EXPOSE $e", "EXPOSE requires"),
        ("EXPOSE 80:", "No port specified"), ("COPY http://h/x /y", "source can't be a URL for COPY"), ("COPY git@h:x/y.git /y",
        "source can't be a git ref for COPY"),
        ("COPY https://h/x.git#main:sub /y", "can't be a git ref"), ("COPY a b /c", "the destination must be a directory and end with a /"),
        ("COPY --chmod=99 a b", "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777"),
        ("COPY --chmod=u+z a b", "invalid chmod parameter"),
        ("ADD --checksum=sha256:a x y", r"checksum requires HTTP\(S\) or Git sources"), ("ADD --checksum=sha256:a http://a http://b y/",
        "checksum can't be specified for multiple"),
        ("COPY $e /x", "cannot take an empty path"), ("USER ${u:?who}", "u: who"),
    ],
)  # fmt: skip
def test_what_only_shows_then(text: str, sentence: str) -> None:
    with pytest.raises(DockerfileError, match=sentence) as caught:
        expanded(first(text), ENV)
    assert caught.value.detail["line"] == 2


def test_documents_are_expanded_unless_their_name_is_quoted() -> None:
    copy = expanded(first("COPY <<A <<'B' /x/\n$n it's \\$n \udc00\nA\n$n\nB".encode(errors="replace").decode()), ENV)
    assert [each.content for each in copy.documents] == [b"8080 it's $n ?\n", b"$n\n"]
    raw = parse(b"FROM x\nCOPY <<A /x\n$n\xff\0\nA\n").stages[0].instructions[0]
    assert expanded(raw, ENV).documents[0].content == b"8080\xff\0\n"  # type: ignore[attr-defined]


def test_of_from_with_the_global_scope() -> None:
    base = parse(b"FROM --platform=$P ${I}:$V\n").stages[0].base
    found = expanded(base, {"P": "linux/arm64", "I": "busybox", "V": "1"})
    assert (found.image, found.platform) == ("busybox:1", "linux/arm64")
    with pytest.raises(DockerfileError, match=r"base name \(\$I\) should not be blank"):
        expanded(parse(b"FROM $I\n").stages[0].base, {})


def arg(text: str) -> Arg:
    return parse(f"ARG {text}\nFROM x\n".encode()).arguments[0]


def test_an_argument_has_the_given_value_or_the_default_or_the_global_one() -> None:
    scope = GlobalScope(
        {"given": "g", "unused": "u", "HTTP_PROXY": "p", "null": None}, automatic_arguments("linux/amd64", "linux/arm/v7", "web")
    )
    assert scope.env()["TARGETVARIANT"] == "v7" and scope.env()["TARGETSTAGE"] == "web" and scope.env()["BUILDARCH"] == "amd64"
    scope.declare(arg("base=1 given=no"))
    assert scope.declare(arg("derived=$base-$given")).pairs == (("derived", "1-g"),)
    stage = scope.stage()
    assert "base" not in stage.env([]) and stage.env([])["HTTP_PROXY"] == "p"
    stage.declare(arg("base given derived=mine other missing TARGETARCH"), [])
    assert stage.for_history([]) == ["TARGETARCH=arm", "base=1", "derived=mine", "given=g"]
    assert stage.for_run(["given=of env"]) == ["HTTP_PROXY=p", "TARGETARCH=arm", "base=1", "derived=mine"]
    assert stage.env(["base=env wins"])["base"] == "env wins"
    assert stage.declare(arg("HTTP_PROXY x=$base"), ["base=e"]).pairs == (("HTTP_PROXY", None), ("x", "e"))
    assert "HTTP_PROXY=p" in stage.for_history([])
    assert scope.stage(stage).env([])["x"] == "e" and "x" not in scope.stage().env([])
    assert scope.unused() == ["null", "unused"]


def test_a_default_that_is_not_needed_may_be_wrong() -> None:
    assert GlobalScope({"a": "1"}, {}).declare(arg("a=${b:?never}")).pairs == (("a", "${b:?never}"),)
    with pytest.raises(DockerfileError, match="b: never"):
        GlobalScope({}, {}).declare(arg("a=${b:?never}"))


STAGES = b"""FROM a AS one
FROM b AS two
COPY --from=One x y
FROM c
FROM two AS four
RUN --mount=from=2,target=/x y
COPY --from=img:1 a b
"""
FILE = parse(STAGES)


def test_which_stage_is_meant() -> None:
    assert [target_of(FILE, name) for name in ("", "ONE", "two", "2")] == [3, 0, 1, 2]
    assert [source_of(FILE, 3, name) for name in ("one", "TWO", "0", "2", "alpine", "9a")] == [0, 1, 0, 2, None, None]
    assert base_of(FILE, 3, "Two") == 1 and base_of(FILE, 1, "two") is None and base_of(FILE, 3, "0") is None
    assert needed(FILE, 3, ["a", "b", "c", "two"]) == [0, 1, 2, 3] and needed(FILE, 1, ["a", "b", "c", "two"]) == [0, 1]
    assert needed(FILE, 0, ["a"], {0: parse_triggers(["COPY --from=img x y"])}) == [0]


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: target_of(FILE, "fuor"), r'target stage "fuor" could not be found \(did you mean four\?\)'),
        (lambda: target_of(FILE, "7"), 'target stage "7" could not be found'),
        (lambda: source_of(FILE, 1, "four"), 'cannot copy from stage "four", it needs to be defined before current stage "two"'),
        (lambda: source_of(FILE, 2, "2"), "invalid from flag value 2: refers to current build stage"),
        (lambda: source_of(FILE, 2, "5"), "invalid from flag value 5: index out of bounds"),
        (lambda: target_of(parse(b"FROM a AS x\nFROM b AS X\n"), ""), "line 2: x stage name already used"),
    ],
)  # fmt: skip
def test_a_stage_that_is_not_there(act: Any, sentence: str) -> None:
    with pytest.raises(DockerfileError, match=sentence):
        act()


def test_triggers() -> None:
    copy, run = parse_triggers(["COPY a b", "RUN <<E\nx\nE"])
    assert isinstance(copy, model.Copy) and isinstance(run, Run) and run.heredocs[0].content == b"x\n"
    for text, sentence in (
        ("RUN x\nRUN y", "single expression"),
        ("", "single expression"),
        ("FROM x", "isn't allowed"),
        ("FOO", "unknown instruction"),
    ):
        with pytest.raises(DockerfileError, match=sentence):
            parse_triggers([text])


SH = ("/bin/sh", "-c")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("RUN a b", Script(words=(*SH, "a b"))), ('RUN ["a", "b"]', Script(words=("a", "b"))),
        ("RUN <<E\na\n\tb\nE", Script(words=(*SH, "a\n\tb\n"))), ("RUN <<-'E'\n\ta\nE", Script(words=(*SH, "a\n"))),
        ("RUN <<E\n#!/bin/x\ny\nE", Script(words=(*SH, "/dev/pipes/E"), file=("/dev/pipes/E", b"#!/bin/x\ny\n"))),
        ("RUN python3 <<E\na\nE", Script(words=(*SH, "python3 <<E\na\nE"))),
        ("RUN cat <<A >x && cat <<-B\na\nA\n\tb\nB", Script(words=(*SH, "cat <<A >x && cat <<-B\na\nA\n\tb\nB"))),
    ],
)  # fmt: skip
def test_what_run_executes(text: str, wanted: Script) -> None:
    assert run_script(first(text), SH) == wanted


@pytest.mark.parametrize(
    ("text", "mode", "is_folder", "wanted"),
    [
        ("755", 0o600, False, 0o755), ("04711", 0, False, 0o4711), ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("u=rwX,go=rX", 0o600, True, 0o755), ("a-w", 0o777, False, 0o555), ("+x", 0o644, False, 0o755), ("g=u", 0o640, False, 0o660),
        ("u+s", 0o755, False, 0o4755), ("g+s,o+t", 0o755, True, 0o2755), ("+t", 0o755, True, 0o1755), ("go=", 0o777, False, 0o700),
        ("u=rw-x", 0o777, False, 0o677), ("=r", 0o777, False, 0o444), ("o=g-r", 0o750, False, 0o751),
    ],
)  # fmt: skip
def test_modes(text: str, mode: int, is_folder: bool, wanted: int) -> None:
    assert oct(changed(text, mode, is_folder)) == oct(wanted)


def test_a_file_is_a_value() -> None:
    assert isinstance(FILE, Dockerfile) and hash(FILE.stages[0].base) and parse(STAGES) == FILE
