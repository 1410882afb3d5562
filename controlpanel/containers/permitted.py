"""May a container have what it asks for: its tenant's policy (controlpanel.tenants.policy), before the host's root has its say.

PermissionDenied names the rule and who can change it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from controlpanel.tenants.models import Tenant
from controlpanel.tenants.policy import Policy
from engine.model import grants
from engine.model.container import ContainerSpec
from engine.model.network import HOST, PortBinding


def permitted(tenant: Tenant, spec: ContainerSpec) -> ContainerSpec:
    """As the host is asked for it."""
    policy = tenant.policy
    _check_privileges(tenant.name, policy, spec)
    _check_devices(tenant.name, policy, spec)
    if spec.network_mode == HOST and not policy.host_network:
        raise grants.not_in_policy(tenant.name, "host_network", "the host's network is")
    return dataclasses.replace(spec, ports=permitted_ports(tenant, spec.ports), seccomp_alone=policy.seccomp and spec.seccomp[:1] == "{")


def _check_privileges(tenant: str, policy: Policy, spec: ContainerSpec) -> None:
    if spec.privileged:
        if not policy.privileged:
            raise grants.not_in_policy(tenant, "privileged", "privileged containers are")
        return
    if beyond := grants.capabilities_beyond(spec, policy.capabilities):
        raise grants.not_in_policy(tenant, "capabilities", f"capability {', '.join(beyond)} is")
    if spec.seccomp == "unconfined" and not policy.seccomp:
        raise grants.not_in_policy(tenant, "seccomp", "seccomp=unconfined is")


def _check_devices(tenant: str, policy: Policy, spec: ContainerSpec) -> None:
    """A rule names a device by its numbers, which only its host can tell: it takes all of them."""
    for device in spec.devices:
        granted = grants.device_letters(device.path_on_host, policy.devices)
        if device.path_on_host not in grants.EVERYBODYS_DEVICES and not set(device.permissions) <= set(granted):
            raise grants.not_in_policy(tenant, "devices", f"device {device.path_on_host} ({device.permissions}) is")
    if spec.device_rules and grants.ALL not in policy.devices:
        raise grants.not_in_policy(tenant, "devices", "rules about devices by their numbers, which take devices=all, are")


def permitted_ports(tenant: Tenant, bindings: Sequence[PortBinding]) -> tuple[PortBinding, ...]:
    """As the host is asked for them: a tenant that may publish some ports only gets "any free one" from the widest range of these, and
    "every address" is the first one that it was allowed. PermissionDenied for what its policy does not allow."""
    policy = tenant.policy
    return tuple(_admitted(tenant.name, policy, binding) for binding in bindings)


def _admitted(tenant: str, policy: Policy, binding: PortBinding) -> PortBinding:
    binding = grants.on_granted_address(binding, policy.addresses)
    if not grants.holds_address(binding.host_ip, policy.addresses):
        where = binding.host_ip or "every address"
        raise grants.not_in_policy(
            tenant, "addresses", f"ports published on {where} of the host (allowed: {policy.words('addresses')}) are"
        )
    if grants.ALL in policy.ports:
        return binding
    allowed = grants.ranges(policy.ports)
    if not binding.host_port and allowed:
        first, last = max(allowed, key=lambda bounds: bounds[1] - bounds[0])
        return dataclasses.replace(binding, host_port=first, host_port_end=last if last > first else 0)
    if grants.holds_ports(allowed, binding.host_port, binding.host_port_end or binding.host_port):
        return binding
    asked = f"{binding.host_port}-{binding.host_port_end}" if binding.host_port_end else str(binding.host_port or "any")
    raise grants.not_in_policy(tenant, "ports", f"port {asked}/{binding.protocol} of the host (allowed: {policy.words('ports')}) is")
