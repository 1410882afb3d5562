"""REST: the allow-lists of networks and containers, and how fast these may talk (not in Docker)."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers import projection
from controlpanel.networks import limiting
from controlpanel.networks import projection as known
from controlpanel.tenants.rest import actor
from engine.model.bandwidth import Bandwidth, parse_rate
from engine.model.rules import RULES_MAX, Rule, Rules, parse_lines, spelled

router = Router()
_NETWORK: Final = "/tenants/{tenant}/networks/{network}/rules"
_CONTAINER: Final = "/tenants/{tenant}/containers/{name}/rules"
_BANDWIDTH: Final = "/tenants/{tenant}/containers/{name}/bandwidth"
_FORM: Final = "PROTOCOL ADDRESSES [PORTS], ports being those of the destination. null: everything is allowed; []: nothing is."


class RulesIn(Asked):
    egress: list[str] | None = Field(
        None,
        max_length=RULES_MAX,
        description=f"What may leave by routing. {_FORM}",
        examples=[["tcp 192.0.2.0/24 443,8000-8999", "udp all 53"]],
    )
    ingress: list[str] | None = Field(
        None, max_length=RULES_MAX, description=f"Who may come to published ports. {_FORM}", examples=[["tcp 198.51.100.7 80"]]
    )


class RulesOut(Schema):
    egress: list[str] | None
    ingress: list[str] | None


class BandwidthIn(Asked):
    into: str = Field("", description="Bytes a second into it, by each of its networks: 1MB, 10mbit. Empty: no limit.", examples=["10mbit"])
    out: str = Field("", description="The same of what comes out of it.", examples=["1MB"])


class BandwidthOut(Schema):
    """Bytes a second; 0: no limit."""

    into: int
    out: int


@router.get(_NETWORK, response=RulesOut, summary="What may leave the network, and who may come in")
async def network_rules(request: HttpRequest, tenant: str, network: str) -> dict[str, Any]:
    who = await actor(request, tenant, "network.view")
    return shown((await known.network(who, network)).rules)


@router.put(_NETWORK, response=RulesOut, summary="Other lists, at once")
async def limit_network(request: HttpRequest, tenant: str, network: str, payload: RulesIn) -> dict[str, Any]:
    who = await actor(request, tenant, "network.rules")
    return shown((await limiting.limit_network(who, network, read(payload))).rules)


@router.get(
    _CONTAINER, response=RulesOut, summary="What the container may reach, and who may come to its ports, beside its networks' lists"
)
async def container_rules(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    return shown((await projection.container(who, name)).spec.rules)


@router.put(_CONTAINER, response=RulesOut, summary="Other lists, at once where it runs")
async def limit_container(request: HttpRequest, tenant: str, name: str, payload: RulesIn) -> dict[str, Any]:
    who = await actor(request, tenant, "container.rules")
    return shown((await limiting.limit_container(who, name, read(payload))).spec.rules)


@router.get(_BANDWIDTH, response=BandwidthOut, summary="How fast it may talk")
async def container_bandwidth(request: HttpRequest, tenant: str, name: str) -> dict[str, int]:
    who = await actor(request, tenant, "container.view")
    return _rates((await projection.container(who, name)).spec.bandwidth)


@router.put(_BANDWIDTH, response=BandwidthOut, summary="Other limits, at once where it runs")
async def shape_container(request: HttpRequest, tenant: str, name: str, payload: BandwidthIn) -> dict[str, int]:
    who = await actor(request, tenant, "container.bandwidth")
    asked = Bandwidth(into=parse_rate(payload.into), out=parse_rate(payload.out))
    return _rates((await limiting.shape_container(who, name, asked)).spec.bandwidth)


def _rates(bandwidth: Bandwidth) -> dict[str, int]:
    return {"into": bandwidth.into, "out": bandwidth.out}


def read(asked: RulesIn) -> Rules:
    return Rules(egress=_list(asked.egress), ingress=_list(asked.ingress))


def shown(rules: Rules) -> dict[str, Any]:
    return {
        "egress": None if rules.egress is None else list(spelled(rules.egress)),
        "ingress": None if rules.ingress is None else list(spelled(rules.ingress)),
    }


def _list(lines: list[str] | None) -> tuple[Rule, ...] | None:
    return None if lines is None else parse_lines(lines)
