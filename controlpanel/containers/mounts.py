"""Volumes and folders of the host: ``-v``, ``--mount``, ``--volumes-from`` and what the image declares. PURE, with moby's sentences.

Order as in moby: what other containers have, ``Binds``, ``Mounts``, and the image's own for the places that are left. The same place
twice among the middle two is refused; over what another container gave, the request wins.
"""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from controlpanel.containers.fields import Object, flag, obj, objects, string_map, strings, text
from engine.errors import EngineError, InvalidArgument, Unsupported
from engine.model.volume import (
    ANONYMOUS_LABEL,
    BIND,
    IMAGE,
    LOCAL,
    VOLUME,
    MountSpec,
    check_count,
    check_volume_name,
    is_local,
    mount_target,
)

PROPAGATION: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_KINDS: Final = ("bind", "cluster", "image", "npipe", "tmpfs", "volume")
_GROUPS: Final = (("ro", "rw"), ("z", "Z"), PROPAGATION, ("nocopy",), ("consistent", "cached", "delegated"))  # one word of each in a mode

Donors = Mapping[str, Sequence[MountSpec]]


def read(
    container_id: str,
    config: Object,
    host_config: Object,
    tmpfs: Mapping[str, str],
    donors: Donors,
    images: Mapping[str, str] = MappingProxyType({}),
) -> tuple[MountSpec, ...]:
    """``config`` with the image's volumes; ``donors``: what the containers of ``VolumesFrom`` mount; ``images``: ids of those named."""
    driver = text(host_config, "VolumeDriver")
    if driver not in ("", LOCAL):
        raise InvalidArgument(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
    others, of_image = strings(host_config, "VolumesFrom"), obj(config, "Volumes")
    binds, items = strings(host_config, "Binds"), objects(host_config, "Mounts")
    check_count(len(others) + len(binds) + len(items) + len(of_image))
    found: dict[str, MountSpec] = {}
    for words in others:
        found.update((mount.target, mount) for mount in _of_another(words, donors))
    asked: dict[str, MountSpec] = {}
    given = [_bind(words) for words in binds]
    given += [mount for item in items if (mount := _mount(item, container_id, images)) is not None]
    places = {posixpath.normpath(path) for path in tmpfs}
    for mount in given:
        if mount.target in asked or mount.target in places:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        asked[mount.target] = mount
    found |= asked
    for path in of_image:
        target = mount_target(path)
        if target not in found and target not in places:
            found[target] = _anonymous(container_id, target)
    check_count(len(found))  # with what other containers have
    return tuple(found.values())


def points(mounts: Sequence[MountSpec]) -> list[dict[str, Any]]:
    """As ``inspect`` lists them. Where the host keeps a volume is not its tenant's to know."""
    return [_point(mount) for mount in mounts]


def _point(mount: MountSpec) -> dict[str, Any]:
    is_volume = mount.type == VOLUME
    name = mount.source if is_volume else mount.shown
    return {
        "Type": mount.type,
        **({"Name": name} if name else {}),
        "Source": mount.source if mount.type == BIND else "",
        "Destination": mount.target,
        **({"Driver": LOCAL} if is_volume else {}),
        "Mode": mount.mode,
        "RW": not mount.read_only,
        "Propagation": mount.propagation,
    }


def _anonymous(container_id: str, target: str, **words: Any) -> MountSpec:
    """Named after where it is, so that the same request twice is one volume."""
    name = hashlib.sha256(f"{container_id}:{target}".encode()).hexdigest()
    labels = {**words.pop("labels", {}), ANONYMOUS_LABEL: ""}
    return MountSpec(type=VOLUME, source=name, target=target, anonymous=True, labels=labels, **words)


# -- -v ----------------------------------------------------------------------------------------------


def _bind(words: str) -> MountSpec:
    """``NAME:TARGET``, ``/SOURCE:TARGET`` and a mode behind."""
    wrong = f"invalid volume specification: '{words}'"
    parts = words.split(":")
    if len(parts) not in (1, 2, 3) or "" in parts or (len(parts) == 2 and _is_mode(parts[1])):
        raise InvalidArgument(wrong)
    if len(parts) == 1:
        raise InvalidArgument(f"{wrong}: a volume without a name is asked for with Volumes")
    source, target, mode = [*parts, ""][:3]
    if not _is_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    said = mode.split(",")
    common: dict[str, Any] = {
        "read_only": "ro" in said,
        "propagation": next((word for word in said if word in PROPAGATION), ""),
        "mode": mode,
    }
    try:
        place = mount_target(target)
        if source.startswith("/"):
            common["propagation"] = common["propagation"] or "rprivate"
            return MountSpec(type=BIND, source=posixpath.normpath(source), target=place, create=True, **common)
        if common["propagation"]:
            raise InvalidArgument("field BindOptions must not be specified")
        return MountSpec(
            type=VOLUME, source=check_volume_name(source), target=place, no_copy="nocopy" in said, **{**common, "mode": mode or "z"}
        )
    except InvalidArgument as error:
        if error.message.startswith("create "):
            raise
        kind = BIND if source.startswith("/") else VOLUME
        raise InvalidArgument(f'{wrong}: invalid mount config for type "{kind}": {error.message}') from None


def _is_mode(mode: str) -> bool:
    """Known words, and of each group one."""
    if not mode:
        return True
    seen = []
    for word in mode.split(","):
        group = next((number for number, group in enumerate(_GROUPS) if word in group), -1)
        if group < 0 or group in seen:
            return False
        seen.append(group)
    return True


# -- --volumes-from ----------------------------------------------------------------------------------


def _of_another(words: str, donors: Donors) -> list[MountSpec]:
    name, colon, mode = words.partition(":")
    if not name:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    if colon and (not _is_mode(mode) or any(word in PROPAGATION or word == "nocopy" for word in mode.split(","))):
        raise InvalidArgument(f"invalid mode: {mode}")
    read_only = "ro" in mode.split(",")
    shared = [mount for mount in donors[name] if mount.type != IMAGE]
    return [dataclasses.replace(mount, read_only=mount.read_only or read_only, no_copy=True, mode="") for mount in shared]


# -- --mount -----------------------------------------------------------------------------------------


def _mount(item: Object, container_id: str, images: Mapping[str, str]) -> MountSpec | None:
    """None: of memory, which is tmpfs.py's."""
    kind, target = text(item, "Type"), text(item, "Target")
    wrong = f'invalid mount config for type "{kind}": '
    if kind not in _KINDS:
        raise InvalidArgument(f"{wrong}mount type unknown")
    if not target:
        raise InvalidArgument(f"{wrong}field Target must not be empty")
    if kind == "tmpfs":
        return None
    if kind not in (BIND, VOLUME, IMAGE):
        raise Unsupported(f"mounts of type {kind} are not supported yet (HostConfig.Mounts)")
    try:
        if kind == IMAGE:
            return _read_image(item, mount_target(target), images)
        return _read_bind(item, mount_target(target)) if kind == BIND else _read_volume(item, mount_target(target), container_id)
    except EngineError as error:
        if error.message.startswith(("create ", "invalid JSON")):
            raise
        raise type(error)(wrong + error.message, **error.detail) from None


def _read_bind(item: Object, target: str) -> MountSpec:
    source, options = text(item, "Source"), obj(item, "BindOptions")
    if not source:
        raise InvalidArgument("field Source must not be empty")
    propagation = text(options, "Propagation")
    if propagation and propagation not in PROPAGATION:
        raise InvalidArgument(f"invalid propagation mode: {propagation}")
    if item.get("VolumeOptions") is not None:
        raise InvalidArgument("field VolumeOptions must not be specified")
    if not source.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{source}' mount path must be absolute")
    return MountSpec(
        type=BIND,
        source=posixpath.normpath(source),
        target=target,
        read_only=flag(item, "ReadOnly"),
        propagation=propagation or "rprivate",
        recursive=not flag(options, "NonRecursive"),
        create=flag(options, "CreateMountpoint"),
    )


def _read_image(item: Object, target: str, images: Mapping[str, str]) -> MountSpec:
    """Always to be read alone."""
    source, subpath = text(item, "Source"), text(obj(item, "ImageOptions"), "Subpath")
    if not source:
        raise InvalidArgument("field Source must not be empty")
    for name in ("BindOptions", "VolumeOptions"):
        if item.get(name) is not None:
            raise InvalidArgument(f"field {name} must not be specified")
    if subpath and not is_local(subpath):
        raise InvalidArgument("subpath must be a relative path within the image")
    return MountSpec(
        type=IMAGE, source=images[source], shown=source, target=target, read_only=True, subpath=subpath, propagation="rprivate"
    )


def _read_volume(item: Object, target: str, container_id: str) -> MountSpec:
    source, options = text(item, "Source"), obj(item, "VolumeOptions")
    if item.get("BindOptions") is not None:
        raise InvalidArgument("field BindOptions must not be specified")
    driver, subpath = obj(options, "DriverConfig"), text(options, "Subpath")
    if text(driver, "Name") not in ("", LOCAL):
        raise InvalidArgument(f'error looking up volume plugin {text(driver, "Name")}: plugin "{text(driver, "Name")}" not found')
    if subpath and not source:
        raise InvalidArgument("must not set Subpath when using anonymous volumes")
    if subpath and not is_local(subpath):
        raise InvalidArgument("subpath must be a relative path within the volume")
    if flag(item, "ReadOnly") and not source:
        raise InvalidArgument("must not set ReadOnly mode when using anonymous volumes")
    words: dict[str, Any] = {
        "no_copy": flag(options, "NoCopy"),
        "labels": string_map(options, "Labels"),
        "options": string_map(driver, "Options"),
        "mode": "z",
    }
    if not source:
        return _anonymous(container_id, target, **words)
    return MountSpec(
        type=VOLUME, source=check_volume_name(source), target=target, read_only=flag(item, "ReadOnly"), subpath=subpath, **words
    )
