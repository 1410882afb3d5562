"""What netd must know to come back after a kill: one file a fact, written before netd is asked.

    networks/names/served/<container id>             Names: it has a resolver at 127.0.0.11 while it runs
    networks/names/members/<network key>/<id>        {"network": its name, "member": Member}
    networks/ports/<container id>                    [PortBinding, …] as they were bound; netd's own, between bind(2) and its answer
    networks/targets/<container id>  → <address>     a symlink: where its ports lead

Everything is renamed into its place or unlinked, so no reader sees half of it. Leaving what is not there is fine.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from engine import disk
from engine.errors import InvalidArgument
from engine.model.network import PortBinding
from engine.networks.names import Member, Names

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a file: no dot in front, as a temporary one has


class Facts:
    def __init__(self, networks: Path) -> None:
        """``networks``: <engine>/networks."""
        self._served = networks / "names" / "served"
        self._members = networks / "names" / "members"
        self._ports = networks / "ports"
        self._targets = networks / "targets"

    # -- names -----------------------------------------------------------------------------------

    def serve(self, container_id: str, names: Names) -> None:
        _write(self._served / _checked(container_id), names.to_json())

    def served(self) -> dict[str, Names]:
        return {path.name: Names.from_json(record) for path, record in _records(self._served)}

    def is_served(self, container_id: str) -> bool:
        return (self._served / _checked(container_id)).exists()

    def has_ports(self, container_id: str) -> bool:
        return (self._ports / _checked(container_id)).exists() or os.path.lexists(self._targets / _checked(container_id))

    def enter(self, network: str, network_name: str, member: Member) -> None:
        path = self._members / _checked(network) / _checked(member.container_id)
        _write(path, {"network": network_name, "member": member.to_json()})

    def leave(self, network: str, container_id: str) -> None:
        folder = self._members / _checked(network)
        (folder / _checked(container_id)).unlink(missing_ok=True)
        with suppress(OSError):  # others are in it, or it is gone
            folder.rmdir()

    def members(self) -> Iterator[tuple[str, str, Member]]:
        """(network key, network's name, member)."""
        for network in _names(self._members):
            for _path, record in _records(self._members / network):
                yield network, str(record["network"]), Member.from_json(record["member"])

    # -- ports -----------------------------------------------------------------------------------

    def hold(self, container_id: str, ports: Collection[PortBinding]) -> None:
        path = self._ports / _checked(container_id)
        if ports:
            _write(path, [port_to_json(port) for port in ports])
        else:
            path.unlink(missing_ok=True)

    def held(self) -> dict[str, list[PortBinding]]:
        return {path.name: [port_from_json(port) for port in record] for path, record in _records(self._ports)}

    def target(self, container_id: str, address: str) -> None:
        path = self._targets / _checked(container_id)
        if not address:
            path.unlink(missing_ok=True)
            return
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        try:
            os.symlink(address, temporary)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.symlink(address, temporary)
        os.rename(temporary, path)

    def target_of(self, container_id: str) -> str:
        try:
            return os.readlink(self._targets / container_id)
        except FileNotFoundError:
            return ""

    def release(self, container_id: str) -> None:
        for folder in (self._ports, self._targets):
            (folder / _checked(container_id)).unlink(missing_ok=True)

    # -- the end ---------------------------------------------------------------------------------

    def forget(self, container_id: str) -> None:
        (self._served / _checked(container_id)).unlink(missing_ok=True)
        self.release(container_id)

    def clear(self, live: Collection[str], *, older_than_s: float) -> tuple[list[str], list[tuple[str, str]]]:
        """What containers that are not ``live`` left goes, except what is younger than the list of the living may be.

        Returns the containers, and (network key, container) of the memberships.
        """
        alive, newest = set(live), time.time() - older_than_s
        gone = {path.name for folder in (self._served, self._ports, self._targets) for path in _left(folder, alive, newest)}
        memberships = [(network, path.name) for network in _names(self._members) for path in _left(self._members / network, alive, newest)]
        for container_id in gone:
            self.forget(container_id)
        for network, container_id in memberships:
            self.leave(network, container_id)
        return sorted(gone), memberships


def port_to_json(port: PortBinding) -> dict[str, Any]:
    return {name: getattr(port, name) for name in PortBinding.__slots__}


def port_from_json(data: dict[str, Any]) -> PortBinding:
    return PortBinding(**{name: data[name] for name in PortBinding.__slots__ if name in data})


def _checked(name: str) -> str:
    """Of a file below a folder of ours, and nothing else."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"invalid id {name!r}")
    return name


def _write(path: Path, record: Any) -> None:
    try:
        disk.write_json(path, record)
    except FileNotFoundError:  # the folder's first, or its last has just left
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_json(path, record)


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def _records(folder: Path) -> Iterator[tuple[Path, Any]]:
    """What was there when its turn came; a file that a power loss emptied is none."""
    for name in _names(folder):
        record = disk.read_json(folder / name)
        if record is not None:
            yield folder / name, record


def _left(folder: Path, alive: Collection[str], newest: float) -> Iterator[Path]:
    for name in _names(folder):
        if name not in alive:
            with suppress(FileNotFoundError):
                if (folder / name).lstat().st_mtime <= newest:
                    yield folder / name
