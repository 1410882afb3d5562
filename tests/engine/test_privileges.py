"""What root of the host lets a tenant have, whatever the panel's rows say: refused above it, and within it seen from inside."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from engine import ceilings
from engine.engine import Engine
from engine.errors import InvalidArgument, PermissionDenied
from engine.model.capabilities import ALL, DEFAULT
from engine.model.container import ContainerSpec
from engine.model.execution import ExecSpec
from engine.runtime.logs import LogReader
from tests.engine.builds.building import TENANT, bench

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft"), pytest.mark.guest]

# What only the host's root may do; each line that is written is a hole. As tests/flows/test_walls.py, with nothing mounted over them.
WORTH_NOTHING = """
    echo x > /proc/sys/kernel/core_pattern && echo core_pattern
    echo 1 > /proc/sys/vm/drop_caches && echo drop_caches
    echo h > /proc/sysrq-trigger && echo sysrq
    head -c 1 /proc/kcore && echo kcore
    mkdir -p /tmp/m /tmp/t; for kind in debugfs tracefs securityfs devtmpfs; do mount -t $kind x /tmp/m && echo $kind; done
    mount -t tmpfs t /tmp/t; mknod /tmp/t/disk b 254 0 && echo mknod
    mount -t cgroup2 x /tmp/m && mkdir /tmp/m/x && echo cgroup2
    dmesg && echo dmesg
    cat /dev/mem && echo mem
    true
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with bench() as place:
        yield place.engine


def begin(engine: Engine, command: str, **words: Any) -> ContainerSpec:
    number, image_id = secrets.token_hex(32), engine.images.resolve(TENANT, "busybox").id
    words = {"network_mode": "none", **words}
    spec = ContainerSpec(id=number, tenant=TENANT, name=f"c{number[:8]}", image_id=image_id, image="x", args=("sh", "-c", command), **words)
    engine.create(spec)
    engine.start(TENANT, number)
    return spec


def said(engine: Engine, command: str, **words: Any) -> str:
    spec = begin(engine, command, **words)
    engine.wait(spec.id, timeout_s=30)
    text = b"".join(LogReader(engine.config.container(spec.id) / "log", frames=False)).decode()
    engine.remove(TENANT, spec.id)
    return text


def test_a_privileged_container_is_roots_to_grant(engine: Engine) -> None:
    with pytest.raises(PermissionDenied, match=r"^privileged containers are not allowed in tenant builder: rule ceiling.privileged \(root"):
        begin(engine, "true", privileged=True)
    assert not engine.list()
    ceilings.change(engine.config, TENANT, privileged=True)
    look = "grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; grep -c ' /proc/' /proc/mounts; cat /proc/self/uid_map; ls /dev"
    effective, bounding, seccomp, covered, ids, *devices = said(engine, look, privileged=True).splitlines()
    assert effective.split()[1] == bounding.split()[1] and int(effective.split()[1], 16).bit_count() >= 40
    assert seccomp.split() == ["Seccomp:", "0"]
    assert covered == "0"  # nothing lies over /proc
    assert int(ids.split()[1]) >= 65536 and ids.split()[0] == "0"  # its root is still nobody on the host
    assert not {"sda", "vda", "mem", "kmsg", "fuse", "loop0"} & set(devices)
    masked = said(engine, "grep Seccomp: /proc/self/status; grep -c ' /proc/' /proc/mounts")
    assert masked.split()[1] == "2" and int(masked.split()[2]) > 3  # the others are as ever


def test_every_right_of_a_privileged_one_ends_at_its_user_namespace(engine: Engine) -> None:
    ceilings.change(engine.config, TENANT, privileged=True)
    assert said(engine, f"({WORTH_NOTHING}) 2>/dev/null", privileged=True) == ""


def test_a_command_in_a_privileged_one_has_its_rights(engine: Engine) -> None:
    ceilings.change(engine.config, TENANT, privileged=True)
    spec = begin(engine, "sleep 1000", privileged=True)
    asked = ExecSpec(id=secrets.token_hex(32), args=("sh", "-c", "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted"))
    with engine.exec(TENANT, spec.id, asked) as done, os.fdopen(done.take("stdout"), "rb") as out:
        assert out.read().split() == [b"Seccomp:", b"0", b"mounted"]
    engine.remove(TENANT, spec.id, force=True)


def test_capabilities_above_the_ceiling(engine: Engine) -> None:
    ceilings.change(engine.config, TENANT, capabilities="NET_ADMIN,cap_sys_ptrace")
    try:
        assert int(said(engine, "grep CapEff /proc/self/status", cap_add=("NET_ADMIN",)).split()[1], 16) >> 12 & 1
        for asked, words in ((("SYS_ADMIN",), "SYS_ADMIN"), (("ALL",), "ALL"), (("NET_ADMIN", "BPF"), "BPF")):
            with pytest.raises(PermissionDenied, match=rf"^capability {words} is not allowed in tenant builder: rule ceiling.capabilities"):
                begin(engine, "true", cap_add=asked)
        assert said(engine, "echo ran", cap_add=("ALL",), cap_drop=tuple(set(ALL) - set(DEFAULT))) == "ran\n"
        ceilings.change(engine.config, TENANT, capabilities="none")
        with pytest.raises(PermissionDenied, match="NET_ADMIN"):
            begin(engine, "true", cap_add=("NET_ADMIN",))
        for words in ("FLY", "NET_ADMIN,FLY"):
            with pytest.raises(InvalidArgument, match='unknown capability: "CAP_FLY"'):
                ceilings.change(engine.config, TENANT, capabilities=words)
    finally:
        ceilings.change(engine.config, TENANT, capabilities="all")


def test_a_profile_of_its_own_stands_alone_only_where_both_grant_it(engine: Engine) -> None:
    own = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})
    unshare = "unshare -U true 2>/dev/null && echo unshared; true"
    assert said(engine, unshare, seccomp=own, seccomp_alone=True) == ""  # a row that says yes
    ceilings.change(engine.config, TENANT, seccomp_unconfined=True)
    try:
        assert said(engine, unshare, seccomp=own) == ""
        assert said(engine, unshare, seccomp=own, seccomp_alone=True) == "unshared\n"
    finally:
        ceilings.change(engine.config, TENANT, seccomp_unconfined=False)
