"""A Dockerfile → its stages and instructions: every instruction and flag, and every sentence about what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from engine.builds.dockerfile import model
from engine.builds.dockerfile.model import Command, DockerfileError, Heredoc, Instruction
from engine.builds.dockerfile.parse import parse


def one(text: str) -> Instruction:
    """The instruction after ``FROM x``."""
    (instruction,) = parse(f"FROM x\n{text}\n".encode()).stages[0].instructions
    return instruction


def shell(line: str) -> Command:
    return Command(words=(line,), in_shell=True)


def words(*each: str) -> Command:
    return Command(words=each, in_shell=False)


INSTRUCTIONS: list[tuple[str, type[Instruction], dict[str, Any]]] = [
    ("ENV a=1 b='x y' c=\\ z", model.Env, {"pairs": (("a", "1"), ("b", "'x y'"), ("c", "\\ z")), "is_old_form": False}),
    ("ENV a the = rest  of", model.Env, {"pairs": (("a", "the = rest  of"),), "is_old_form": True}),
    ("LABEL a=b com.x/y=\"1 2\"", model.Label, {"pairs": (("a", "b"), ("com.x/y", '"1 2"')), "is_old_form": False}),
    ("LABEL a b c", model.Label, {"pairs": (("a", "b c"),), "is_old_form": True}),
    ("ARG a b=1 c=", model.Arg, {"pairs": (("a", None), ("b", "1"), ("c", ""))}),
    ("MAINTAINER Some One <x@y>", model.Maintainer, {"name": "Some One <x@y>"}),
    ("RUN echo  hi", model.Run, {"command": shell("echo  hi"), "network": "default", "mount_flags": ()}),
    ('RUN ["a", "b c"]', model.Run, {"command": words("a", "b c")}),
    ('RUN ["a", "b c"] # no', model.Run, {"command": shell('["a", "b c"] # no')}),
    ("RUN ['a']", model.Run, {"command": shell("['a']")}),
    ("RUN --network=none --mount=type=tmpfs,target=/t --mount=target=/s x", model.Run,
     {"network": "none", "mount_flags": ("type=tmpfs,target=/t", "target=/s"), "command": shell("x")}),
    ("CMD echo hi", model.Cmd, {"command": shell("echo hi")}),
    ('CMD ["a"]', model.Cmd, {"command": words("a")}),
    ("CMD []", model.Cmd, {"command": words()}),
    ('ENTRYPOINT [ "/x" , "-v" ]', model.Entrypoint, {"command": words("/x", "-v")}),
    ("ENTRYPOINT exec top", model.Entrypoint, {"command": shell("exec top")}),
    ('SHELL ["/bin/bash", "-c"]', model.Shell, {"words": ("/bin/bash", "-c")}),
    ("COPY a b/", model.Copy, {"sources": ("a",), "target": "b/", "from_": "", "is_link": False, "keeps_parents": False}),
    ('COPY ["a b", "c d"]', model.Copy, {"sources": ("a b",), "target": "c d"}),
    ("COPY --from=0 --chown=1:2 --chmod=755 --link --parents --exclude=*.o --exclude=x a b /c/", model.Copy,
     {"from_": "0", "owner": "1:2", "mode": "755", "is_link": True, "keeps_parents": True, "excludes": ("*.o", "x"), "sources": ("a",
     "b")}),
    ("COPY --link=false a b", model.Copy, {"is_link": False}),
    ("ADD --checksum=sha256:aa --keep-git-dir=true --unpack=false --chmod=u=rwX,go=rX http://h/x /y", model.Add,
     {"checksum": "sha256:aa", "keeps_git_dir": True, "unpacks": False, "mode": "u=rwX,go=rX", "sources": ("http://h/x",)}),
    ("ADD a.tar /", model.Add, {"keeps_git_dir": None, "unpacks": None, "sources": ("a.tar",), "target": "/"}),
    ("WORKDIR /a b", model.Workdir, {"path": "/a b"}),
    ("USER a:b", model.User, {"user": "a:b"}),
    ('VOLUME ["/a", "/b c"]', model.Volume, {"paths": ("/a", "/b c")}),
    ("VOLUME /a  /b", model.Volume, {"paths": ("/a", "/b")}),
    ("EXPOSE 90/udp 80 100-102", model.Expose, {"words": ("100-102", "80", "90/udp")}),
    ("STOPSIGNAL SIGQUIT", model.Stopsignal, {"signal": "SIGQUIT"}),
    ("HEALTHCHECK NONE", model.Healthcheck, {"test": ("NONE",)}),
    ("HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0 --start-interval=1.5s --retries=2 CMD a b", model.Healthcheck,
     {"test": ("CMD-SHELL", "a b"), "interval_ns": 90 * 10**9, "timeout_ns": 5 * 10**8, "start_period_ns": 0,
      "start_interval_ns": 15 * 10**8, "retries": 2}),
    ('healthcheck cmd ["a", "b"]', model.Healthcheck, {"test": ("CMD", "a", "b")}),
    ("ONBUILD  run x y", model.Onbuild, {"trigger": "run x y"}),
    ("OnBuild COPY --from=x a b", model.Onbuild, {"trigger": "COPY --from=x a b"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "wanted"), INSTRUCTIONS, ids=[text for text, *_rest in INSTRUCTIONS])
def test_an_instruction_is_read(text: str, kind: type[Instruction], wanted: dict[str, Any]) -> None:
    instruction = one(text)
    assert type(instruction) is kind and instruction.text == text and (instruction.first_line, instruction.last_line) == (2, 2)
    assert {name: getattr(instruction, name) for name in wanted} == wanted


WRONG = [
    ("FOO bar", "unknown instruction: FOO"), ("RUNN x", r"unknown instruction: RUNN \(did you mean RUN\?\)"),
    ("copu a b", r"unknown instruction: copu \(did you mean copy\?\)"), ("ENV", "ENV requires at least one argument"),
    ("ENV a", "ENV must have two arguments"), ("ENV a=1 b", "Syntax error - can't find = in \"b\". Must be of the form: name=value"),
    ("ENV =1", "ENV names can not be blank"), ("LABEL", "LABEL requires at least one argument"), ("ARG",
    "ARG requires at least one argument"),
    ("ARG =x", "ARG names can not be blank"), ("MAINTAINER", "MAINTAINER requires exactly one argument"),
    ("WORKDIR", "WORKDIR requires exactly one argument"), ("USER", "USER requires exactly one argument"),
    ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"), ("RUN", "RUN requires at least one argument"),
    ("RUN [1]", "when using JSON array syntax, arrays must be comprised of strings only"), ("RUN --foo x", "unknown flag: --foo"),
    ("RUN --mout=x y", r"unknown flag: --mout \(did you mean mount\?\)"), ("RUN --network x", "missing a value on flag: --network"),
    ("RUN --network=none --network=none x", "duplicate flag specified: --network"), ("RUN --network=some x",
    "invalid network mode \"some\""),
    ("RUN --network=host x", "network.host is not allowed"), ("RUN --security=insecure x", "security.insecure is not allowed"),
    ("RUN --security=x y", 'security "x" is not valid'), ("RUN --device=x y", "--device is not supported"), ("CMD --x",
    "unknown flag: --x"),
    ("SHELL", "SHELL requires at least one argument"), ("SHELL []", "SHELL requires at least one argument"),
    ("SHELL sh -c", "SHELL requires the arguments to be in JSON form"),
    ("COPY a", "COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
    ("ADD", "ADD requires at least two arguments"), ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
    ("COPY --link= a b", "missing a value on flag: --link"), ("COPY --checksum=x a b", "unknown flag: --checksum"),
    ("ADD --from=x a b", "unknown flag: --from"), ("COPY --from=$x a b", "variable expansion is not supported for --from"),
    ("COPY a <<EOF\nx\nEOF", "COPY cannot accept a heredoc as a destination"), ("VOLUME", "VOLUME requires at least one argument"),
    ('VOLUME ["/a", " "]', "VOLUME specified can not be an empty string"), ("EXPOSE", "EXPOSE requires at least one argument"),
    ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"), ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
    ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"), ("HEALTHCHECK RUN x", 'Unknown type "RUN" in HEALTHCHECK'),
    ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
    ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
    ("HEALTHCHECK --timeout=x CMD x", 'time: invalid duration "x"'),
    ("HEALTHCHECK --timeout=1y CMD x", 'time: unknown unit "y" in duration "1y"'),
    ("HEALTHCHECK --retries=-1 CMD x", r"--retries cannot be negative \(-1\)"),
    ("HEALTHCHECK --retries=x CMD x", 'strconv.ParseInt: parsing "x": invalid syntax'), ("ONBUILD",
    "ONBUILD requires at least one argument"),
    ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"), ("ONBUILD FROM x",
    "FROM isn't allowed as an ONBUILD trigger"),
    ("FROM", "FROM requires either one or three arguments"), ("FROM a b", "FROM requires either one or three arguments"),
    ("FROM a AS 1x", 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
    ("FROM --foo=1 a", "unknown flag: --foo"), ("RUN <<EOF\nx", "unterminated heredoc"), ("RUN a\0b", "NUL byte"),
    ("RUN --mount=type=foo x", 'unsupported mount type "foo"'), ("RUN --mount=type=cash x", r"\(did you mean cache\?\)"),
    ("RUN --mount=foo=1 x", "unexpected key 'foo' in 'foo=1'"), ("RUN --mount=tagret=/x x", r"\(did you mean target\?\)"),
    ("RUN --mount=foo x", "invalid field 'foo' must be a key=value pair"), ("RUN --mount=type=secret x", "invalid secret mount"),
    ("RUN --mount=from=$x,target=/y x", "'from' doesn't support variable expansion, define alias stage instead"),
    ("RUN --mount=type=bind,uid=1 x", 'uid not allowed for "bind" type mounts'), ("RUN --mount=type=ssh,mode=9 x",
    "invalid value 9 for mode"),
    ("RUN --mount=type=cache,sharing=x x", 'unsupported sharing value "x"'), ("RUN --mount=type=tmpfs,size=many x",
    "invalid value for size: many"),
    ("RUN --mount=sharing=shared,target=/x x", "invalid cache sharing set for bind mount"), ("RUN --mount= x",
    "failed to parse csv mounts: EOF"),
    ("RUN --mount=required,type=secret x", "unexpected key 'required' for mount type 'bind'"),
    ("RUN --mount=type=secret,id=a,source=b x", "both source and id can't be set"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[text for text, _sentence in WRONG])
def test_what_is_wrong_is_said_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(DockerfileError, match=rf"^dockerfile parse error on line 3: .*{sentence}") as caught:
        parse(f"# comment\nFROM x\n{text}\n".encode())
    assert caught.value.detail["line"] == 3 and caught.value.code == "invalid_argument"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"^the Dockerfile \(web.Dockerfile\) cannot be empty$"), (b"\n \n# only words\n",
        "^failed to parse web.Dockerfile: file with no instructions$"),
        (b"RUN x\n", "^dockerfile parse error on line 1: no build stage in current context$"), (b"ARG a\n",
        "^dockerfile contains no stages to build$"),
        (b"# escape=x\nFROM a\n", "line 1: invalid escape token 'x' does not match ` or"), (b"x" * 2_000_000,
        "max allowed size of 1048576 bytes"),
        (b"# escape=`\n# escape=`\nFROM a\n", "line 2: only one escape parser directive can be used"),
        (b"FROM a\nRUN " + b"x" * 70_000, "line 2: dockerfile line greater than max allowed size of 65535"),
        (b"FROM a\n" * 1001, r"line 1001: the Dockerfile \(web.Dockerfile\) has more than 1000 instructions"),
        (b"FROM a\nRUN <<X\n" + b"y" * 70_000, "line 3: dockerfile line greater than max allowed size of 65535"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(data: bytes, sentence: str) -> None:
    with pytest.raises(DockerfileError, match=sentence):
        parse(data, "web.Dockerfile")


def test_lines_are_joined_as_moby_joins_them() -> None:
    data = b"FROM a\r\nRUN one \\\r\n    two \\  \r\n# a comment\r\n\r\n  three\r\n RUN a \\\\\nRUN b\n"
    file = parse(data)
    first, second, third = file.stages[0].instructions
    assert (first.text, first.first_line, first.last_line) == ("RUN one     two   three", 2, 6)
    assert (second.text, third.text) == ("RUN a \\\\", "RUN b")
    assert file.warnings == (
        "[WARNING]: Empty continuation line found in: RUN one     two   three",
        "[WARNING]: Empty continuation lines will become errors in a future release.",
    )


def test_directives_come_first() -> None:
    file = parse(b"\xef\xbb\xbf#Syntax = docker/dockerfile:1\n  # ESCAPE=`\n# check=skip=all\nFROM a\nRUN x `\n y\nCOPY a C:\\b\\\n")
    assert (file.directives.syntax, file.directives.escape, file.directives.check) == ("docker/dockerfile:1", "`", "skip=all")
    assert [each.text for each in file.stages[0].instructions] == ["RUN x  y", "COPY a C:\\b\\"]
    for start in (b"\n", b"# words\n", b"FROM a\n", b"# other=1\n"):
        assert parse(start + b"# escape=`\nFROM b\n").directives.escape == "\\"


def test_stages_and_the_count_of_steps() -> None:
    file = parse(b"ARG V=1 W\nARG X\nFROM --platform=linux/$V a:$V As Base-1\nRUN x\nfrom base-1\nRUN y\nRUN z\n")
    assert [stage.name for stage in file.stages] == ["base-1", ""] and file.count == 7
    assert (file.stages[0].base.image, file.stages[0].base.platform, file.stages[1].base.text) == ("a:$V", "linux/$V", "from base-1")
    assert file.arguments[0].pairs == (("V", "1"), ("W", None))


def test_heredocs_of_run() -> None:
    data = b'FROM a\nRUN <<EOF\necho $x\n# no comment\n\nEOF\nRUN 3<<-"A" cat <<B <<C >x\n\ta\n\tA\nb\nB\nC\nRUN echo "<<EOF"\nRUN cat<<E\n'
    first, second, third, fourth = parse(data).stages[0].instructions
    assert first.heredocs == (Heredoc(name="EOF", content=b"echo $x\n# no comment\n\n", expand=True, chomp=False),)
    assert second.heredocs == (
        Heredoc(name="A", content=b"\ta\n", expand=False, chomp=True, descriptor=3),
        Heredoc(name="B", content=b"b\n", expand=True, chomp=False), Heredoc(name="C", content=b"", expand=True, chomp=False),
    )  # fmt: skip
    assert (second.first_line, second.last_line, third.first_line) == (7, 12, 13) and not third.heredocs and not fourth.heredocs


def test_heredocs_of_copy_are_files() -> None:
    data = b'FROM a\nCOPY --chmod=600 <<-one.txt x <<\'two\' /d/\n\t$a\n\tone.txt\n\t$b\ntwo\nADD <<E /e\nE\nCOPY ["<<x", "/y"]\n'
    copy, add, array = parse(data).stages[0].instructions
    assert isinstance(copy, model.Copy) and isinstance(add, model.Add) and isinstance(array, model.Copy)
    assert copy.sources == ("x",) and copy.text == "COPY --chmod=600 <<-one.txt x <<'two' /d/"
    assert [(each.name, each.content, each.expand) for each in copy.documents] == [("one.txt", b"$a\n", True), ("two", b"\t$b\n", False)]
    assert add.sources == () and add.documents[0].content == b"" and array.sources == ("<<x",) and not array.documents


def test_a_document_without_a_last_line_end_and_with_other_bytes() -> None:
    copy = parse(b"FROM a\r\nCOPY <<E /e\r\nk\xe9se\r\n\0\r\nE").stages[0].instructions[0]
    assert copy.heredocs[0].content == b"k\xe9se\r\n\0\r\n"


def test_onbuild_keeps_its_document() -> None:
    onbuild = one("ONBUILD COPY <<E /x\nbody\nE")
    assert isinstance(onbuild, model.Onbuild) and onbuild.trigger == "COPY <<E /x\nbody\nE" and onbuild.heredocs
