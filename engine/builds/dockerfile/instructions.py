"""One line → one instruction: what it may hold and must hold. Each reader raises ValueError with moby's sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.builds.dockerfile import model
from engine.builds.dockerfile.durations import read_duration
from engine.builds.dockerfile.flags import BOOL, TEXT, TEXTS, Flags, Kind
from engine.builds.dockerfile.lines import heredoc_of, without_tabs
from engine.builds.dockerfile.model import Command, Heredoc, Instruction
from engine.builds.dockerfile.mounts import check_mount
from engine.builds.dockerfile.words import first_word, json_array, name_values, quoted, split_blanks, split_keyword, split_words, with_guess

_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9\-_.]*")
_ONBUILD: Final = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)
_LEAST_NS: Final = 10**6  # of a health check's durations


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A line that is cut into keyword, flags and the rest; what the rest means is not looked at yet."""

    text: str
    keyword: str  # as written
    flags: Sequence[str]
    rest: str
    escape: str
    first_line: int
    last_line: int
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def may_have_heredocs(self) -> bool:
        """RUN, COPY, ADD or an ONBUILD of one, and not as a JSON array."""
        keyword, rest = self.keyword.upper(), self.rest
        if keyword == "ONBUILD":
            keyword, _flags, rest = split_keyword(rest)
        return keyword.upper() in ("RUN", "COPY", "ADD") and json_array(rest) is None

    def place(self) -> dict[str, Any]:
        return {"text": self.text.strip(), "first_line": self.first_line, "last_line": self.last_line, "heredocs": self.heredocs}


def cut(text: str, escape: str, first_line: int, last_line: int) -> Statement:
    keyword, flags, rest = split_keyword(text)
    return Statement(text=text, keyword=keyword, flags=flags, rest=rest, escape=escape, first_line=first_line, last_line=last_line)


def check_syntax(statement: Statement) -> None:
    """What moby looks at in a first pass over the file: arrays of strings, and names that have values."""
    keyword = statement.keyword.upper()
    if keyword in ("ENV", "LABEL"):
        name_values(statement.rest, keyword, statement.escape)
    elif keyword in ("RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME"):
        json_array(statement.rest)
    elif keyword == "HEALTHCHECK":
        json_array(first_word(statement.rest)[1])
    elif keyword == "ONBUILD" and statement.rest:
        inner = cut(statement.rest, statement.escape, statement.first_line, statement.last_line)
        if inner.keyword.upper() != "ONBUILD":  # which is refused in the second pass, however many there are
            check_syntax(inner)


def read(statement: Statement) -> Instruction:
    """ValueError: an unknown instruction, or what is wrong with it."""
    reader = READERS.get(statement.keyword.upper())
    if reader is None:
        raise ValueError(with_guess(f"unknown instruction: {statement.keyword[:100]}", statement.keyword, READERS, any_case=True))
    if "\0" in statement.text:
        raise ValueError("an instruction cannot hold a NUL byte")
    return reader(statement)


def _from(statement: Statement) -> model.From:
    words = split_blanks(statement.rest)
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"invalid name for build stage: {quoted(words[2])}, name can't start with a number or contain symbols")
    elif len(words) != 1:
        raise ValueError("FROM requires either one or three arguments")
    flags = Flags(statement.flags, {"platform": TEXT})
    return model.From(image=words[0], name=name, platform=flags.text("platform"), **statement.place())


def _arg(statement: Statement) -> model.Arg:
    words = split_words(statement.rest, statement.escape)
    if not words:
        raise ValueError("ARG requires at least one argument")
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return model.Arg(pairs=tuple(pairs), **statement.place())


def _pairs(statement: Statement) -> dict[str, Any]:
    keyword = statement.keyword.upper()
    Flags(statement.flags, {})
    pairs, is_old_form = name_values(statement.rest, keyword, statement.escape)
    if not pairs:
        raise ValueError(f"{keyword} requires at least one argument")
    if any(not name for name, _value in pairs):
        raise ValueError(f"{keyword} names can not be blank")
    return {"pairs": tuple(pairs), "is_old_form": is_old_form, **statement.place()}


def _env(statement: Statement) -> model.Env:
    return model.Env(**_pairs(statement))


def _label(statement: Statement) -> model.Label:
    return model.Label(**_pairs(statement))


def _one(statement: Statement) -> str:
    if not statement.rest:
        raise ValueError(f"{statement.keyword.upper()} requires exactly one argument")
    Flags(statement.flags, {})
    return statement.rest


def _maintainer(statement: Statement) -> model.Maintainer:
    return model.Maintainer(name=_one(statement), **statement.place())


def _workdir(statement: Statement) -> model.Workdir:
    return model.Workdir(path=_one(statement), **statement.place())


def _user(statement: Statement) -> model.User:
    return model.User(user=_one(statement), **statement.place())


def _stop_signal(statement: Statement) -> model.Stopsignal:
    return model.Stopsignal(signal=_one(statement), **statement.place())


def _command(text: str) -> Command:
    array = json_array(text)
    if array is not None:
        return Command(words=tuple(array), in_shell=False)
    return Command(words=(text,) if text else (), in_shell=True)


def _run(statement: Statement) -> model.Run:
    flags = Flags(statement.flags, {"mount": TEXTS, "network": TEXT, "security": TEXT, "device": TEXTS})
    command = _command(statement.rest)
    if not command.words:
        raise ValueError("RUN requires at least one argument")
    for mount in flags.texts("mount"):
        check_mount(mount)
    network, security = flags.text("network") or "default", flags.text("security") or "sandbox"
    if network not in ("default", "none", "host"):
        raise ValueError(f"invalid network mode {quoted(network)}")
    if security not in ("sandbox", "insecure"):
        raise ValueError(f"security {quoted(security)} is not valid")
    if network == "host":
        raise ValueError("network.host is not allowed: a build step has the network of its tenant, or none")
    if security == "insecure":
        raise ValueError("security.insecure is not allowed: a build step has the rights of an ordinary container")
    if flags.texts("device"):
        raise ValueError("--device is not supported: a build step sees no devices of the host")
    return model.Run(command=command, mount_flags=flags.texts("mount"), network=network, **statement.place())


def _cmd(statement: Statement) -> model.Cmd:
    Flags(statement.flags, {})
    return model.Cmd(command=_command(statement.rest), **statement.place())


def _entrypoint(statement: Statement) -> model.Entrypoint:
    Flags(statement.flags, {})
    return model.Entrypoint(command=_command(statement.rest), **statement.place())


def _shell(statement: Statement) -> model.Shell:
    Flags(statement.flags, {})
    array = json_array(statement.rest)
    if not statement.rest or array == []:
        raise ValueError("SHELL requires at least one argument")
    if array is None:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    return model.Shell(words=tuple(array), **statement.place())


_TRANSFER: Final[dict[str, Kind]] = {"chown": TEXT, "chmod": TEXT, "link": BOOL, "exclude": TEXTS}


def _transfer(statement: Statement, flags: Flags) -> dict[str, Any]:
    keyword = statement.keyword.upper()
    array = json_array(statement.rest)
    words = array if array is not None else split_blanks(statement.rest)
    if len(words) < 2:
        raise ValueError(f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined")
    *sources, target = words
    if array is None and heredoc_of(target):
        raise ValueError(f"{keyword} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc for heredoc in statement.heredocs}
    documents, paths = [], []
    for source in sources:
        announced = heredoc_of(source) if array is None else None
        body = bodies.get(announced.name) if announced else None
        if announced and body:
            documents.append(replace(announced, content=without_tabs(body.content) if announced.chomp else body.content))
        else:
            paths.append(source)
    return {
        "sources": tuple(paths), "target": target, "documents": tuple(documents), "owner": flags.text("chown"),
        "mode": flags.text("chmod"), "is_link": flags.is_set("link"), "excludes": flags.texts("exclude"), **statement.place(),
    }  # fmt: skip


def _copy(statement: Statement) -> model.Copy:
    flags = Flags(statement.flags, {**_TRANSFER, "from": TEXT, "parents": BOOL})
    if re.search(r"\$.", flags.text("from")):
        raise ValueError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
        )
    return model.Copy(from_=flags.text("from"), keeps_parents=flags.is_set("parents"), **_transfer(statement, flags))


def _add(statement: Statement) -> model.Add:
    flags = Flags(statement.flags, {**_TRANSFER, "checksum": TEXT, "keep-git-dir": BOOL, "unpack": BOOL})
    return model.Add(
        checksum=flags.text("checksum"), keeps_git_dir=flags.choice("keep-git-dir"), unpacks=flags.choice("unpack"),
        **_transfer(statement, flags),
    )  # fmt: skip


def _volume(statement: Statement) -> model.Volume:
    array = json_array(statement.rest)
    words = array if array is not None else split_blanks(statement.rest)
    if not words:
        raise ValueError("VOLUME requires at least one argument")
    Flags(statement.flags, {})
    paths = tuple(word.strip() for word in words)
    if not all(paths):
        raise ValueError("VOLUME specified can not be an empty string")
    return model.Volume(paths=paths, **statement.place())


def _expose(statement: Statement) -> model.Expose:
    words = split_blanks(statement.rest)
    if not words:
        raise ValueError("EXPOSE requires at least one argument")
    Flags(statement.flags, {})
    return model.Expose(words=tuple(sorted(words)), **statement.place())


_HEALTH: Final[dict[str, Kind]] = dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), TEXT)


def _healthcheck(statement: Statement) -> model.Healthcheck:
    kind, rest = first_word(statement.rest)
    if not kind:
        raise ValueError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return model.Healthcheck(test=("NONE",), **statement.place())
    flags = Flags(statement.flags, _HEALTH)
    if kind.upper() != "CMD":
        raise ValueError(f"Unknown type {quoted(kind.upper())} in HEALTHCHECK (try CMD)")
    command = _command(rest)
    if not command.words:
        raise ValueError("Missing command after HEALTHCHECK CMD")
    return model.Healthcheck(
        test=("CMD-SHELL" if command.in_shell else "CMD", *command.words), interval_ns=_interval(flags, "interval"),
        timeout_ns=_interval(flags, "timeout"), start_period_ns=_interval(flags, "start-period"),
        start_interval_ns=_interval(flags, "start-interval"), retries=_retries(flags.text("retries")), **statement.place(),
    )  # fmt: skip


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    duration = read_duration(text) if text else 0
    if duration and duration < _LEAST_NS:
        raise ValueError(f"Interval {quoted(name)} cannot be less than 1ms")
    return duration


def _retries(text: str) -> int:
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    if len(digits) > 10 or int(digits) >= 1 << 31:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    if int(text) < 0:
        raise ValueError(f"--retries cannot be negative ({int(text)})")
    return int(text)


def _onbuild(statement: Statement) -> model.Onbuild:
    if not statement.rest:
        raise ValueError("ONBUILD requires at least one argument")
    Flags(statement.flags, {})
    keyword = split_keyword(statement.rest)[0].upper()
    if keyword == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("MAINTAINER", "FROM"):
        raise ValueError(f"{keyword} isn't allowed as an ONBUILD trigger")
    bodies = "".join(f"\n{each.content.decode(errors='replace')}{each.name}" for each in statement.heredocs)
    return model.Onbuild(trigger=_ONBUILD.sub("", statement.text.rstrip()) + bodies, **statement.place())


READERS: Final[dict[str, Callable[[Statement], Instruction]]] = {
    "ADD": _add, "ARG": _arg, "CMD": _cmd, "COPY": _copy, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "FROM": _from,
    "HEALTHCHECK": _healthcheck, "LABEL": _label, "MAINTAINER": _maintainer, "ONBUILD": _onbuild, "RUN": _run, "SHELL": _shell,
    "STOPSIGNAL": _stop_signal, "USER": _user, "VOLUME": _volume, "WORKDIR": _workdir,
}  # fmt: skip
