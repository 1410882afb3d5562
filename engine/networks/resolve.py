"""The text of a container's /etc/resolv.conf and /etc/hosts, as moby writes them. Pure, but for the host's resolver files.

resolv.conf(5), hosts(5). A nameserver on the host's loopback is no use inside: the container's loopback is another one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InvalidArgument
from engine.model.container import ContainerSpec

RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")  # what stands behind systemd-resolved's stub at 127.0.0.53
_STUB = "127.0.0.53"
_FALLBACK = ("8.8.8.8", "8.8.4.4")  # Docker's, when the host has no server that a container can reach
_LOCALHOST = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(slots=True)
class _Resolver:
    nameservers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def host_resolv_conf() -> str:
    """The host's resolver configuration; behind systemd-resolved, the servers it asks."""
    text = _read(RESOLV_CONF)
    if _parse(text).nameservers == [_STUB]:
        return _read(SYSTEMD_RESOLV_CONF) or text
    return text


def resolv_conf(spec: ContainerSpec, host: str) -> str:
    """``host``: the text of the host's file. What the spec names replaces the host's, list by list."""
    resolver = _parse(host)
    nameservers = list(spec.dns) or [server for server in resolver.nameservers if _is_reachable(server)] or list(_FALLBACK)
    search = list(spec.dns_search) or resolver.search
    options = list(spec.dns_options) or resolver.options
    lines = [f"nameserver {server}" for server in nameservers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*lines, *resolver.other]) + "\n"


def hosts_file(spec: ContainerSpec, *, address: str, gateway: str) -> str:
    """``address`` and ``gateway`` are "" without a network. InvalidArgument for a malformed extra host."""
    lines = []
    for extra in spec.extra_hosts:
        name, separator, target = extra.partition(":")
        if "=" in name:
            name, separator, target = extra.partition("=")
        if not name or not separator:
            raise InvalidArgument(f"invalid extra host {extra!r}: expected name:address")
        lines.append(f"{_target(extra, target, gateway)}\t{name}\n")
    if address:
        name = spec.hostname or spec.id[:12]
        names = f"{name}.{spec.domainname} {name}" if spec.domainname else name
        lines.append(f"{address}\t{names}\n")
    return _LOCALHOST + "".join(lines)


def _target(extra: str, target: str, gateway: str) -> str:
    if target == "host-gateway":
        if not gateway:
            raise InvalidArgument(f"invalid extra host {extra!r}: without a network there is no gateway to the host")
        return gateway
    try:
        return str(ipaddress.ip_address(target.strip("[]")))
    except ValueError:
        raise InvalidArgument(f"invalid IP address in extra host {extra!r}") from None


def _parse(text: str) -> _Resolver:
    resolver = _Resolver()
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            resolver.nameservers += words[1:2]
        elif words[0] in ("search", "domain"):  # the last one counts; "domain" is the old word
            resolver.search = words[1:] or resolver.search
        elif words[0] == "options":
            resolver.options += words[1:]
        else:
            resolver.other.append(line)
    return resolver


def _is_reachable(server: str) -> bool:
    """Not on a loopback, and IPv4: a container has no IPv6 route."""
    try:
        parsed = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return parsed.version == 4 and not parsed.is_loopback


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
