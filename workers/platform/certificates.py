"""The server's certificate and who vouches for it: made at ``up`` when SLIPWAY_TLS is set, and renewed by the supervisor's tender.

    <data>/etc/tls/ca.key       root 0600: signs the server's certificates and nothing else
    <data>/etc/tls/ca.pem       everybody: what clients trust
    <data>/etc/tls/server.key   root, group slipway, 0640: web reads it
    <data>/etc/tls/server.pem   for the host's names and addresses; renewed when a third of its life is left, or when these have changed
    <data>/etc/tls/names        which these are, one a line; the first is the one that a context leads to

Clients' certificates are signed by another authority, the panel's own (controlpanel/tenants/authority.py). Who takes over web can make
himself a client, as he could by writing a token's row; he cannot make himself another server. In the installed release only: it
needs cryptography.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine import disk
from engine.kernel import netlink
from workers import authority
from workers.authority import Authority
from workers.platform import parts, sockets
from workers.platform.places import Places

AUTHORITY_DAYS: Final = 3650
AUTHORITY_LEFT_DAYS: Final = 1000  # then it signs itself anew, with the same key
SERVER_DAYS: Final = 90


def make(places: Places, *, now: datetime.datetime | None = None) -> bool:
    """What is missing, ends soon or names other addresses than the host's. Idempotent; whether the server's certificate is a new one."""
    now = now or datetime.datetime.now(datetime.UTC)
    folder = places.tls_folder
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    ca = _authority(folder, now)
    names = host_names(places)
    is_due = not _serves(folder, ca, names, now)
    if is_due:
        key = authority.new_key()
        certificate = ca.for_server(key, names, now=now, days=SERVER_DAYS)
        _write(folder / "server.key", authority.key_pem(key), mode=0o640, gid=parts.gid())
        _write(folder / "names", "".join(f"{name}\n" for name in names).encode(), mode=0o644)
        _write(folder / "server.pem", authority.certificate_pem(certificate), mode=0o644)  # last: web looks at this one
    (folder / "looked").touch()  # the tender looks again an hour later
    return is_due


def host_names(places: Places) -> list[str]:
    """Names and addresses under which clients reach this machine: the bound address, the operator's names, its own names and addresses.

    Without duplicates, the best for a client first.
    """
    host, _port = sockets.split(places.tls, "SLIPWAY_TLS")
    bound = [] if host in ("", "0.0.0.0", "::") else [host]
    given = [name.strip().strip("[]") for name in places.variables.get("SLIPWAY_ALLOWED_HOSTS", "").split(",")]
    own = [] if bound else _way_out() + _addresses()
    machine = [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(name for name in (*bound, *given, *own, *machine) if _is_name(name)))


def _is_name(name: str) -> bool:
    """What a certificate may name: no pattern of Django's (``.example.org``, ``*``)."""
    return bool(name) and name.isascii() and not name.startswith((".", "*")) and len(name) <= 253


def _way_out() -> list[str]:
    """The address that the default route leaves from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: a route is looked up, nothing is sent
        except OSError:
            return []
        return [str(sock.getsockname()[0])]


def _addresses() -> list[str]:
    found = [network for family in (socket.AF_INET, socket.AF_INET6) for network in netlink.addresses(family)]
    return sorted(network.address for network in found if _is_lasting(network))


def _is_lasting(network: netlink.Network) -> bool:
    """Of a card, real or virtual. Bridges, tunnels and veths come and go with containers; SLIPWAY_ALLOWED_HOSTS names those that stay."""
    address = ipaddress.ip_address(network.address)
    if address.is_loopback or address.is_link_local:
        return False
    try:
        link = Path("/sys/class/net") / socket.if_indextoname(network.link)
    except OSError:
        return False  # it went meanwhile
    return (link / "device").exists()


def _authority(folder: Path, now: datetime.datetime) -> Authority:
    key_path, path = folder / "ca.key", folder / "ca.pem"
    if key_path.exists():
        key = authority.load_key(key_path.read_bytes())
        found = authority.load_certificate(path.read_bytes()) if path.exists() else None
        if found is not None and found.not_valid_after_utc - now > datetime.timedelta(days=AUTHORITY_LEFT_DAYS):
            return Authority(found, key)
    else:
        key = authority.new_key()
        _write(key_path, authority.key_pem(key), mode=0o600)
    made = Authority.make(key, "Slipway", now=now, days=AUTHORITY_DAYS)
    _write(path, authority.certificate_pem(made.certificate), mode=0o644)
    return made


def _serves(folder: Path, ca: Authority, names: Sequence[str], now: datetime.datetime) -> bool:
    """Whether the certificate that is there will do."""
    try:
        found = authority.load_certificate((folder / "server.pem").read_bytes())
        key = authority.load_key((folder / "server.key").read_bytes())
        stated = (folder / "names").read_text().split()
    except (OSError, ValueError):
        return False
    life = found.not_valid_after_utc - found.not_valid_before_utc
    if found.public_key() != key.public_key() or not ca.has_signed(found):
        return False
    return stated == list(names) and found.not_valid_after_utc - now > life / 3


def _write(path: Path, data: bytes, *, mode: int, gid: int = 0) -> None:
    """In a folder that is root's alone."""
    disk.write_atomic(path, data, mode=0o600, sync=True)
    os.chown(path, 0, gid)
    path.chmod(mode)
