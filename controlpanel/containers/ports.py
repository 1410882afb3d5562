"""Ports in Docker's words: ExposedPorts and PortBindings of a request, and what ``ps`` and ``inspect`` show of them. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from controlpanel.containers.fields import Object, flag, obj, objects, text
from engine.errors import InvalidArgument
from engine.model.container import ContainerSpec, ContainerState
from engine.model.network import PortBinding, check_port

Port = tuple[int, str]  # of a container, with its protocol

_LAST: Final = 65535
_EVERYWHERE: Final = ("0.0.0.0", "::")  # what moby shows for a binding to every address


def read(config: Object, host_config: Object) -> tuple[PortBinding, ...]:
    """What is asked to be published. ``config``: Docker's Config with the image's defaults.

    Of PublishAllPorts every exposed port that is not published yet gets any free port of the host.
    """
    found = []
    for port, asked in obj(host_config, "PortBindings").items():
        number, protocol = container_port(port)
        for binding in _bindings(asked, port):
            first, last = _host_ports(text(binding, "HostPort"))
            found.append(
                PortBinding(
                    container_port=number,
                    protocol=protocol,
                    host_ip=text(binding, "HostIp"),
                    host_port=first,
                    host_port_end=last if last > first else 0,
                )
            )
    if flag(host_config, "PublishAllPorts"):
        taken = {(binding.container_port, binding.protocol) for binding in found}
        found += [
            PortBinding(container_port=number, protocol=protocol) for number, protocol in exposed(config) if (number, protocol) not in taken
        ]
    for each in found:
        check_port(each)
    return tuple(found)


def _bindings(asked: Any, port: str) -> list[dict[str, Any]]:
    """null: the port is only exposed."""
    return objects({port: asked}, port)


def container_port(text: str) -> Port:
    """``80/tcp`` or ``80``. InvalidArgument for what is no port."""
    number, protocol = _split(text)
    port = _number(number)
    if port is None or port == 0:
        raise InvalidArgument(f'invalid port specification: "{number}"')
    return port, protocol


def exposed(config: Object) -> list[Port]:
    """What the image and the request expose, in order. moby takes any text here; what is no port can't be published."""
    found = set()
    for text_of_port in obj(config, "ExposedPorts"):
        number, protocol = _split(text_of_port)
        port = _number(number)
        if port:
            found.add((port, protocol))
    return sorted(found)


def _split(text_of_port: str) -> tuple[str, str]:
    number, _slash, protocol = text_of_port.partition("/")
    return number, protocol.lower() or "tcp"


def _number(text_of_port: str) -> int | None:
    if not (text_of_port.isascii() and text_of_port.isdigit()) or len(text_of_port) > 5 or int(text_of_port) > _LAST:
        return None
    return int(text_of_port)


def _host_ports(asked: str) -> tuple[int, int]:
    """``8080``, ``8000-8010``, or "" for any; first and last."""
    text_of_ports = asked.partition("/")[0]
    if not text_of_ports:
        return 0, 0
    first, dash, last = text_of_ports.partition("-")
    numbers = _number(first), _number(last if dash else first)
    if numbers[0] is None or numbers[1] is None or numbers[1] < numbers[0]:
        raise InvalidArgument(f'invalid port specification: "{text_of_ports}"')
    return numbers[0], numbers[1]


def to_docker(bindings: Iterable[PortBinding]) -> dict[str, list[dict[str, str]]]:
    """HostConfig.PortBindings of what was asked."""
    found: dict[str, list[dict[str, str]]] = {}
    for binding in bindings:
        asked = f"{binding.host_port}-{binding.host_port_end}" if binding.host_port_end else str(binding.host_port or "")
        port = f"{binding.container_port}/{binding.protocol}"
        found.setdefault(port, []).append({"HostIp": binding.host_ip, "HostPort": asked})
    return found


def port_map(config: Object, bindings: Sequence[PortBinding]) -> dict[str, list[dict[str, str]] | None]:
    """NetworkSettings.Ports of a container that runs: exposed ports are null, and "every address" is one entry for each family."""
    found: dict[str, list[dict[str, str]] | None] = {f"{number}/{protocol}": None for number, protocol in exposed(config)}
    for binding in bindings:
        port = f"{binding.container_port}/{binding.protocol}"
        here = found.get(port) or []
        here += [{"HostIp": address, "HostPort": str(binding.host_port)} for address in addresses(binding)]
        found[port] = here
    return dict(sorted(found.items()))


def summary(config: Object, bindings: Sequence[PortBinding]) -> list[dict[str, Any]]:
    """Ports of the list of containers, in the order in which moby has them."""
    published = sorted(
        (binding.container_port, binding.protocol, address, binding.host_port) for binding in bindings for address in addresses(binding)
    )
    taken = {(number, protocol) for number, protocol, _address, _port in published}
    found = [{"IP": address, "PrivatePort": number, "PublicPort": port, "Type": protocol} for number, protocol, address, port in published]
    found += [{"PrivatePort": number, "Type": protocol} for number, protocol in exposed(config) if (number, protocol) not in taken]
    return sorted(found, key=lambda port: (port["PrivatePort"], port["Type"]))


def current(spec: ContainerSpec, state: ContainerState) -> tuple[PortBinding, ...]:
    """What is published of a container now: with the host's ports filled in where it runs."""
    return spec.ports if state.ports is None else state.ports


def addresses(binding: PortBinding) -> tuple[str, ...]:
    return (binding.host_ip,) if binding.host_ip else _EVERYWHERE


def spelled(binding: PortBinding) -> str:
    """As ``docker run -p`` takes it: 127.0.0.1:8080:80/udp."""
    host = f"{binding.host_port}-{binding.host_port_end}" if binding.host_port_end else str(binding.host_port or "")
    address = f"[{binding.host_ip}]" if ":" in binding.host_ip else binding.host_ip
    before = f"{address}:{host}:" if address else f"{host}:" if host else ""
    return f"{before}{binding.container_port}" + (f"/{binding.protocol}" if binding.protocol != "tcp" else "")


def parse(line: str) -> Mapping[str, list[dict[str, str]]]:
    """The opposite of ``spelled``: PortBindings of one word as ``docker run -p`` takes it; ranges go together port by port."""
    rest, _slash, protocol = line.strip().partition("/")
    if rest.startswith("["):
        address, bracket, rest = rest[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise InvalidArgument(f"invalid IP address: {line}")
        rest = rest[1:]
    elif rest.count(":") == 2:
        address, _colon, rest = rest.partition(":")
    else:
        address = ""
    host, colon, inside = rest.rpartition(":")
    first, last = _range(inside, "containerPort")
    protocol = protocol.lower() or "tcp"
    bounds = _range(host, "hostPort") if colon and host else None
    if bounds is None:
        return {f"{number}/{protocol}": [{"HostIp": address, "HostPort": ""}] for number in range(first, last + 1)}
    if first == last:
        asked = str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}-{bounds[1]}"
        return {f"{first}/{protocol}": [{"HostIp": address, "HostPort": asked}]}
    if bounds[1] - bounds[0] != last - first:
        raise InvalidArgument(f"invalid ranges specified for container and host Ports: {inside} and {host}")
    pairs = zip(range(first, last + 1), range(bounds[0], bounds[1] + 1), strict=True)
    return {f"{number}/{protocol}": [{"HostIp": address, "HostPort": str(port)}] for number, port in pairs}


def bindings(lines: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """PortBindings of several such words."""
    found: dict[str, list[dict[str, str]]] = {}
    for line in lines:
        for port, asked in parse(line).items():
            found.setdefault(port, []).extend(asked)
    return found


def _range(text_of_ports: str, what: str) -> tuple[int, int]:
    first, dash, last = text_of_ports.partition("-")
    numbers = _number(first), _number(last if dash else first)
    if not numbers[0] or not numbers[1] or numbers[1] < numbers[0]:
        raise InvalidArgument(f"invalid {what}: {text_of_ports}")
    return numbers[0], numbers[1]
