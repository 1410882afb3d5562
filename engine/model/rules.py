"""Allow-lists of a network or a container: what may leave it by routing (egress), and what may come in by its published ports (ingress).

As text, one rule a line, or with ";" between:  PROTOCOL ADDRESSES [PORTS]

    tcp 192.0.2.0/24 80,443,8000-8999       protocol: tcp, udp, icmp (IPv6's, too), any
    udp 2001:db8:7::/48 53                  addresses: a block or an address, "all" of both families
    none                                    alone: a list that allows nothing

Ports are the destination's, of ingress the container's own. What two lists hold for (a container's and its network's), both must allow.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument

EGRESS_LABEL: Final = "io.slipway.egress"
INGRESS_LABEL: Final = "io.slipway.ingress"
WITH_PORTS: Final = ("tcp", "udp")
PROTOCOLS: Final = (*WITH_PORTS, "icmp", "any")
EVERYWHERE: Final = "0.0.0.0/0"  # and every IPv6 address
RULES_MAX: Final = 64  # of a list
_NOTHING, _ALL = "none", "all"
_PORT: Final = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    protocol: str = "any"
    cidr: str = EVERYWHERE
    ports: str = ""  # "80,443,8000-8999"; "" = all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """None = everything is allowed; an empty list allows nothing."""

    egress: tuple[Rule, ...] | None = None
    ingress: tuple[Rule, ...] | None = None

    def __bool__(self) -> bool:
        return self.egress is not None or self.ingress is not None


def check_rules(rules: Rules) -> None:
    for rule_list in (rules.egress or (), rules.ingress or ()):
        if len(rule_list) > RULES_MAX:
            raise InvalidArgument(f"{len(rule_list)} rules are too many: a list has at most {RULES_MAX}")
        for rule in rule_list:
            _check(rule)


def port_ranges(ports: str) -> list[tuple[int, int]]:
    """InvalidArgument for what are no ports; "" = all of them."""
    found = []
    for word in ports.split(",") if ports else ["0-65535"]:
        if not _PORT.fullmatch(word):
            raise InvalidArgument(f"invalid ports {ports!r}: use numbers and ranges, as 80,443,8000-8999")
        low, _, high = word.partition("-")
        first, last = int(low), int(high or low)
        if not first <= last <= 65535 or (ports and not first):
            raise InvalidArgument(f"invalid ports {ports!r}: they go from 1 to 65535")
        found.append((first, last))
    return found


def parse(text: str | None) -> tuple[Rule, ...] | None:
    """A list as text; None, or nothing in it: no list."""
    return parse_lines(re.split(r"[;\n]", text or "")) if (text or "").strip(" ;\r\n\t") else None


def parse_lines(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Each a rule; no line, or "none" alone: an empty list."""
    words = [line.split() for line in lines]
    words = [each for each in words if each]
    if words == [[_NOTHING]]:
        return ()
    rules = tuple(map(_rule, words))
    check_rules(Rules(egress=rules))
    return rules


def from_labels(labels: dict[str, str]) -> Rules:
    """Of a container or network at its create."""
    return Rules(egress=parse(labels.get(EGRESS_LABEL)), ingress=parse(labels.get(INGRESS_LABEL)))


def spelled(rules: Iterable[Rule]) -> Iterator[str]:
    """As ``parse_lines`` takes them."""
    for rule in rules:
        yield " ".join(filter(None, (rule.protocol, _ALL if rule.cidr == EVERYWHERE else rule.cidr, rule.ports)))


def _rule(words: list[str]) -> Rule:
    if not 2 <= len(words) <= 3:
        raise InvalidArgument(f"invalid rule {' '.join(words)!r}: use PROTOCOL ADDRESSES [PORTS], as tcp 192.0.2.0/24 80,443")
    cidr = EVERYWHERE if words[1] == _ALL else words[1]
    rule = Rule(protocol=words[0].lower(), cidr=cidr, ports=words[2] if len(words) == 3 else "")
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    if rule.protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid protocol {rule.protocol!r}: use {', '.join(PROTOCOLS)}")
    if rule.ports and rule.protocol not in WITH_PORTS:
        raise InvalidArgument(f"protocol {rule.protocol} has no ports ({rule.ports})")
    if len(rule.ports) > 255:
        raise InvalidArgument("too many ports in one rule: make several")
    port_ranges(rule.ports)
    try:
        if "%" in rule.cidr:  # what stands behind it nobody looks at
            raise ValueError(f"{rule.cidr!r} has a zone")
        ipaddress.ip_network(rule.cidr)
    except ValueError as error:
        raise InvalidArgument(f"invalid addresses {rule.cidr!r}: {error}") from None
