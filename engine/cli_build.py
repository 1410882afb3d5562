"""``python3 -m engine build -t name .``: an image from a Dockerfile, in this very process. Words and exit codes as of docker."""

from __future__ import annotations

import argparse
import base64
import io
import os
import secrets
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from engine import errors
from engine.builds.builder import Builder
from engine.builds.ignore import NAME as IGNORE_FILE
from engine.builds.ignore import Matcher, ignore_file_of, left_out, read_patterns
from engine.engine import Engine
from engine.model.build import DOCKERFILE, MAX_SECRET, BuildRequest

_ADDRESSES = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


def add_parser(verbs: Any) -> None:
    build = verbs.add_parser("build", help="make an image from a Dockerfile")
    build.add_argument("-t", "--tag", action="append", default=[])
    build.add_argument("-f", "--file", default="", help="the Dockerfile, a path in the context (Dockerfile)")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME[=value]")
    build.add_argument("--label", action="append", default=[], metavar="NAME=value")
    build.add_argument("--secret", action="append", default=[], metavar="id=NAME,src=FILE|env=NAME", help="for RUN --mount=type=secret")
    build.add_argument("--target", default="")
    build.add_argument("--platform", default="")
    build.add_argument("--network", default="", choices=["", "default", "none"])
    build.add_argument("--no-cache", action="store_true")
    build.add_argument("--pull", action="store_true")
    build.add_argument("--squash", action="store_true")
    build.add_argument("--cache-from", action="append", default=[])
    build.add_argument("-q", "--quiet", action="store_true", help="print the image's id and nothing else")
    build.add_argument("context", help="a folder, an address (git or http), or - for a tar or a Dockerfile on stdin")
    build.set_defaults(command=_build)


def _build(engine: Engine, asked: argparse.Namespace) -> int:
    is_remote = asked.context.startswith(_ADDRESSES)
    request = BuildRequest(
        id=secrets.token_hex(16),
        tenant=asked.tenant,
        tags=tuple(asked.tag),
        dockerfile=asked.file or DOCKERFILE,
        remote=asked.context if is_remote else "",
        args=dict(map(_argument, asked.build_arg)),
        labels={name: value for name, _equals, value in (label.partition("=") for label in asked.label)},
        secrets=dict(map(_secret, asked.secret)),
        target=asked.target,
        platform=asked.platform,
        network=asked.network,
        no_cache=asked.no_cache,
        pull=asked.pull,
        squash=asked.squash,
        cache_from=tuple(asked.cache_from),
        quiet=asked.quiet,
    )

    def pull(name: str, platform: str) -> Iterator[dict[str, Any]]:
        return (line for line in engine.pull(request.tenant, name, platform=platform) if "images" not in line)

    builder = Builder(engine, request, pull=pull)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_signal: threading.Thread(target=builder.cancel, args=("Build cancelled",)).start())
    image_id = builder.build(None if is_remote else _context(asked.context, request.dockerfile), _print if not asked.quiet else _nothing)
    if asked.quiet:
        print(image_id)
    return 0


def _argument(word: str) -> tuple[str, str | None]:
    """Without a value it is the environment's, as docker has it."""
    name, equals, value = word.partition("=")
    return name, value if equals else os.environ.get(name)


def _secret(words: str) -> tuple[str, str]:
    """``id=token,src=file`` or ``id=token,env=NAME``; with the id alone the variable of that name, else the file."""
    said = dict(pair.partition("=")[::2] for pair in words.split(","))
    said["src"] = said.pop("source", said.get("src", ""))
    name = said.get("id") or os.path.basename(said["src"])
    unknown = set(said) - {"id", "src", "env", "type"}
    if not name or unknown or said.get("type", "file") not in ("file", "env"):
        raise errors.InvalidArgument(f"invalid secret {words!r}: id=NAME,src=FILE or id=NAME,env=NAME is needed")
    if said.get("type") == "env" and said["src"]:
        said["env"], said["src"] = said["src"], ""
    variable = said.get("env") or (name if not said["src"] and name in os.environ else "")
    if variable:
        return name, base64.b64encode(os.environ.get(variable, "").encode("utf-8", "surrogateescape")).decode()
    try:
        with open(said["src"] or name, "rb") as file:
            return name, base64.b64encode(file.read(MAX_SECRET + 1)).decode()
    except OSError as error:
        raise errors.InvalidArgument(f"failed to read secret {name!r}: {error.strerror}") from error


def _print(line: dict[str, Any]) -> None:
    text = line.get("stream") or ""
    if not text and line.get("status") and not line.get("progressDetail"):
        text = f"{line['id'] + ': ' if line.get('id') else ''}{line['status']}\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def _nothing(_line: dict[str, Any]) -> None:
    pass


def _context(folder: str, dockerfile: str) -> BinaryIO:
    """A tar of the folder, made while it is read."""
    if folder == "-":
        return sys.stdin.buffer
    if not os.path.isdir(folder):
        raise errors.InvalidArgument(f'unable to prepare context: path "{folder}" not found')
    reading, writing = os.pipe()
    threading.Thread(target=_pack, args=(folder, dockerfile, writing), daemon=True).start()
    return cast(BinaryIO, io.BufferedReader(io.FileIO(reading), 1 << 20))


def _pack(folder: str, dockerfile: str, writing: int) -> None:
    out = _left_out(folder, dockerfile)

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        path = member.name.removeprefix("./")
        return None if path in out else member

    try:
        with os.fdopen(writing, "wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(os.listdir(folder)):
                archive.add(os.path.join(folder, name), arcname=name, filter=kept)
    except BrokenPipeError:
        pass  # the build has ended already


def _left_out(folder: str, dockerfile: str) -> set[str]:
    """What .dockerignore names, but for itself and the Dockerfile, which the builder wants to see."""
    for name in (ignore_file_of(dockerfile), IGNORE_FILE):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                matcher = Matcher(read_patterns(file.read(), name))
        except FileNotFoundError:
            continue
        paths = []
        for above, folders, files in os.walk(folder):
            relative = os.path.relpath(above, folder)
            lead = "" if relative == "." else f"{relative}/"
            paths += [(lead + each, True) for each in folders] + [(lead + each, False) for each in files]
        kept = {dockerfile, name, *(dockerfile[:at] for at, char in enumerate(dockerfile) if char == "/")}
        return left_out(paths, matcher) - kept
    return set()
