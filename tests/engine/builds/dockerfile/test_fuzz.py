"""Whatever the bytes: a Dockerfile, or a DockerfileError in words; and in a time that grows with the length alone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.builds.dockerfile.expansion import expanded
from engine.builds.dockerfile.model import Arg, Dockerfile, DockerfileError, Instruction, Onbuild, Run
from engine.builds.dockerfile.parse import parse
from engine.builds.dockerfile.scopes import GlobalScope
from engine.builds.dockerfile.script import run_script
from engine.builds.dockerfile.stages import needed, target_of
from engine.builds.dockerfile.triggers import parse_triggers

EVERYTHING = b"""\
# syntax=docker/dockerfile:1
# escape=\\
ARG VERSION=1.36 REGISTRY
FROM --platform=$BUILDPLATFORM ${REGISTRY:-}busybox:${VERSION%.*} AS Build
MAINTAINER Some One <one@example.org>
LABEL org.example.title="a \\"b\\" c" org.example.vendor=x
LABEL old form of a label
ARG name="x y" other
ENV PATH=/opt/bin:$PATH A='1 2' B=${name:+set} C=${other:-${name#x}}
ENV OLD the old form ${A//1/2}
SHELL ["/bin/sh", "-euc"]
WORKDIR /srv/${name}
RUN --mount=type=cache,target=/cache,sharing=locked,uid=1000,mode=0755 --mount=type=bind,from=busybox,source=/bin,target=/b \\
    --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=tmpfs,target=/t,size=64m --network=none \\
    # a comment within

    echo "hello ${A}" && \\
    true
RUN <<-EOF cat <<'B' > /x
\tfirst
\tEOF
second
B
COPY --chown=1000:1000 --chmod=u=rwX,go=rX --exclude=*.md --parents --link src/./a src/b /dst/
COPY <<EOF /etc/motd
Welcome to ${name}
EOF
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/a.tar.gz /a/
ADD --keep-git-dir=true https://example.org/a.git#main:sub /git
COPY ["a b", "c", "/d/"]
FROM scratch
COPY --from=build /x /x
COPY --from=0 /etc/motd /
VOLUME ["/data"]
VOLUME /logs /more
EXPOSE 80 443/tcp 5000-5002/udp
USER 1000:1000
HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1s --start-interval=1s --retries=3 CMD ["/x", "-h"]
ONBUILD COPY <<EOF /y
z
EOF
ONBUILD RUN make
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/x"]
CMD exec top -b"""


def use(data: bytes) -> Dockerfile | None:
    """Everything that a builder asks of a file; None: it was refused, in words."""
    try:
        file = parse(data)
        scope = GlobalScope({"name": "given"}, {"BUILDPLATFORM": "linux/amd64"}, file.directives.escape)
        for argument in file.arguments:
            scope.declare(argument)
        images = [expanded(stage.base, scope.env(), file.directives.escape).image for stage in file.stages]
        for stage in file.stages:
            of_stage = scope.stage()
            for instruction in stage.instructions:
                _use(instruction, of_stage.env(["PATH=/bin"]), file.directives.escape)
                if isinstance(instruction, Arg):
                    of_stage.declare(instruction, ["PATH=/bin"])
        needed(file, target_of(file, ""), images)
    except DockerfileError as error:
        assert error.message and len(error.message) < 1000 and isinstance(error.detail["line"], int) | ("line" not in error.detail)
        return None
    return file


def _use(instruction: Instruction, env: dict[str, str], escape: str) -> None:
    changed = expanded(instruction, env, escape)
    assert "\n" not in changed.text and 0 < changed.first_line <= changed.last_line
    if isinstance(instruction, Run):
        assert all("\0" not in word for word in run_script(instruction, ("/bin/sh", "-c")).words)
    if isinstance(instruction, Onbuild):
        parse_triggers([instruction.trigger])


def test_the_file_with_everything_is_good() -> None:
    file = use(EVERYTHING)
    assert file is not None and file.count == 30 and len(file.warnings) == 2


def test_a_file_cut_at_every_byte() -> None:
    good = sum(use(EVERYTHING[:length]) is not None for length in range(len(EVERYTHING)))
    assert 300 < good < len(EVERYTHING)


def test_a_file_with_every_byte_changed() -> None:
    for at in range(len(EVERYTHING)):
        for byte in (b"\0", b"\n", b"\\", b'"', b"$", b"\xff"):
            use(EVERYTHING[:at] + byte + EVERYTHING[at + 1 :])


def test_a_file_without_any_one_line() -> None:
    lines = EVERYTHING.splitlines(keepends=True)
    for index in range(len(lines)):
        use(b"".join(lines[:index] + lines[index + 1 :]))
        use(b"".join(lines[:index] + lines[index:][::-1]))


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    use(data)
    use(b"FROM a\n" + data)


PIECES = [
    "FROM a\n", "FROM ", " AS x\n", "RUN ", "COPY ", "ADD ", "ENV ", "LABEL ", "ARG ", "ONBUILD ", "HEALTHCHECK ", "CMD ", "EXPOSE ",
    "VOLUME ", "USER ",
    "--mount=", "--from=x ", "--chmod=", "type=cache,", "target=/x", "<<EOF", "<<-'E'", "\nEOF\n", "\tE\n", "[", "]", '"a"', ",", "'",
    '"', "\\", "\\\n", "`", "$",
    "${", "}", ":-", "/", "#", "%", "=", " ", "\n", "\t", "a", "1", "\0", "é", "# escape=`\n", "# syntax=x\n", "NONE", "--interval=1s ",
    "\r\n", "http://", "-", "*",
]  # fmt: skip


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_pieces_of_the_language(pieces: list[str]) -> None:
    use(b"FROM a\n" + "".join(pieces).encode())
    use("".join(pieces).encode())


def long_ones() -> Iterator[tuple[str, bytes]]:
    size = 1_000_000
    yield "stages", b"FROM a\n" * (size // 7)
    yield "instructions", b"FROM a\n" + b"ENV a=b\n" * (size // 8)
    yield "continued", b"FROM a\nRUN " + b"a \\\n" * (size // 4)
    yield "comments in a line", b"FROM a\nRUN a \\\n" + b"# x\n" * (size // 4)
    yield "empty lines in a line", b"FROM a\nRUN a \\\n" + b"\n" * size
    yield "words", b"FROM a\nCOPY " + b"a b \\\n" * (size // 6)
    yield "pairs", b"FROM a\nENV " + b'a="b" \\\n' * (size // 8)
    yield "quotes", b"FROM a\nENV a=" + b"'\"\\\n" * (size // 4)
    yield "flags", b"FROM a\nRUN " + b"--mount=target=/x \\\n" * (size // 20) + b" x"
    yield "array", b"FROM a\nCMD [" + b'"a", \\\n' * (size // 7) + b'"a"]'
    yield "deep array", b"FROM a\nCMD " + b"[[[\\\n" * (size // 5)
    yield "braces", b"FROM a\nWORKDIR " + b"${a:-\\\n" * (size // 7)
    yield "heredocs", b"FROM a\nRUN " + b"<<a \\\n" * (size // 6) + b"\na\n"
    yield "heredoc", b"FROM a\nRUN <<a\n" + b"b\n" * (size // 2) + b"a\n"
    yield "no end of a heredoc", b"FROM a\n" + b"RUN <<a\n" * (size // 8)
    yield "blanks", b"FROM a\nRUN a" + (b" " * 60_000 + b"\\\n") * (size // 60_002)
    yield "directives", b"# a " + b" " * 60_000 + b"=" + b" " * 5000 + b"x\nFROM a\n"
    yield "triggers", b"FROM a\n" + b"ONBUILD " * 8000 + b"RUN x\n"
    yield "null bytes", b"FROM a\nRUN x" + b"\0" * 60_000


@pytest.mark.parametrize(("name", "data"), [pytest.param(*each, id=each[0]) for each in long_ones()])
def test_a_long_file_takes_a_time_that_grows_with_its_length(name: str, data: bytes) -> None:
    def seconds(part: bytes) -> float:
        began = time.process_time()
        use(part)
        return time.process_time() - began

    assert seconds(data) < 20  # at most 1 MiB, on a machine under coverage and load; what is quadratic takes hours
