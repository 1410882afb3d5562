from __future__ import annotations

import copy
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, InvalidArgument, Unsupported
from engine.kernel.cgroups import DeviceRule
from engine.model.container import ContainerSpec
from engine.model.resources import Resources
from engine.model.tenant import TenantHost
from engine.runtime import plan
from engine.spec.generate import generate

pytestmark = pytest.mark.guest

SPEC = ContainerSpec(
    id="a" * 64, tenant="demo", name="x", image_id="", image="busybox", args=("sh", "-c", "exit 3"), env=("A=1", "B=x=y"), init=True,
    resources=Resources(memory_bytes=1 << 20, nano_cpus=10**9, pids_limit=5), tmpfs={"/tmp": "size=1m,exec"},
)  # fmt: skip
CONFIG = generate(
    SPEC, TenantHost(name="demo", number=1, uid_start=1 << 20, subnet=""), cgroup="/slipway-ab12/demo/" + SPEC.id, folder=Path("/data/c")
)


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """The good config with one thing changed; ``to`` may be a function of the old value."""
    config = copy.deepcopy(CONFIG)
    place: Any = config
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to(place[path[-1]]) if isinstance(to, Callable) else to  # type: ignore[arg-type]
    return config


def test_a_good_config_is_numbers() -> None:
    planned = plan.read(CONFIG)
    assert planned.uid_start, planned.ids == (1 << 20, 65536)
    assert planned.args == ("/sbin/docker-init", "--", "sh", "-c", "exit 3")
    assert planned.mounts[-1].target == "/sbin/docker-init"
    assert planned.env["A"] == "1" and planned.env["B"] == "x=y"
    assert planned.limits == Resources(
        memory_bytes=1 << 20, memory_swap_bytes=2 << 20, cpu_period_us=100_000, cpu_quota_us=100_000, pids_limit=5
    )
    assert planned.devices[:2] == (DeviceRule(False), DeviceRule(True, "c", 1, 3))
    assert planned.capabilities.bounding == 0xA80425FB
    assert planned.capabilities.ambient == 0
    assert ("net/ipv4/ping_group_range", "0 65535") in planned.sysctls
    tmp = next(mount for mount in planned.mounts if mount.target == "/tmp")
    assert tmp.options.data == "size=1m"
    assert planned.user == ""


def test_ids_are_taken_when_no_name_is_given() -> None:
    planned = plan.read(changed("process", "user", to={"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o077}))
    assert (planned.user, planned.uid, planned.gid, planned.groups, planned.umask) == (None, 5, 6, (6, 7), 0o077)


def test_rlimits_are_numbers_and_descriptors_have_a_default() -> None:
    asked = [{"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1}]
    limits = {kind: (soft, hard) for kind, soft, hard in plan.read({**CONFIG, "process": {**CONFIG["process"], "rlimits": asked}}).rlimits}
    assert limits[resource.RLIMIT_CORE] == (0, resource.RLIM_INFINITY)
    assert limits[resource.RLIMIT_NOFILE][0] == 1024


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ({}, InvalidArgument, "not a runtime-spec config"),
        ({"process": 5, "linux": {}}, InvalidArgument, "not a runtime-spec config"),
        ({**CONFIG, "hooks": {"prestart": [{}]}}, Unsupported, "hooks"),
        (changed("process", "args", to=[]), InvalidArgument, "no command"),
        (changed("process", "cwd", to="tmp"), InvalidArgument, "not an absolute path"),
        (changed("linux", "cgroupsPath", to="/slipway-ab12/../../x"), InvalidArgument, "cgroupsPath"),
        (changed("linux", "cgroupsPath", to="/"), InvalidArgument, "cgroupsPath"),
        (changed("linux", "uidMappings", 0, "hostID", to=0), Unsupported, "same single range"),
        (changed("linux", "namespaces", to=lambda have: have[1:]), Unsupported, "host's namespaces is not supported: user"),
        (changed("linux", "namespaces", to=lambda have: [*have, have[0]]), InvalidArgument, "named twice"),
        (changed("linux", "namespaces", 1, "path", to="/proc/1/ns/pid"), Unsupported, "by path"),
        (changed("linux", "namespaces", 1, "type", to="time"), Unsupported, "'time'"),
        (changed("linux", "sysctl", to={"kernel.panic": "1"}), InvalidArgument, "not in a separate kernel namespace"),
        (changed("linux", "sysctl", to={"net/../kernel.panic": "1"}), InvalidArgument, "not in a separate kernel namespace"),
        (changed("linux", "resources", "devices", 0, "type", to="x"), InvalidArgument, "invalid device rule"),
        (changed("mounts", 0, "destination", to="proc"), InvalidArgument, "mount destination"),
        ({**CONFIG, "process": {**CONFIG["process"], "rlimits": [{"type": "X", "soft": 1, "hard": 1}]}}, InvalidArgument, "rlimit type"),
        (
            {**CONFIG, "process": {**CONFIG["process"], "rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}},
            InvalidArgument,
            "above the hard one",
        ),
    ],
)
def test_what_can_not_be_carried_out_is_refused_by_name(config: dict[str, Any], kind: type[EngineError], words: str) -> None:
    with pytest.raises(kind, match=words):
        plan.read(config)


def test_a_range_of_the_hosts_own_ids_is_refused() -> None:
    config = copy.deepcopy(CONFIG)
    for key in ("uidMappings", "gidMappings"):
        config["linux"][key][0]["hostID"] = 0
    with pytest.raises(InvalidArgument, match="beyond the host's own"):
        plan.read(config)
