"""Forms about networks. A field has the name that REST has for it; each carries the docker client's flag for js/command.js."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from controlpanel.containers.form_fields import LinesField, PairsField, PortsField, dress, said
from controlpanel.networks.api import ConnectIn, NetworkIn, endpoint_to_docker, to_docker
from engine.errors import InvalidArgument
from engine.model.bandwidth import Bandwidth, parse_rate
from engine.model.bandwidth import spelled as spelled_rate
from engine.model.rules import Rule, Rules, parse, spelled


class NetworkForm(forms.Form):
    """``docker network create``."""

    name = said(forms.CharField, _("Name"), "", "last", like="backend", max_length=255)
    subnet = said(forms.CharField, _("Subnet"), "--subnet", like="172.28.0.0/16", hint=_("Empty: the host chooses."))
    gateway = said(forms.CharField, _("Gateway"), "--gateway", like="172.28.0.1")
    ip_range = said(
        forms.CharField,
        _("Range of addresses"),
        "--ip-range",
        like="172.28.5.0/24",
        hint=_("Part of the subnet that automatic ones come from."),
    )
    ipv6_subnet = said(
        forms.CharField, _("IPv6 subnet"), "--subnet", like="fd00:7::/64", hint=_("Empty: the host chooses, where IPv6 is switched on.")
    )
    reserved = said(PairsField, _("Reserved addresses"), "--aux-address", "lines", like="router=172.28.0.2")
    mtu = said(forms.IntegerField, _("MTU"), "-o com.docker.network.driver.mtu", "option", like="1500", min_value=68, max_value=65535)
    labels = said(PairsField, _("Labels"), "--label", "lines", like="team=shop")
    internal = said(forms.BooleanField, _("Internal: no way out and none in"), "--internal", "switch")
    ipv6 = said(forms.BooleanField, _("Its containers have IPv6, too"), "--ipv6", "switch")
    ipv6_only = said(forms.BooleanField, _("Its containers have no IPv4"), "--ipv4=false", "switch")
    isolated = said(
        forms.BooleanField, _("Its containers do not reach each other"), "-o com.docker.network.bridge.enable_icc=false", "switch"
    )

    SWITCHES: Final = ("internal", "ipv6", "ipv6_only", "isolated")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)
        self.fields["name"].required = True
        self.fields["name"].widget.attrs["autofocus"] = True

    def clean(self) -> dict[str, Any]:
        for name in ("ipv6_subnet", "ipv6_only"):
            if self.cleaned_data.get(name) and not self.cleaned_data.get("ipv6"):
                self.add_error(name, _("IPv6 is not switched on."))
        return self.cleaned_data

    def to_docker(self) -> dict[str, Any]:
        """The body of ``POST /networks/create`` that REST makes of the same words."""
        filled = self.cleaned_data
        words = {name: filled[name] for name in NetworkIn.model_fields if filled.get(name)}
        return to_docker(NetworkIn.model_validate({**words, "ipv4": not filled["ipv6_only"], "icc": not filled["isolated"]}))


class ConnectForm(forms.Form):
    """``docker network connect``: of the network's page and of the container's, which ask for the other one."""

    network = said(forms.ChoiceField, _("Network"), "")
    container = said(forms.ChoiceField, _("Container"), "", "last")
    aliases = said(LinesField, _("Other names"), "--alias", "lines", like="db")
    ip_address = said(forms.CharField, _("Address"), "--ip", like="172.28.0.7", hint=_("In a network with a subnet that you chose."))
    ipv6_address = said(forms.CharField, _("IPv6 address"), "--ip6", like="fd00:7::7", hint=_("The same of IPv6."))

    def __init__(self, *args: Any, networks: list[str], containers: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)
        for name, choices in (("network", networks), ("container", containers)):
            self.fields[name].required = True
            self.fields[name].choices = [(choice, choice) for choice in choices]  # type: ignore[attr-defined]

    def to_docker(self) -> dict[str, Any]:
        """Docker's EndpointConfig."""
        names = ("container", "aliases", "ip_address", "ipv6_address")
        words = {name: self.cleaned_data[name] for name in names if self.cleaned_data.get(name)}
        return endpoint_to_docker(ConnectIn.model_validate(words))


class RulesForm(forms.Form):
    """Allow-lists of a network or a container. Empty: everything is allowed."""

    egress = said(
        forms.CharField,
        _("What may leave"),
        "--label io.slipway.egress",
        "lines",
        like="tcp 192.0.2.0/24 443,8000-8999",
        hint=_("Protocol, addresses and ports of the destination. One rule a line; also “udp all 53”."),
        widget=forms.Textarea,
    )
    ingress = said(
        forms.CharField,
        _("Who may come to published ports"),
        "--label io.slipway.ingress",
        "lines",
        like="tcp 198.51.100.0/24 80",
        hint=_("Protocol, addresses of who comes, and ports of the container."),
        widget=forms.Textarea,
    )

    def __init__(self, *args: Any, rules: Rules | None = None, **kwargs: Any) -> None:
        super().__init__(*args, initial=_lists(rules) if rules else None, **kwargs)
        dress(self)
        for field in self.fields.values():
            field.widget.attrs["rows"] = 4

    def clean_egress(self) -> tuple[Rule, ...] | None:
        return _parsed(self.cleaned_data["egress"])

    def clean_ingress(self) -> tuple[Rule, ...] | None:
        return _parsed(self.cleaned_data["ingress"])

    def to_rules(self) -> Rules:
        return Rules(egress=self.cleaned_data["egress"], ingress=self.cleaned_data["ingress"])


class BandwidthForm(forms.Form):
    """Of a container."""

    into = said(forms.CharField, _("Into the container"), "", like="10mbit")
    out = said(forms.CharField, _("Out of the container"), "", like="1MB")

    def __init__(self, *args: Any, bandwidth: Bandwidth | None = None, **kwargs: Any) -> None:
        initial = {"into": spelled_rate(bandwidth.into), "out": spelled_rate(bandwidth.out)} if bandwidth else None
        super().__init__(*args, initial=initial, **kwargs)
        dress(self)

    def clean(self) -> dict[str, Any]:
        for name in ("into", "out"):
            try:
                self.cleaned_data[name] = parse_rate(self.cleaned_data.get(name))
            except InvalidArgument as error:
                self.add_error(name, error.message)
        return self.cleaned_data

    def to_bandwidth(self) -> Bandwidth:
        return Bandwidth(into=self.cleaned_data["into"], out=self.cleaned_data["out"])


def _parsed(text: str) -> tuple[Rule, ...] | None:
    try:
        return parse(text)
    except InvalidArgument as error:
        raise forms.ValidationError(error.message) from error


def _lists(rules: Rules) -> dict[str, str]:
    found = {"egress": rules.egress, "ingress": rules.ingress}
    return {name: "" if each is None else "\n".join(spelled(each)) or "none" for name, each in found.items()}


class PortsForm(forms.Form):
    """All that is published of a container, one a line."""

    ports = said(
        PortsField,
        _("Ports"),
        "-p",
        "lines",
        like="8080:80",
        hint=_("Of the host, and of the container. One a line; also 127.0.0.1:5353:53/udp."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)
        self.fields["ports"].widget.attrs["rows"] = 4
