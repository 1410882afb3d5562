"""The text of a container's /etc/resolv.conf and /etc/hosts, as moby writes them. Pure, but for the host's resolver files.

resolv.conf(5), hosts(5). A nameserver on the host's loopback is no use inside: the container's loopback is another one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import InvalidArgument

if TYPE_CHECKING:  # netd reads resolv.conf, and stays small
    from engine.model.container import ContainerSpec

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")  # what stands behind systemd-resolved's stub at 127.0.0.53
EMBEDDED: Final = "127.0.0.11"  # Docker's, inside of each container that is in a network with names
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


def resolv_conf(spec: ContainerSpec, host: str, *, embedded: bool = False) -> str:
    """``host``: the text of the host's file. What the spec names replaces the host's, list by list.

    ``embedded``: names are answered by netd, which asks those servers in turn.
    """
    resolver = _parse(host)
    nameservers = [EMBEDDED] if embedded else servers(spec, host)
    search = list(spec.dns_search) or resolver.search
    options = list(spec.dns_options) or resolver.options
    if embedded and not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    lines = [f"nameserver {server}" for server in nameservers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*lines, *resolver.other]) + "\n"


def of_host(spec: ContainerSpec) -> dict[str, str]:
    """Of who is in the host's network: the host's own files, loopback servers and all; hosts anew only where it asks for more of them."""
    resolver = _read(RESOLV_CONF)
    if spec.dns or spec.dns_search or spec.dns_options:
        resolver = resolv_conf(replace(spec, dns=spec.dns or tuple(_parse(resolver).nameservers)), resolver)
    return {"hosts": hosts_file(spec) if spec.extra_hosts else _read(HOSTS), "resolv.conf": resolver}


def nameservers() -> list[str]:
    """The host's own, wherever they are, but not on its loopback; those behind systemd-resolved's stub, too."""
    found = {*_parse(_read(RESOLV_CONF)).nameservers, *_parse(_read(SYSTEMD_RESOLV_CONF)).nameservers}
    return sorted(server for server in found if "%" not in server and (address := _address(server)) and not address.is_loopback)


def servers(spec: ContainerSpec, host: str) -> list[str]:
    """Those that the container itself can ask."""
    return list(spec.dns) or [server for server in _parse(host).nameservers if _is_reachable(server)] or list(_FALLBACK)


def hosts_file(spec: ContainerSpec, *, addresses: Sequence[str] = (), gateway: str = "", links: Sequence[tuple[str, str]] = ()) -> str:
    """``gateway`` is "" without a way out; ``links``: (address, names) of other containers. InvalidArgument for a malformed extra host."""
    lines = []
    for extra in spec.extra_hosts:
        name, separator, target = extra.partition(":")
        if "=" in name:
            name, separator, target = extra.partition("=")
        if not name or not separator:
            raise InvalidArgument(f"invalid extra host {extra!r}: expected name:address")
        lines.append(f"{_target(extra, target, gateway)}\t{name}\n")
    lines += [f"{address}\t{names}\n" for address, names in links]
    for address in addresses:
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
    """Not on a loopback, and IPv4: not every container has an IPv6 route."""
    parsed = _address(server)
    return parsed is not None and parsed.version == 4 and not parsed.is_loopback


def _address(server: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
