"""What the instances on one machine took from it: one host-wide file, so that two of them never take the same.

    {"instances": {"ab12": {"data": "/var/lib/slipway",          whose claim it is
                            "ids": [[603979776, 16777216]],      start, count; also lines in /etc/subuid and /etc/subgid
                            "subnets": ["10.128.0.0/14"],     of the tenants' default bridges
                            "blocks": ["10.132.0.0/18"],      of the networks that tenants make
                            "ula": "fd3b:91c2:70e4::/48"}},   the same of IPv6, 40 bits by chance (RFC 4193)
     "sysctls": {"net/ipv4/ip_forward": {"was": "0", "users": ["ab12"]}}}

Every change happens under flock(2) and is synced: losing this file to a power cut could give one id range to two owners.
Other programs that hand out ids (useradd, newuidmap, podman) read subuid(5) and subgid(5), and so do we.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from engine import disk
from engine.errors import FailedPrecondition, Unavailable
from engine.instances import noted
from engine.kernel import netlink
from engine.model.network import Subnet
from engine.model.tenant import IDS_PER_TENANT

CLAIMS_DEFAULT: Final = "/var/lib/slipway-claims.json"

TENANTS_PER_BLOCK: Final = 256
BLOCK: Final = TENANTS_PER_BLOCK * IDS_PER_TENANT  # 2^24 ids
# Above SUB_UID_MAX of login.defs(5) (600,100,000), so that useradd never wants it; below systemd's foreign ids and 2^31.
IDS_FIRST: Final = 0x2400_0000
IDS_END: Final = 0x6F00_0000

POOLS: Final = tuple(map(ipaddress.IPv4Network, ("10.128.0.0/9", "172.16.0.0/12", "10.0.0.0/9", "192.168.0.0/16")))
BLOCK_PREFIXES: Final = (18, 20, 22)
PREFIXES: Final = (14, 16, 18, 20)  # a machine whose routes leave no /14 free still gets something
SUBNET_PREFIX: Final = 20  # of one tenant
_WIDE: Final = 8  # a shorter route is the default route, or a tunnel's half of it (0.0.0.0/1): it says nothing about use

_SHADOW_LOCK_TIMEOUT_S: Final = 10.0
TEMPORARY: Final = ("/tmp/", "/var/tmp/", "/dev/shm/")


class Claims:
    """The host-wide file. ``SLIPWAY_CLAIMS`` names another one (tests)."""

    def __init__(self, path: Path | None = None, *, etc: Path = Path("/etc")) -> None:
        self._path = path or Path(os.environ.get("SLIPWAY_CLAIMS", CLAIMS_DEFAULT))
        self._subid_files = (etc / "subuid", etc / "subgid")

    def instance(self, data: Path, known: str | None, kept: dict[str, Any] | None = None) -> str:
        """The id of the instance that lives in ``data``: ``known`` from its own file, or a new one, recorded here.

        ``kept``: what ``of`` said when it last claimed; a folder that comes from another machine claims just that again.
        FailedPrecondition when ``data`` is a copy of an instance's folder that still exists, or what it kept is another's here.
        """
        with self._changing() as record:
            instances: dict[str, Any] = record["instances"]
            home = str(data.resolve())
            if known is not None:
                if known not in instances:
                    instances[known] = self._moved_in(record, home, kept or _new_claim(home))
                claim = instances[known]
                if claim["data"] != home and Path(claim["data"], "engine", "instance").exists():
                    raise FailedPrecondition(
                        f"{home} is a copy of {claim['data']}: two instances cannot share the id {known}. "
                        f"Remove one of them, or delete {home}/engine/instance and {home}/engine/tenants"
                    )
                claim["data"] = home
                return known
            for name, claim in instances.items():
                if claim["data"] == home:  # the folder was wiped: nothing of the old owner exists
                    return str(name)
            self._forget_temporary(record)
            links = [link for _, link in socket.if_nameindex()]
            while True:
                name = secrets.token_hex(2)
                if name not in instances and name not in noted() and not any(link.startswith(name) for link in links):
                    instances[name] = _new_claim(home)
                    return name

    @property
    def path(self) -> Path:
        return self._path

    def all(self) -> dict[str, dict[str, Any]]:
        """{instance: what ``of`` says}, without waiting for anybody."""
        return dict((disk.read_json(self._path) or {}).get("instances", {}))

    def of(self, instance: str) -> dict[str, Any]:
        """What the instance has: {"data", "ids", "subnets", "blocks"}, the last perhaps missing."""
        with self._changing() as record:
            return dict(record["instances"][instance])

    def ids(self, instance: str, blocks: int) -> list[int]:
        """Starts of the first ``blocks`` id ranges of the instance, each BLOCK long; claimed when missing."""
        with self._changing() as record:
            claim = record["instances"][instance]
            owner = f"slipway-{instance}"
            while len(claim["ids"]) < blocks:
                claim["ids"].append([self._free_block(record), BLOCK])
            for path in self._subid_files:
                have = [line for line in _lines(path) if line.split(":")[0] == owner]
                want = [f"{owner}:{start}:{count}" for start, count in claim["ids"]]
                if have != want:
                    _rewrite(path, owner, want)
            return [start for start, _ in claim["ids"]]

    def subnets(self, instance: str, tenants: int) -> list[str]:
        """The networks of the instance, claimed until ``tenants`` subnets of SUBNET_PREFIX fit in."""
        with self._changing() as record:
            claim = record["instances"][instance]
            while sum(1 << SUBNET_PREFIX - ipaddress.IPv4Network(net).prefixlen for net in claim["subnets"]) < tenants:
                claim["subnets"].append(str(self._free_network(record)))
            return list(claim["subnets"])

    def blocks(self, instance: str, count: int) -> list[str]:
        """Networks for those that tenants make, claimed until there are ``count``."""
        with self._changing() as record:
            claim = record["instances"][instance]
            blocks: list[str] = claim.setdefault("blocks", [])
            while len(blocks) < count:
                blocks.append(str(self._free_network(record, BLOCK_PREFIXES)))
            return list(blocks)

    def ula(self, instance: str) -> str:
        """The IPv6 network of the instance, for those that tenants make; claimed at the first need."""
        with self._changing() as record:
            claim = record["instances"][instance]
            while "ula" not in claim:
                ula = ipaddress.IPv6Network((b"\xfd" + secrets.token_bytes(5) + bytes(10), 48))
                if not any(ula.overlaps(other) for other in (*_ulas(record["instances"]), *host_networks(6)) if other.prefixlen >= _WIDE):
                    claim["ula"] = str(ula)
            return str(claim["ula"])

    def everyones(self, version: int) -> list[Subnet]:
        """Every network that an instance of this machine has claimed."""
        claims = self.all()
        if version == 6:
            return [*_ulas(claims)]
        return [ipaddress.ip_network(net) for claim in claims.values() for net in networks_of(claim)]

    def release(self, instance: str) -> None:
        """Everything of the instance goes back. The caller asserts that nothing of it exists."""
        with self._changing() as record:
            self._forget(record, instance)

    def hold_sysctl(self, instance: str, name: str, value: str, *, only: str = "") -> None:
        """Set /proc/sys/``name`` and remember what it was until the last instance that wants it lets go. ``only``: what it must be, unless
        somebody holds it already; else it stays."""
        path = Path("/proc/sys", name)
        with self._changing() as record:
            if only and name not in record["sysctls"] and path.read_text().strip() != only:
                return
            held = record["sysctls"].setdefault(name, {"was": path.read_text().strip(), "users": []})
            if instance not in held["users"]:
                held["users"].append(instance)
            if path.read_text().strip() != value:
                path.write_text(value)

    def drop_sysctls(self, instance: str) -> None:
        """The last first: what was held before another one for its sake is needed as long."""
        with self._changing() as record:
            for name in reversed(list(record["sysctls"])):
                _let_go(record, instance, name)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with disk.locked(self._path.with_name(f"{self._path.name}.lock")):
            record = disk.read_json(self._path) or {}
            for part in ("instances", "sysctls"):
                record.setdefault(part, {})
            before = repr(record)
            yield record
            if repr(record) != before:
                disk.write_json(self._path, record, sync=True)

    def _forget(self, record: dict[str, Any], instance: str) -> None:
        record["instances"].pop(instance, None)
        for name in reversed(list(record["sysctls"])):
            _let_go(record, instance, name)
        for path in self._subid_files:
            if any(line.split(":")[0] == f"slipway-{instance}" for line in _lines(path)):
                _rewrite(path, f"slipway-{instance}", [])

    def _forget_temporary(self, record: dict[str, Any]) -> None:
        """Instances whose folder for temporary files was wiped (a killed test run). Elsewhere a missing folder may be an unmounted disk."""
        links = [link for _, link in socket.if_nameindex()]
        for instance, claim in list(record["instances"].items()):
            data = claim["data"]
            if data.startswith(TEMPORARY) and not os.path.exists(data) and not any(link.startswith(instance) for link in links):
                self._forget(record, instance)

    def _moved_in(self, record: dict[str, Any], home: str, kept: dict[str, Any]) -> dict[str, Any]:
        wanted_ids = [(start, start + count) for start, count in kept["ids"]]
        wanted_nets = [ipaddress.IPv4Network(net) for net in networks_of(kept)]
        for name, claim in record["instances"].items():
            ids = any(_overlap(one, other) for one in wanted_ids for other in _ranges(claim))
            nets = any(one.overlaps(ipaddress.IPv4Network(other)) for one in wanted_nets for other in networks_of(claim))
            if ids or nets:
                raise FailedPrecondition(
                    f"{home} comes from another machine, and {'user ids' if ids else 'networks'} of its tenants belong to the "
                    f"instance {name} in {claim['data']} here: remove that one, or export and create these tenants anew"
                )
        ula = {"ula": kept["ula"]} if "ula" in kept else {}
        return {"data": home, "ids": kept["ids"], "subnets": kept["subnets"], "blocks": kept.get("blocks", []), **ula}

    def _free_block(self, record: dict[str, Any]) -> int:
        taken = [ids for claim in record["instances"].values() for ids in _ranges(claim)]
        for path in self._subid_files:
            for line in _lines(path):
                if match := re.fullmatch(r"[^:]*:(\d+):(\d+)", line):
                    taken.append((int(match[1]), int(match[1]) + int(match[2])))
        used = [user.pw_uid for user in pwd.getpwall()] + [group.gr_gid for group in grp.getgrall()]
        for start in range(IDS_FIRST, IDS_END, BLOCK):
            end = start + BLOCK
            if not any(_overlap((start, end), ids) for ids in taken) and not any(start <= number < end for number in used):
                return start
        raise FailedPrecondition(
            f"no {BLOCK} free ids between {IDS_FIRST} and {IDS_END}: /etc/subuid, /etc/subgid or {self._path} give all away"
        )

    def _free_network(self, record: dict[str, Any], prefixes: Sequence[int] = PREFIXES) -> ipaddress.IPv4Network:
        taken: list[Subnet] = [ipaddress.IPv4Network(net) for claim in record["instances"].values() for net in networks_of(claim)]
        taken += [net for net in host_networks(4) if net.prefixlen >= _WIDE]
        taken += _name_servers()
        for prefix in prefixes:
            for pool in POOLS:
                if pool.prefixlen <= prefix:
                    for candidate in pool.subnets(new_prefix=prefix):
                        if not any(candidate.overlaps(net) for net in taken):
                            return candidate
        pools = ", ".join(map(str, POOLS))
        raise FailedPrecondition(f"no private network is free on this host: its routes and {self._path} take all of {pools}")


def host_networks(version: int) -> Iterator[Subnet]:
    """Every network that this host has an address in or a route to, in any table, or that an instance has whose bridges are not up yet."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    for network in netlink.addresses(family) + netlink.routes(family):
        yield ipaddress.ip_network((network.address, network.prefix), strict=False)
    if version == 4:  # of IPv6 they are chosen by chance
        for living in noted().values():
            if living.exists:
                yield from map(ipaddress.IPv4Network, living.subnets)


def _name_servers() -> list[ipaddress.IPv4Network]:
    """Of the host: reached by its default route, they would be reached no more (resolv.conf(5))."""
    found = []
    for line in _lines(Path("/etc/resolv.conf")):
        with suppress(ValueError, IndexError):
            if line.split()[:1] == ["nameserver"]:
                found.append(ipaddress.IPv4Network(line.split()[1]))
    return found


def _ulas(claims: dict[str, dict[str, Any]]) -> Iterator[ipaddress.IPv6Network]:
    return (ipaddress.IPv6Network(claim["ula"]) for claim in claims.values() if "ula" in claim)


def networks_of(claim: dict[str, Any]) -> list[str]:
    """Of what ``of`` says: every IPv4 network that the instance has."""
    return [*claim["subnets"], *claim.get("blocks", ())]


def _new_claim(home: str) -> dict[str, Any]:
    return {"data": home, "ids": [], "subnets": []}


def _ranges(claim: dict[str, Any]) -> list[tuple[int, int]]:
    """(first, end) of its ids."""
    return [(start, start + count) for start, count in claim["ids"]]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _let_go(record: dict[str, Any], instance: str, name: str) -> None:
    """The last one that holds a setting puts back what was."""
    held = record["sysctls"].get(name)
    if held is not None and instance in held["users"]:
        held["users"].remove(instance)
        if not held["users"]:
            with suppress(FileNotFoundError):  # of a link that is gone
                Path("/proc/sys", name).write_text(held["was"])
            del record["sysctls"][name]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _rewrite(path: Path, owner: str, lines: list[str]) -> None:
    """Replace the owner's lines of subuid(5) or subgid(5), keeping everybody else's."""
    with _shadow_lock(path):
        kept = [line for line in _lines(path) if line.split(":")[0] != owner]
        disk.write_atomic(path, "".join(f"{line}\n" for line in kept + lines).encode(), mode=0o644, sync=True)
        path.chmod(0o644)


@contextmanager
def _shadow_lock(path: Path) -> Iterator[None]:
    """The lock of shadow's own tools (useradd, usermod): ``<file>.lock`` holding a pid, stale when that process is gone."""
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + _SHADOW_LOCK_TIMEOUT_S
    while True:
        try:
            fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:
            if _is_stale(lock):
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise Unavailable(f"{lock} is held by another program, such as useradd: try again, or remove it") from None
            else:
                time.sleep(0.1)
    try:
        os.write(fd, f"{os.getpid()}\0".encode())
        os.close(fd)
        yield
    finally:
        lock.unlink(missing_ok=True)


def _is_stale(lock: Path) -> bool:
    try:
        os.kill(int(lock.read_text().strip("\0\n ")), 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except (ValueError, PermissionError):
        return False
    return False
