"""Volumes on an NFS server: ``-o type=nfs -o o=addr=SERVER,vers=4,rw -o device=:/export``. The words are moby's and nfs(5)'s.

What a tenant says is a Share; root of the host grants an Export, and a share must lie in one. The options are those of this list and no
others: none is a path, and all that name a server must name the granted one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument

KINDS: Final = ("nfs", "nfs4")
PORT: Final = 2049
VERSIONS: Final[tuple[str, ...]] = ("4.2", "4.1", "4.0", "3")  # in this order, where none is named; "4" is the first three
PATH_MAX: Final = 200  # bytes: with the address it is one string of fsconfig(2), which takes 255
MOUNTS_MAX: Final = 8  # of one container: their descriptors travel in one message

_DEVICE: Final = re.compile(r"(?P<server>\[[0-9A-Fa-f:.]{2,45}\]|[^:/\[\]]*):(?P<path>/.*)", re.DOTALL)
_SERVER: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f:]{2,39}(?:[0-9.]{7,15})?")
_EXPORT: Final = re.compile(r"(?P<share>.+?)(?::(?P<words>ro|rw|port=[0-9]{1,5}|(?:ro|rw),port=[0-9]{1,5}))?", re.DOTALL)
_OF_SERVERS: Final = ("addr", "mountaddr", "mounthost")
_VERSION: Final = ("vers", "nfsvers")
_FLAGS: Final = ("ro", "rw", "exec", "noexec")
_SETTINGS: Final = frozenset(
    {"soft", "softerr", "ac", "noac", "cto", "nocto", "lock", "nolock", "acl", "noacl", "rdirplus", "nordirplus", "sec=sys"}
    | {f"lookupcache={how}" for how in ("all", "none", "pos", "positive")}
    | {f"local_lock={what}" for what in ("all", "flock", "posix", "none")}
)
# Patience with a server that does not answer, in tenths of a second, has a floor: the kernel lends one mount to all tenants of an export
_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "rsize": (1024, 1 << 20), "wsize": (1024, 1 << 20), "timeo": (50, 600), "retrans": (1, 5),
    "acregmin": (0, 3600), "acregmax": (0, 3600), "acdirmin": (0, 3600), "acdirmax": (0, 3600), "actimeo": (0, 3600),
}  # fmt: skip
_DEFAULTS: Final[Mapping[str, str]] = {"timeo": "timeo=100", "retrans": "retrans=2"}  # half a minute; nfs(5)'s own is three
_ANYWAY: Final = frozenset(  # so it is, or it changes nothing
    {"defaults", "nosuid", "nodev", "async", "tcp", "fg", "intr", "nointr", "atime", "noatime", "diratime", "nodiratime", "relatime"}
)
_HARD: Final = "hard is not allowed: a server that does not answer would hold containers for ever (it is soft, with timeo and retrans)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """``servers``: every one that it names, ``addr`` first. ``settings``: for the kernel's client, as they stand."""

    servers: tuple[str, ...]
    path: str
    port: int
    versions: tuple[str, ...]
    read_only: bool
    no_exec: bool
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return spelled(self.servers[0], self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is granted: ``path`` of the server and what is below it. ``address``: what its name meant at the grant."""

    server: str
    path: str
    address: str = ""
    port: int = PORT
    read_only: bool = False

    def __str__(self) -> str:
        words = [*(["ro"] if self.read_only else []), *([f"port={self.port}"] if self.port != PORT else [])]
        return spelled(self.server, self.path) + (f":{','.join(words)}" if words else "")

    def has(self, share: Share) -> bool:
        """Whether it is this server's, and below."""
        inside = self.path == "/" or share.path == self.path or share.path.startswith(f"{self.path}/")
        return inside and {server.lower() for server in share.servers} <= {self.server, self.address}

    def below(self, share: Share) -> str:
        """The share's path from here; "" for the export itself."""
        return share.path[len(self.path) :].lstrip("/")


def spelled(server: str, path: str) -> str:
    return f"[{server}]:{path}" if ":" in server else f"{server}:{path}"


def read(options: Mapping[str, str]) -> Share:
    """Of a volume's ``type``, ``o`` and ``device``. InvalidArgument."""
    found = _DEVICE.fullmatch(options["device"])
    if found is None:
        raise InvalidArgument(f"invalid device: '{options['device']}': of an NFS server it is :/PATH or SERVER:/PATH")
    words = [word for word in options.get("o", "").split(",") if word]
    servers = _servers(words)
    if found["server"]:
        servers = (*servers, found["server"].strip("[]"))
    for server in servers:
        if not _SERVER.fullmatch(server):
            raise InvalidArgument(f"invalid server: '{server[:80]}'")
    port, versions, settings, flags = PORT, VERSIONS, [], []
    for word in words:
        key, _, value = word.partition("=")
        if key in _VERSION:
            versions = _versions(value)
        elif key == "port":
            port = _number(word, 1, 65535)
        elif key == "proto":
            if value not in ("tcp", "tcp6"):
                raise InvalidArgument(f"invalid option of an NFS volume: '{word}': it is tcp or tcp6")
        elif key in _NUMBERS:
            settings.append(f"{key}={_number(word, *_NUMBERS[key])}")
        elif word in _SETTINGS:
            settings.append(word)
        elif word in _FLAGS:
            flags.append(word)
        elif word == "hard":
            raise InvalidArgument(_HARD)
        elif key not in _OF_SERVERS and word not in _ANYWAY:
            raise InvalidArgument(f"invalid option of an NFS volume: '{word}'")
    return Share(
        servers=servers,
        path=checked_path(found["path"]),
        port=port,
        versions=versions,
        read_only=_last(flags, "ro", "rw"),
        no_exec=_last(flags, "noexec", "exec"),
        settings=_completed(settings),
    )


def _last(flags: list[str], yes: str, no: str) -> bool:
    """Of two that gainsay each other the later one holds, as in mount(8)."""
    return next((flag == yes for flag in reversed(flags) if flag in (yes, no)), False)


def _servers(words: list[str]) -> tuple[str, ...]:
    named = [word.partition("=")[::2] for word in words if word.partition("=")[0] in _OF_SERVERS]
    first = [server for key, server in named if key == "addr"]
    if len(first) != 1:
        raise InvalidArgument('missing required option: an NFS volume names its server once, with "o=addr=SERVER"')
    return (*first, *(server for key, server in named if key != "addr"))


def _versions(value: str) -> tuple[str, ...]:
    if value == "4":
        return VERSIONS[:3]
    if value not in VERSIONS:
        raise InvalidArgument(f"invalid version of NFS: '{value[:20]}': it is 4, 4.2, 4.1, 4.0 or 3")
    return (value,)


def _completed(settings: list[str]) -> tuple[str, ...]:
    """Softly, and with a patience of our own, unless another was asked for."""
    keys = {word.partition("=")[0] for word in settings}
    first = [] if keys & {"soft", "softerr"} else ["soft"]
    return (*first, *settings, *(word for key, word in _DEFAULTS.items() if key not in keys))


def _number(word: str, least: int, most: int) -> int:
    value = word.partition("=")[2]
    if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
        raise InvalidArgument(f"invalid option of an NFS volume: '{word[:80]}': it is a number from {least} to {most}")
    return int(value)


def checked_path(path: str) -> str:
    """Tidied up; InvalidArgument for one that goes up again, or that the kernel would not take whole."""
    if ".." in path.split("/") or not path.isprintable():
        raise InvalidArgument(f"invalid path of an NFS server: {path[:80]!r}")
    tidy = "/" + posixpath.normpath(path).lstrip("/")
    if len(tidy.encode()) > PATH_MAX:
        raise InvalidArgument(f"invalid path of an NFS server: '{path[:80]}…': it has at most {PATH_MAX} bytes")
    return tidy


def parse_export(words: str) -> Export:
    """``SERVER:/PATH``, and behind it ``:ro``, ``:port=N`` or ``:ro,port=N``. Its name is not resolved yet. InvalidArgument."""
    found = _EXPORT.fullmatch(words)
    share = _DEVICE.fullmatch(found["share"]) if found else None
    server = share["server"].strip("[]").lower() if share else ""
    if found is None or share is None or not _SERVER.fullmatch(server):
        raise InvalidArgument(f"invalid export {words!r}: use SERVER:/PATH, SERVER:/PATH:ro, SERVER:/PATH:port=N or SERVER:/PATH:ro,port=N")
    options = (found["words"] or "").split(",")
    port = next((_number(option, 1, 65535) for option in options if option.startswith("port=")), PORT)
    return Export(server=server, path=checked_path(share["path"]), port=port, read_only="ro" in options)
