"""Docker's request for a network → what the row and the host get. PURE.

What is not done is refused by name; options of the driver that nobody knows are kept and shown, as moby does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, Unsupported
from engine.model.network import RESERVED_NAMES, Pool, Subnet
from engine.model.rules import Rules, from_labels

Object = Mapping[str, Any]

MTU: Final = "com.docker.network.driver.mtu"
ICC: Final = "com.docker.network.bridge.enable_icc"
_BRIDGE_NAME: Final = "com.docker.network.bridge.name"
_UNTOUCHED: Final = {  # options of moby's bridge that ask for what is so anyway
    "com.docker.network.bridge.enable_ip_masquerade": ("true", "1"),
    "com.docker.network.bridge.host_binding_ipv4": ("0.0.0.0", ""),
    "com.docker.network.bridge.gateway_mode_ipv4": ("nat", ""),
    "com.docker.network.bridge.gateway_mode_ipv6": ("nat", ""),
    "com.docker.network.bridge.inhibit_ipv4": ("false", "0"),
    "com.docker.network.bridge.trusted_host_interfaces": ("",),
    "com.docker.network.container_iface_prefix": ("eth", ""),
}
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_NO_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    name: str
    internal: bool = False
    attachable: bool = False
    icc: bool = True
    mtu: int = 0
    pool: Pool | None = field(default_factory=Pool)  # None = no IPv4
    ipv6_pool: Pool | None = None  # None = no IPv6
    ipam: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)


def read(body: Object) -> Asked:
    """``body``: Docker's CreateRequest, its types checked already. Raises with moby's sentences."""
    name = body.get("Name") or ""
    if name in RESERVED_NAMES:
        raise PermissionDenied(f"operation is not permitted on predefined {name} network ", rule="network")
    _check_kind(body)
    if not name.strip():
        raise InvalidArgument("invalid name: name is empty")
    ipam, options = body.get("IPAM") or {}, dict(body.get("Options") or {})
    families = [version for version, enabled in ((4, body.get("EnableIPv4") is not False), (6, body.get("EnableIPv6"))) if enabled]
    if not families:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    pools, shown = _pools(ipam, families)
    mtu, icc = _options(options)
    labels = dict(body.get("Labels") or {})
    return Asked(
        name=name,
        internal=bool(body.get("Internal")),
        attachable=bool(body.get("Attachable")),
        icc=icc,
        mtu=mtu,
        pool=pools.get(4),
        ipv6_pool=pools.get(6),
        ipam={**shown, "options": ipam.get("Options")},
        options=options,
        labels=labels,
        rules=from_labels(labels),
    )


def _check_kind(body: Object) -> None:
    driver = body.get("Driver") or "bridge"
    if body.get("ConfigOnly"):
        raise Unsupported("configuration-only networks are not supported (ConfigOnly)")
    if source := (body.get("ConfigFrom") or {}).get("Network"):
        raise NotFound(f'configuration network "{source}" does not exist')
    if body.get("Ingress"):
        raise PermissionDenied("Ingress network can only be global scope network", rule="network")
    if body.get("Scope") not in (None, "", "local"):
        raise PermissionDenied("cannot create a swarm scoped network when swarm is not active", rule="network")
    if driver != "bridge":
        raise _no_driver(driver)
    ipam = (body.get("IPAM") or {}).get("Driver") or "default"
    if ipam != "default":
        raise NotFound(f'plugin "{ipam}" not found')


def _no_driver(driver: str) -> EngineError:
    if driver == "overlay":
        return PermissionDenied(_NO_SWARM, rule="network")
    if driver in ("host", "null"):
        return PermissionDenied(f'only one instance of "{driver}" network is allowed', rule="network")
    if driver in ("macvlan", "ipvlan"):
        return PermissionDenied(f"{driver} networks reach the host's own links and are not for tenants (Driver {driver})", rule="network")
    return NotFound(f'plugin "{driver}" not found')


def _pools(ipam: Object, families: Sequence[int]) -> tuple[dict[int, Pool], dict[str, Any]]:
    """By family, and what is kept to be shown: the names of reserved addresses, and configs of a family that the network does without,
    which count for nothing."""
    configs = ipam.get("Config") or []
    wrong = [sentence for config in configs for sentence in _wrong(config, ipv6=6 in families)]
    if wrong:
        raise InvalidArgument("invalid network config:\n" + (wrong[0] if len(wrong) == 1 else "\n".join(f"* {each}" for each in wrong)))
    given: dict[int, list[Object]] = {4: [], 6: []}
    for config in configs:
        given[ipaddress.ip_network(config["Subnet"], strict=False).version].append(config)
    shown: dict[str, Any] = {}
    for version in {4, 6}.difference(families):
        if ignored := given.pop(version):
            shown["ignored"] = ignored
    if any(len(each) > 1 for each in given.values()):
        raise PermissionDenied("bridge driver doesn't support multiple subnets", rule="network")
    pools = dict.fromkeys(families, Pool())
    for version, (config, *_) in ((version, each) for version, each in given.items() if each):
        auxiliary = dict(config.get("AuxiliaryAddresses") or {})
        shown["auxiliary" if version == 4 else "ipv6_auxiliary"] = auxiliary
        pools[version] = Pool(
            subnet=config["Subnet"],
            gateway=config.get("Gateway") or "",
            ip_range=config.get("IPRange") or "",
            reserved=tuple(auxiliary.values()),
        )
    return pools, shown


def _wrong(config: Object, ipv6: bool) -> list[str]:
    """All that is wrong with one IPAM config, in moby's order and words."""
    text = config.get("Subnet") or ""
    subnet = _network(text)
    if subnet is None:
        return [f"invalid subnet {text}: invalid CIDR block notation"]
    if subnet.version == 6 and not ipv6:
        return []
    found = [] if _is_exact(text, subnet) else [f"invalid subnet {text}: it should be {subnet}"]
    found += _wrong_range(config.get("IPRange") or "", subnet)
    if why := _wrong_address(config.get("Gateway") or "", subnet):
        found.append(f"invalid gateway {config['Gateway']}: {why}")
    for name, address in (config.get("AuxiliaryAddresses") or {}).items():
        if why := _wrong_address(address, subnet):
            found.append(f"invalid auxiliary address {name}: {why}")
    return found


def _wrong_range(text: str, subnet: Subnet) -> list[str]:
    if not text:
        return []
    inner = _network(text)
    if inner is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if inner.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    found = []
    if inner.prefixlen < subnet.prefixlen:
        found.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if not _is_exact(text, inner):
        found.append(f"invalid ip-range {text}: it should be {inner}")
    if not subnet.overlaps(inner):
        found.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return found


def _wrong_address(text: str, subnet: Subnet) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if "%" in text:
        return f"parent subnet {subnet} doesn't contain this address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if address in subnet else f"parent subnet {subnet} doesn't contain this address"


def _network(text: str) -> Subnet | None:
    """A netmask in dots is no CIDR block."""
    address, slash, bits = text.partition("/")
    if "%" in address or not slash or not (bits.isascii() and bits.isdigit()):
        return None
    try:
        return ipaddress.ip_network(f"{address}/{bits}", strict=False)
    except ValueError:
        return None


def _is_exact(text: str, subnet: Subnet) -> bool:
    return ipaddress.ip_address(text.partition("/")[0]) == subnet.network_address


def _options(options: Mapping[str, str]) -> tuple[int, bool]:
    """MTU and whether containers reach each other."""
    if options.get(_BRIDGE_NAME):
        raise PermissionDenied(f"the name of the bridge is the host's to choose ({_BRIDGE_NAME})", rule=_BRIDGE_NAME)
    for name, harmless in _UNTOUCHED.items():
        if name in options and options[name] not in harmless:
            raise Unsupported(f"the option {name}={options[name]} is not supported")
    return _mtu(options.get(MTU)), _boolean(ICC, options.get(ICC))


def _mtu(text: str | None) -> int:
    if text is None:
        return 0
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise InvalidArgument(f'failed to parse {MTU} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)')
    if int(text) < 0:
        raise InvalidArgument(f"invalid MTU number: {int(text)}")
    return int(text)


def _boolean(name: str, text: str | None) -> bool:
    if text is not None and text not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f'failed to parse {name} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)')
    return text is None or text in _TRUE
