"""An instruction with its variables replaced, where the language does so; and what can only be checked then.

Replaced: FROM (image, platform) · ENV, LABEL (names and values) · COPY, ADD (words, owner, mode, checksum, documents whose name
is not quoted) · RUN (values of --mount) · WORKDIR, USER, VOLUME, STOPSIGNAL, EXPOSE. ARG: ``scopes``. Nothing in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any, TypeVar

from engine.builds.dockerfile import model, shell
from engine.builds.dockerfile.model import DockerfileError, Heredoc, Instruction
from engine.builds.dockerfile.modes import check_mode
from engine.builds.dockerfile.mounts import read_mount
from engine.builds.dockerfile.ports import exposed
from engine.builds.dockerfile.remote import is_git, is_url
from engine.errors import InvalidArgument
from engine.model.signals import signal_number

Kind = TypeVar("Kind", bound=Instruction)


def expanded(instruction: Kind, env: Mapping[str, str], escape: str = "\\") -> Kind:
    """The same instruction; one value of each variable applies throughout it (``ENV a=1 b=$a`` sees the old a). DockerfileError.

    ``env`` is ``scope.env(…)`` of the stage, and for FROM that of the global scope.
    """
    try:
        return replace(instruction, **_changes(instruction, _Words(env, escape)))
    except (ValueError, InvalidArgument) as error:
        raise DockerfileError(str(error), line=instruction.first_line) from None


class _Words:
    def __init__(self, env: Mapping[str, str], escape: str) -> None:
        self.env, self.escape = env, escape

    def one(self, word: str) -> str:
        return shell.expand(word, self.env, self.escape)

    def all(self, words: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(self.one, words))

    def pairs(self, pairs: Iterable[tuple[str, str]], keyword: str) -> tuple[tuple[str, str], ...]:
        found = tuple((self.one(name), self.one(value)) for name, value in pairs)
        if not all(name for name, _value in found):
            raise ValueError(f"{keyword} names can not be blank")
        return found

    def document(self, document: Heredoc) -> Heredoc:
        if not document.expand:
            return document
        text = shell.expand_document(document.content.decode(errors="surrogateescape"), self.env)
        return replace(document, content=text.encode(errors="surrogateescape"))


@singledispatch
def _changes(instruction: Instruction, words: _Words) -> dict[str, Any]:
    return {}


@_changes.register
def _(instruction: model.From, words: _Words) -> dict[str, Any]:
    image = words.one(instruction.image)
    if not image:
        raise ValueError(f"base name ({instruction.image}) should not be blank")
    return {"image": image, "platform": words.one(instruction.platform)}


@_changes.register
def _(instruction: model.Env, words: _Words) -> dict[str, Any]:
    return {"pairs": words.pairs(instruction.pairs, "ENV")}


@_changes.register
def _(instruction: model.Label, words: _Words) -> dict[str, Any]:
    return {} if instruction.is_literal else {"pairs": words.pairs(instruction.pairs, "LABEL")}


@_changes.register
def _(instruction: model.Copy, words: _Words) -> dict[str, Any]:
    found = _transfer(instruction, words)
    for source in found["sources"]:
        if is_git(source):
            raise ValueError("source can't be a git ref for COPY")
        if is_url(source):
            raise ValueError("source can't be a URL for COPY")
    return found


@_changes.register
def _(instruction: model.Add, words: _Words) -> dict[str, Any]:
    found = _transfer(instruction, words)
    found["checksum"] = words.one(instruction.checksum)
    if found["checksum"]:
        if len(found["sources"]) != 1 or instruction.documents:
            raise ValueError("checksum can't be specified for multiple sources")
        if not is_url(found["sources"][0]) and not is_git(found["sources"][0]):
            raise ValueError("checksum requires HTTP(S) or Git sources")
    return found


def _transfer(instruction: model.Transfer, words: _Words) -> dict[str, Any]:
    sources, target = words.all(instruction.sources), words.one(instruction.target)
    if not target or not all(sources):
        raise ValueError(f"{instruction.keyword} cannot take an empty path")
    if len(sources) + len(instruction.documents) > 1 and not target.endswith(("/", "/.")) and target != ".":
        raise ValueError(
            f"When using {instruction.keyword} with more than one source file, the destination must be a directory and end with a /"
        )
    mode = words.one(instruction.mode)
    if mode:
        check_mode(mode)
    return {
        "sources": sources, "target": target, "owner": words.one(instruction.owner), "mode": mode,
        "documents": tuple(map(words.document, instruction.documents)),
    }  # fmt: skip


@_changes.register
def _(instruction: model.Run, words: _Words) -> dict[str, Any]:
    expand: Callable[[str], str] = words.one
    return {"mounts": tuple(read_mount(flag, expand) for flag in instruction.mount_flags)}


@_changes.register
def _(instruction: model.Workdir, words: _Words) -> dict[str, Any]:
    path = words.one(instruction.path)
    if not path:
        raise ValueError("cannot normalize nothing")
    return {"path": path}


@_changes.register
def _(instruction: model.User, words: _Words) -> dict[str, Any]:
    return {"user": words.one(instruction.user)}


@_changes.register
def _(instruction: model.Volume, words: _Words) -> dict[str, Any]:
    paths = words.all(instruction.paths)
    if not all(paths):
        raise ValueError("VOLUME specified can not be an empty string")
    return {"paths": paths}


@_changes.register
def _(instruction: model.Stopsignal, words: _Words) -> dict[str, Any]:
    name = words.one(instruction.signal)
    signal_number(name)
    return {"signal": name}


@_changes.register
def _(instruction: model.Expose, words: _Words) -> dict[str, Any]:
    found = tuple(word for each in instruction.words for word in shell.expand_words(each, words.env, words.escape))
    if not found:
        raise ValueError("EXPOSE requires at least one argument")
    ports = [port for word in found for port in exposed(word)]
    return {"words": found, "ports": tuple(dict.fromkeys(ports))}
