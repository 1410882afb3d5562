"""A volume as it travels between floors, and what a container mounts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from engine.errors import InvalidArgument, Unsupported
from engine.model import nfs
from engine.model.tenant import IDS_PER_TENANT, check_tenant_name

LOCAL: Final = "local"
ANONYMOUS_LABEL: Final = "com.docker.volume.anonymous"  # moby marks so what nobody gave a name
BIND: Final = "bind"
VOLUME: Final = "volume"
IMAGE: Final = "image"
TMPFS: Final = "tmpfs"
KINDS: Final = (BIND, VOLUME, IMAGE)
MOUNTS_MAX: Final = 1024  # of a container
NAME_MAX: Final = 255  # bytes: it is the name of a folder
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_BIND_WORDS: Final = ("bind", "rbind", "ro", "rw")
_IMAGE_ID: Final = re.compile(r"sha256:[0-9a-f]{64}")
SIZE_MIN: Final = 1 << 20
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:(?P<unit>[kKmMgGtTpP])(?:[iI]?[bB])?|[bB])?")
_OPTIONS: Final = ("type", "o", "device", "size")
_MANDATORY: Final = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
# tmpfs(5), and flags of mount(8)
_MEMORY_WORD: Final = re.compile(
    r"size=[0-9]{1,15}[kKmMgG%]?|nr_(?:blocks|inodes)=[0-9]{1,15}[kKmMgG]?|mode=[0-7]{3,4}|[ug]id=(?P<id>[0-9]{1,5})"
    "|ro|rw|nosuid|nodev|noexec|suid|exec|noatime|relatime"
)
_OF_THE_KERNEL: Final = ("proc", "sys", "dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """What is asked for, and what is. Of one name there may be several after each other; ``created_ns`` tells them apart.

    ``limit``, the host's word, is how ``-o size`` holds: "project", a quota of the host's disk, or "disk", a file system
    of its own in a file; "" without a size.
    """

    tenant: str
    name: str
    driver: str = LOCAL
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    created_ns: int = 0
    anonymous: bool = False
    limit: str = ""

    @property
    def size_bytes(self) -> int:
        """0: no limit of its own."""
        return parse_size(self.options["size"]) if "size" in self.options else 0

    @property
    def in_memory(self) -> bool:
        """Its files are there as long as a container runs with it (``-o type=tmpfs``)."""
        return self.options.get("type") == TMPFS

    @property
    def has_own_files(self) -> bool:
        """On this host's disk, which can be looked at, filled and copied whether a container runs with it or not."""
        return not self.folder and not self.in_memory and self.share is None

    @property
    def share(self) -> nfs.Share | None:
        """Of the NFS server that has its files (``-o type=nfs``)."""
        return nfs.read(self.options) if self.options.get("type") in nfs.KINDS else None

    @property
    def folder(self) -> str:
        """Of the host, that it is another name of (``-o o=bind -o device=/srv/data``); "" for a volume with files of its own."""
        return posixpath.normpath(self.options["device"]) if _is_bind(self.options) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSpec:
    """One mount of a container. ``source``: a volume's name, a path of the host, or an image's id (``shown`` as what was typed).

    ``labels`` and ``options`` are of the volume that is made when there is none of that name; ``create``: so is a bind's missing source.
    ``mode`` is what stood behind the second colon of ``-v``, for ``inspect``.
    """

    type: str  # one of KINDS
    target: str
    source: str
    read_only: bool = False
    propagation: str = ""
    no_copy: bool = False
    subpath: str = ""
    recursive: bool = True
    create: bool = False
    anonymous: bool = False
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    mode: str = ""
    shown: str = ""


def check_volume_name(name: str) -> str:
    """The name itself, or InvalidArgument with moby's sentence. A good name is also a safe file name."""
    if len(name) == 1:
        raise InvalidArgument(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed.'
            " If you intended to pass a host directory, use absolute path"
        )
    if len(name) > NAME_MAX:
        raise InvalidArgument(f"create {name[:40]}…: a volume's name has at most {NAME_MAX} characters")
    return name


def check_volume(spec: VolumeSpec) -> None:
    check_tenant_name(spec.tenant)
    check_volume_name(spec.name)
    try:
        _check_options(spec.options)
    except (InvalidArgument, Unsupported) as error:
        raise type(error)(f"create {spec.name}: {error.message}") from None
    if spec.driver != LOCAL:
        raise InvalidArgument(f'create {spec.name}: error looking up volume plugin {spec.driver}: plugin "{spec.driver}" not found')


def _check_options(options: Mapping[str, str]) -> None:
    """moby's rules of its local driver; what it would mount is the host's business, and not for tenants to say."""
    for name in options:
        if name not in _OPTIONS:
            raise InvalidArgument(f'invalid option: "{name}"')
    for name, needed in _MANDATORY.items():
        for other in needed if name in options else ():
            if other not in options:
                raise InvalidArgument(f'missing required option: "{other}"')
    kind = options.get("type")
    if _is_bind(options):
        if not options["device"].startswith("/"):
            raise InvalidArgument(f"invalid device: '{options['device']}' is no absolute path")
        for word in options["o"].split(","):
            if word not in _BIND_WORDS:
                raise InvalidArgument(f"invalid option of a bind: '{word}'")
        if "size" in options:
            raise InvalidArgument("a folder of the host has no size of its own")
    elif kind == TMPFS:
        for word in filter(None, options.get("o", "").split(",")):
            found = _MEMORY_WORD.fullmatch(word)
            if found is None or int(found["id"] or 0) >= IDS_PER_TENANT:
                raise InvalidArgument(f"invalid option of a tmpfs: '{word}'")
        if "size" in options:
            raise InvalidArgument("a volume in memory has its size among its mount options: -o o=size=…")
    elif kind in nfs.KINDS:
        nfs.read(options)
        if "size" in options:
            raise InvalidArgument("how much a volume on an NFS server may hold is that server's to say")
    elif kind is not None:
        raise Unsupported(f"volumes of type {kind} are not supported yet")
    if "size" in options and parse_size(options["size"]) < SIZE_MIN:
        raise InvalidArgument(f"invalid size: '{options['size']}': a volume has at least {SIZE_MIN >> 20} MiB")


def _is_bind(options: Mapping[str, str]) -> bool:
    return options.get("type") in ("none", "bind") and not {"bind", "rbind"}.isdisjoint(options.get("o", "").split(","))


def parse_size(text: str) -> int:
    """Bytes, or a number with k, m, g, t or p behind, each 1024 of the one before (go-units' RAMInBytes). InvalidArgument."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"invalid size: '{text[:40]}'")
    size = int(Decimal(found["number"]) * (1 << 10 * "bkmgtp".index((found["unit"] or "b").lower())))
    if size >= 1 << 56:
        raise InvalidArgument(f"invalid size: '{text[:40]}': no disk has so much")
    return size


def mount_target(path: str) -> str:
    """Where it is in the container, tidied up; or InvalidArgument with moby's sentence."""
    if "\0" in path or not path.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
    place = "/" + posixpath.normpath(path).lstrip("/")
    if place == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    if place.lstrip("/") in _OF_THE_KERNEL or place.startswith(("/proc/", "/sys/")):
        raise InvalidArgument(f"{path!r} cannot be mounted because the container's own /{place.lstrip('/').partition('/')[0]} is there")
    return place


def is_local(path: str) -> bool:
    """Whether a relative path stays where it begins, by its words alone."""
    if not path or path.startswith("/") or "\0" in path:
        return False
    return not posixpath.normpath(path).startswith("..") or posixpath.normpath(path).startswith("...")


def check_count(mounts: int) -> None:
    if mounts > MOUNTS_MAX:
        raise InvalidArgument(f"too many mounts: a container has at most {MOUNTS_MAX}, not {mounts}")


def check_mounts(mounts: Sequence[MountSpec]) -> None:
    """What the engine does not take on trust from a message: whatever becomes a path."""
    check_count(len(mounts))
    targets: set[str] = set()
    for mount in mounts:
        if mount.type not in KINDS:
            raise InvalidArgument(f'invalid mount config for type "{mount.type}": mount type unknown')
        if mount_target(mount.target) != mount.target:
            raise InvalidArgument(f"invalid mount path: '{mount.target}' is not tidied up")
        if mount.type == VOLUME:
            check_volume_name(mount.source)
        elif mount.type == IMAGE:
            if not _IMAGE_ID.fullmatch(mount.source):
                raise InvalidArgument(f"invalid image id {mount.source!r}")
        elif "\0" in mount.source or not mount.source.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{mount.source}' mount path must be absolute")
        if mount.subpath and not is_local(mount.subpath):
            raise InvalidArgument(f'invalid mount config for type "{mount.type}": subpath must be a relative path within the volume')
        if mount.target in targets:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        targets.add(mount.target)
