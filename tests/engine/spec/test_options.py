"""What a tenant may ask of one container, checked before anything is made; and what the ceiling adds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import ceilings, devices
from engine.config import EngineConfig
from engine.errors import EngineError, InvalidArgument, PermissionDenied
from engine.model.container import ContainerSpec, Device, Ulimit
from engine.model.tenant import TenantHost
from engine.spec import options
from engine.spec.generate import generate

pytestmark = pytest.mark.guest

SPEC = ContainerSpec(id="a" * 64, tenant="demo", name="x", image_id="", image="busybox", args=("sh",))
OTHER = "b" * 64


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"oom_score_adj": 1001}, InvalidArgument, r"Invalid value 1001, range for oom score adj is \[-1000, 1000\]"),
        ({"oom_score_adj": -1}, PermissionDenied, "spared at the cost of others"),
        ({"ulimits": (Ulimit(name="nosuch", soft=1, hard=1),)}, InvalidArgument, "invalid ulimit type: nosuch"),
        ({"ulimits": (Ulimit(name="core", soft=5, hard=1),)}, InvalidArgument, "less than or equal to hard limit: 5 > 1"),
        ({"ulimits": (Ulimit(name="core", soft=-1, hard=1),)}, InvalidArgument, "less than or equal to hard limit"),
        ({"ulimits": (Ulimit(name="core", soft=0, hard=1), Ulimit(name="CORE", soft=0, hard=1))}, InvalidArgument, "named twice"),
        ({"ulimits": (Ulimit(name="rtprio", soft=1, hard=1),)}, PermissionDenied, "realtime"),
        ({"sysctls": {"kernel.panic": "1"}}, InvalidArgument, 'sysctl "kernel.panic" is not in a separate kernel namespace'),
        ({"sysctls": {"net/../kernel/panic": "1"}}, InvalidArgument, "separate kernel namespace"),
        ({"sysctls": {"": "1"}}, InvalidArgument, "separate kernel namespace"),
        ({"group_add": ("99999999999",)}, InvalidArgument, "uids and gids must be in range"),
        ({"group_add": ("-1",)}, InvalidArgument, "uids and gids must be in range"),
        ({"annotations": {"": "x"}}, InvalidArgument, "the empty string is not permitted as an annotation key"),
        ({"cgroup_parent": "../x"}, InvalidArgument, "cgroup-parent"),
        ({"cgroup_parent": "a//b"}, InvalidArgument, "cgroup-parent"),
        ({"network_mode": "machine"}, InvalidArgument, "invalid network mode: machine"),
        ({"ipc_mode": "container:web"}, InvalidArgument, "invalid IPC mode"),
        ({"pid_mode": "shareable"}, InvalidArgument, "invalid PID mode"),
        ({"pid_mode": f"container:{SPEC.id}"}, InvalidArgument, "of its own"),
    ],
)
def test_what_nobody_gets(changes: dict[str, Any], kind: type[EngineError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        options.check(replace(SPEC, **changes))


def test_a_parent_of_the_tenants_own_is_no_file_and_no_container() -> None:
    assert options.parent_cgroup(replace(SPEC, cgroup_parent="/cgroup.procs/web.slice/")) == "/in.cgroup.procs/in.web.slice"
    assert options.parent_cgroup(replace(SPEC, cgroup_parent="/")) == ""


def made(spec: ContainerSpec, **words: Any) -> dict[str, Any]:
    tenant = TenantHost(name="demo", number=1, uid_start=1 << 20, subnet="")
    return generate(spec, tenant, cgroup="/slipway-ab12/demo/x", folder=Path("/data/c"), **words)


def test_annotations_of_ours_are_ours() -> None:
    config = made(replace(SPEC, annotations={"slipway.init": "1", "slipway.seccomp": "{}", "mine": "x"}))
    assert config["annotations"]["mine"] == "x"
    assert not {"slipway.init", "slipway.seccomp"} & set(config["annotations"])


def test_a_profile_stands_beside_the_platforms_unless_the_ceiling_says_otherwise() -> None:
    own = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})
    config = made(replace(SPEC, seccomp=own))
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert json.loads(config["annotations"]["slipway.seccomp"])["defaultAction"] == "SCMP_ACT_ALLOW"
    assert made(replace(SPEC, seccomp=own), own_filter_alone=True)["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    long = json.dumps(
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [f"call{n}" for n in range(20_000)], "action": "SCMP_ACT_LOG"}]}
    )
    with pytest.raises(InvalidArgument, match="too long"):
        made(replace(SPEC, seccomp=long))


@pytest.mark.parametrize(
    "words",
    [
        "no json",
        "[]",
        '{"defaultAction": 5}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [5]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}',
    ],
)
def test_no_profile_is_an_error_of_ours(words: str) -> None:
    with pytest.raises(InvalidArgument):
        made(replace(SPEC, seccomp=words))


# -- the ceiling -------------------------------------------------------------------------------------


def test_a_device_is_only_what_root_of_the_machine_granted(tmp_path: Path) -> None:
    config = EngineConfig(tmp_path / "data", tmp_path / "run")
    config.engine.mkdir(parents=True)
    spec = replace(SPEC, devices=(Device(path_on_host="/dev/full", path_in_container="/dev/deep/full"),))
    assert devices.nodes(spec, ceilings.read(config, "demo"))[0]["minor"] == 7, "everybody has it anyway"
    tun = replace(SPEC, devices=(Device(path_on_host="/dev/console", path_in_container="/dev/con", permissions="rw"),))
    with pytest.raises(PermissionDenied, match="ceiling"):
        devices.nodes(tun, ceilings.read(config, "demo"))
    ceiling = ceilings.change(config, "demo", grant=("/dev/console:rw",))
    assert ceilings.read(config, "demo") == ceiling and ceilings.read(config, "other") == ceilings.Ceiling()
    node = devices.nodes(tun, ceiling)[0]
    assert (node["path"], node["type"], node["major"], node["minor"], node["access"]) == ("/dev/con", "c", 5, 1, "rw")
    assert devices.rules(replace(SPEC, device_rules=("c 5:1 r",)), ceiling) == [
        {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "r"}
    ]
    for rule in ("c 5:1 rwm", "c 5:* r", "a *:* r", "b 5:1 r"):
        with pytest.raises(PermissionDenied):
            devices.rules(replace(SPEC, device_rules=(rule,)), ceiling)
    with pytest.raises(InvalidArgument, match="invalid device cgroup rule format: 'x y'"):
        devices.rules(replace(SPEC, device_rules=("x y",)), ceiling)
    assert ceilings.change(config, "demo", revoke=("/dev/console",)).devices == ()
    for words in ("/etc/passwd", "/dev/../etc", "fuse"):
        with pytest.raises(InvalidArgument):
            ceilings.change(config, "demo", grant=(words,))


@pytest.mark.parametrize("place", ["/etc/x", "/dev/../etc/x", "/dev/pts/5", "/dev/shm", "/dev/null", "/dev/stdout", "/dev"])
def test_a_device_stands_where_nothing_else_is(place: str) -> None:
    with pytest.raises(InvalidArgument):
        devices.nodes(replace(SPEC, devices=(Device(path_on_host="/dev/zero", path_in_container=place),)), ceilings.Ceiling())


def test_the_filter_is_switched_off_by_the_ceiling_alone() -> None:
    spec = replace(SPEC, seccomp="unconfined")
    with pytest.raises(PermissionDenied, match="seccomp=unconfined"):
        ceilings.check_seccomp(spec, ceilings.Ceiling())
    ceilings.check_seccomp(spec, ceilings.Ceiling(seccomp_unconfined=True))
