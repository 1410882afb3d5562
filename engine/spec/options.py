"""What a tenant may ask of one container beyond limits of resources: checked, and put into the runtime-spec's words. Pure.

The sentences are moby's where it has one (some of them it says at the start; here a create already refuses).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from engine.errors import InvalidArgument, PermissionDenied
from engine.model.container import ContainerSpec, is_container_id
from engine.model.network import HOST

# setrlimit(2), in the words of docker's --ulimit; rtprio is refused (see _check_ulimits)
ULIMITS: Final = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip
OOM_SCORE_ADJ_MAX: Final = 1000
PROFILE_MAX: Final = 64 << 10  # bytes of a seccomp profile once resolved: it travels in one message to the launcher
CONTAINER: Final = "container:"
IPC_MODES: Final = ("", "private", "shareable", "none")
PARENT_PREFIX: Final = "in."  # no file of a cgroup begins so, and no container's folder does
_PARENT: Final = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}/?")
# namespaces(7): what a network or IPC namespace has of its own; all other settings are the whole machine's
_SYSCTL: Final = re.compile(r"net\.[A-Za-z0-9_./-]+|kernel\.(?:msg|shm|sem)[a-z_]*|fs\.mqueue\.[a-z_]+")
_MAX_ID: Final = (1 << 31) - 1


def check(spec: ContainerSpec) -> None:
    """InvalidArgument, or PermissionDenied with the rule, for what no tenant of this host gets."""
    if abs(spec.oom_score_adj) > OOM_SCORE_ADJ_MAX:
        raise InvalidArgument(f"Invalid value {spec.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if spec.oom_score_adj < 0:
        raise PermissionDenied(
            "a container is not spared at the cost of others when memory is short: OomScoreAdj must not be negative", rule="OomScoreAdj"
        )
    _check_ulimits(spec)
    for name in spec.sysctls:
        _check_sysctl(name)
    for group in spec.group_add:
        if group.lstrip("-").isdecimal() and not 0 <= int(group[:12]) <= _MAX_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{_MAX_ID}")
        if not group or any(char in ":\n\0" for char in group):
            raise InvalidArgument(f"unable to find group {group}: no matching entries in group file")
    if "" in spec.annotations:
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
    _check_modes(spec)
    parent_cgroup(spec)


def _check_ulimits(spec: ContainerSpec) -> None:
    names = [limit.name.lower() for limit in spec.ulimits]
    for name, limit in zip(names, spec.ulimits, strict=True):
        if name not in ULIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}")
        if min(limit.soft, limit.hard) < -1:
            raise InvalidArgument(f"invalid ulimit {limit.name}: -1 is the smallest value, and no limit")
        if name == "rtprio" and limit.hard != 0:  # SCHED_FIFO would starve whoever shares the processor, whatever the cgroup says
            raise PermissionDenied("realtime priorities are not for tenants (ulimit rtprio)", rule="ulimit.rtprio")
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidArgument(f"ulimit {twice} is named twice")


def _check_sysctl(name: str) -> None:
    if not _SYSCTL.fullmatch(name) or ".." in name or "//" in name:
        raise InvalidArgument(f'sysctl "{name}" is not in a separate kernel namespace')


def _check_modes(spec: ContainerSpec) -> None:
    for mode, what, own in (
        (spec.ipc_mode, "IPC mode", IPC_MODES),
        (spec.pid_mode, "PID mode", ("",)),
        (spec.uts_mode, "UTS mode", ("",)),
        (spec.network_mode, "network mode", ("bridge", "user", "none", HOST)),
    ):
        if mode not in own and not is_container_id(target(mode)):
            raise InvalidArgument(f"invalid {what}: {mode}")
    if spec.network_mode == HOST:
        if spec.rules or spec.bandwidth:
            raise InvalidArgument("a container in the host's network has no allow-lists and no bandwidth of its own")
        if name := next((name for name in spec.sysctls if name.startswith("net.")), ""):
            raise InvalidArgument(f'sysctl "{name}" not allowed in host network namespace')
    if spec.id in joined(spec).values():
        raise InvalidArgument(f"container {spec.id} cannot join a namespace of its own")


def target(mode: str) -> str:
    """The id in ``container:<id>``, else ""."""
    return mode.removeprefix(CONTAINER) if mode.startswith(CONTAINER) else ""


def joined(spec: ContainerSpec) -> dict[str, str]:
    """Namespaces (the runtime-spec's names) that are another container's: {"network": its id}."""
    modes = {"network": spec.network_mode, "ipc": spec.ipc_mode, "pid": spec.pid_mode, "uts": spec.uts_mode}
    return {kind: target(mode) for kind, mode in modes.items() if target(mode)}


def parent_cgroup(spec: ContainerSpec) -> str:
    """The path between the tenant's cgroup and the container's: "" or ``/in.web/in.front``."""
    if not spec.cgroup_parent or spec.cgroup_parent == "/":
        return ""
    if not _PARENT.fullmatch(spec.cgroup_parent):
        raise InvalidArgument(
            f"invalid cgroup-parent {spec.cgroup_parent!r}: up to four names of letters, digits, dots and dashes, below your own cgroup"
        )
    return "".join(f"/{PARENT_PREFIX}{name}" for name in spec.cgroup_parent.strip("/").split("/"))


def rlimits(spec: ContainerSpec) -> list[dict[str, Any]]:
    """runtime-spec ``process.rlimits``; its numbers are unsigned."""
    no_limit = (1 << 64) - 1
    return [
        {
            "type": f"RLIMIT_{limit.name.upper()}",
            "soft": no_limit if limit.soft < 0 else limit.soft,
            "hard": no_limit if limit.hard < 0 else limit.hard,
        }
        for limit in spec.ulimits
    ]


def profile(words: str) -> dict[str, Any]:
    """The JSON of ``--security-opt seccomp=…`` as an object; what it means is seccomp.resolve_profile's to say."""
    try:
        found = json.loads(words)
    except ValueError as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument("Decoding seccomp profile failed: it is no object")
    if found.get("architectures") and found.get("archMap"):
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    for rule in found.get("syscalls") or []:
        if isinstance(rule, dict) and rule.get("name") and rule.get("names"):
            raise InvalidArgument("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
    return found
