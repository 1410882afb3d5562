"""Allow-lists as elements of sets: the rules of the firewall stay the same, however many lists there are. Pure.

    <direction>[6]_<scope>              the addresses that a list holds for; with 6: of IPv6
    <direction>[6]_<scope>_ports        own address . other's address . protocol . port     of tcp and udp
    <direction>[6]_<scope>_protocols    own address . other's address . protocol            of the rest

The kernel takes no two elements of such a set that overlap, so what the rules of one list say is cut into pieces that don't.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from engine.errors import InvalidArgument
from engine.model.rules import EVERYWHERE, Rule, Rules, port_ranges

CONTAINERS, NETWORKS = "containers", "networks"
SCOPES: Final = (CONTAINERS, NETWORKS)
DIRECTIONS: Final = ("egress", "ingress")
ELEMENTS_MAX: Final = 512  # of a list and an address

Span = tuple[int, int]  # first and last
Elements = dict[str, list[str]]  # by set

_TCP, _UDP = 6, 17
_NUMBERS: Final = {"tcp": _TCP, "udp": _UDP}
_PORTLESS: Final = {"any": [(0, 5), (7, 16), (18, 255)]}  # but tcp and udp


class _Family(NamedTuple):
    mark: str  # in the names of its sets and chains
    word: str  # nft's
    type: str
    icmp: int
    everywhere: Span


_FAMILIES: Final = {4: _Family("", "ip", "ipv4_addr", 1, (0, (1 << 32) - 1)), 6: _Family("6", "ip6", "ipv6_addr", 58, (0, (1 << 128) - 1))}


class Limit(NamedTuple):
    """``places``: addresses of a container, or the subnets of a network."""

    scope: str
    places: tuple[str, ...]
    rules: Rules


def elements(limits: Iterable[Limit]) -> Elements:
    found: Elements = {}
    for limit in limits:
        for direction, rules in (("egress", limit.rules.egress), ("ingress", limit.rules.ingress)):
            if rules is None:
                continue
            said = {version: (list(_ports(rules, version)), list(_protocols(rules, version))) for version in {*map(_version, limit.places)}}
            for place in limit.places:
                name, (ports, protocols) = f"{direction}{_FAMILIES[_version(place)].mark}_{limit.scope}", said[_version(place)]
                found.setdefault(name, []).append(place)
                found.setdefault(f"{name}_ports", []).extend(f"{place} . {each}" for each in ports)
                found.setdefault(f"{name}_protocols", []).extend(f"{place} . {each}" for each in protocols)
    return {name: each for name, each in found.items() if each}


def check_size(rules: Rules) -> None:
    """InvalidArgument for a list that the kernel would need too many elements for."""
    for each in (rules.egress or (), rules.ingress or ()):
        if any(sum(1 for _ in _ports(each, version)) > ELEMENTS_MAX for version in _FAMILIES):
            raise InvalidArgument(f"the list is too long: its addresses and ports make more than {ELEMENTS_MAX} combinations")


def allows_everybody(rules: tuple[Rule, ...] | None, protocol: str, port: int) -> bool:
    """Whether the list lets in whoever comes to that port, also who has no IPv4 address."""
    return rules is None or any(
        rule.cidr == EVERYWHERE
        and rule.protocol in ("any", protocol)
        and any(first <= port <= last for first, last in port_ranges(rule.ports))
        for rule in rules
    )


def _ports(rules: tuple[Rule, ...], version: int) -> Iterator[str]:
    for protocol, number in _NUMBERS.items():
        wanted = [(others, port_ranges(rule.ports)) for rule, others in _of_family(rules, version) if rule.protocol in (protocol, "any")]
        for others, ports in _cut(wanted):
            yield f"{_spelled(others, version)} . {number} . {ports[0]}-{ports[1]}"


def _protocols(rules: tuple[Rule, ...], version: int) -> Iterator[str]:
    icmp = _FAMILIES[version].icmp
    portless = {**_PORTLESS, "icmp": [(icmp, icmp)]}
    wanted = [(others, portless[rule.protocol]) for rule, others in _of_family(rules, version) if rule.protocol in portless]
    for others, numbers in _cut(wanted):
        yield f"{_spelled(others, version)} . {numbers[0]}-{numbers[1]}"


def _cut(wanted: list[tuple[Span, list[Span]]]) -> Iterator[tuple[Span, Span]]:
    """Pieces that do not overlap, and are together the same."""
    edges = sorted({edge for (first, last), _ in wanted for edge in (first, last + 1)})
    pending: tuple[Span, list[Span]] | None = None
    for first, after in itertools.pairwise(edges):
        spans = _merged(span for (low, high), each in wanted if low <= first and after - 1 <= high for span in each)
        if pending and pending[1] == spans and pending[0][1] + 1 == first:
            pending = (pending[0][0], after - 1), spans
            continue
        if pending:
            yield from ((pending[0], span) for span in pending[1])
        pending = (first, after - 1), spans
    if pending:
        yield from ((pending[0], span) for span in pending[1])


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _of_family(rules: tuple[Rule, ...], version: int) -> Iterator[tuple[Rule, Span]]:
    """What a rule for everywhere says, it says of both."""
    for rule in rules:
        if rule.cidr == EVERYWHERE:
            yield rule, _FAMILIES[version].everywhere
        elif _version(rule.cidr) == version:
            network = ipaddress.ip_network(rule.cidr)
            yield rule, (int(network.network_address), int(network.broadcast_address))


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _spelled(span: Span, version: int) -> str:
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return f"{kind(span[0])}-{kind(span[1])}"


def sets(given: Mapping[str, list[str]]) -> str:
    """Their declarations, with what is in them."""
    lines = []
    for family in _FAMILIES.values():
        for name in _lists(family):
            for suffix, kind in _kinds(family.type):
                joined = ", ".join(given.get(name + suffix, ()))
                filled = f"elements = {{ {joined} }}" if joined else ""
                lines.append(f"  set {name}{suffix} {{ type {kind}; flags interval; {filled} }}")
    return "\n".join(lines)


def names() -> list[str]:
    return [name + suffix for family in _FAMILIES.values() for name in _lists(family) for suffix, _ in _kinds("")]


def _lists(family: _Family) -> list[str]:
    return [f"{direction}{family.mark}_{scope}" for direction in DIRECTIONS for scope in SCOPES]


def _kinds(address: str) -> Iterator[tuple[str, str]]:
    """(suffix, type of the elements) of a list's sets."""
    yield "", address
    yield "_ports", f"{address} . {address} . inet_proto . inet_service"
    yield "_protocols", f"{address} . {address} . inet_proto"


def chains() -> str:
    """Each returns for what its list allows, by the connection that a packet belongs to, whichever way it goes."""
    text = ""
    for word, name in ((family.word, name) for family in _FAMILIES.values() for name in _lists(family)):
        own, other, port = f"ct original {word} saddr", f"ct original {word} daddr", "ct original proto-dst"
        if name.startswith("ingress"):
            own, other, port = f"ct reply {word} saddr", f"ct original {word} saddr", "ct reply proto-src"
        text += f"""
  chain {name} {{
    meta l4proto tcp {own} . {other} . meta l4proto . {port} @{name}_ports return
    meta l4proto udp {own} . {other} . meta l4proto . {port} @{name}_ports return
    meta l4proto != {{ tcp, udp }} ct state related return
    meta l4proto != {{ tcp, udp }} {own} . {other} . meta l4proto @{name}_protocols return
    drop
  }}"""
    return text


def jumps() -> str:
    """First in the chain that forwards. A packet of no connection has nothing that a list could allow."""
    lines = []
    for family in _FAMILIES.values():
        for scope in SCOPES:
            egress, ingress = f"egress{family.mark}_{scope}", f"ingress{family.mark}_{scope}"
            lines.append(f"    {family.word} saddr @{egress} ct state invalid,untracked drop")
            lines.append(f"    ct original {family.word} saddr @{egress} jump {egress}")
            lines.append(f"    ct reply {family.word} saddr @{ingress} jump {ingress}")
    return "\n".join(lines)
