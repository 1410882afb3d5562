"""What a machine can't honour is said and left out; what an update changes, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import limits
from controlpanel.hosts.machine import Machine
from engine.errors import FailedPrecondition
from engine.model.resources import DeviceRate

V1 = Machine(cpus=4, cpuset_cpus="0-3", cgroup_version=1)
V2 = Machine(cpus=4, cpuset_cpus="0-3", cgroup_version=2, blkio_weight=True)
MIB = 1 << 20


def test_version_2_has_no_swappiness_and_no_way_to_switch_the_oom_killer_off() -> None:
    asked = {"Memory": 64 * MIB, "MemorySwappiness": 10, "OomKillDisable": True}
    read = limits.read(asked, V2)
    assert read.discarded == {"MemorySwappiness", "OomKillDisable"}
    assert read.warnings == (
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    )
    assert (read.resources.memory_swappiness, read.resources.oom_kill_disable) == (-1, False)
    read = limits.read(asked, V1)
    assert (read.warnings, read.resources.memory_swappiness, read.resources.oom_kill_disable) == ((), 10, True)


def test_who_asks_for_less_than_there_is_anyway_is_not_warned() -> None:
    read = limits.read({"MemorySwappiness": -1, "OomKillDisable": False, "BlkioWeight": 0, "BlkioWeightDevice": []}, V2)
    assert read.warnings == ()


def test_an_oom_killer_that_is_off_without_a_memory_limit_is_worth_a_word() -> None:
    (warning,) = limits.read({"OomKillDisable": True}, V1).warnings
    assert warning.startswith("OOM killer is disabled for the container, but no memory limit is set")


def test_weights_need_a_scheduler_that_knows_them() -> None:
    asked = {"BlkioWeight": 300, "BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 200}]}
    read = limits.read(asked, V1)
    assert (read.resources.blkio_weight, read.resources.blkio_weight_device, len(read.warnings)) == (0, (), 2)
    read = limits.read(asked, V2)
    assert (read.resources.blkio_weight, read.resources.blkio_weight_device) == (300, (DeviceRate(path="/dev/vda", rate=200),))


@pytest.mark.parametrize(
    ("has", "changes", "becomes"),
    [
        ({"Memory": 64 * MIB}, {"Memory": 100 * MIB}, {"Memory": 100 * MIB, "MemorySwap": 128 * MIB}),
        ({"Memory": 64 * MIB, "MemorySwap": -1}, {"Memory": 100 * MIB}, {"Memory": 100 * MIB, "MemorySwap": -1}),
        ({"Memory": 64 * MIB}, {"CpuShares": 512}, {"Memory": 64 * MIB, "MemorySwap": 128 * MIB, "CpuShares": 512}),
        ({"PidsLimit": 5}, {"PidsLimit": -1}, {"PidsLimit": 0}),
        ({"PidsLimit": 5, "CpusetCpus": "0"}, {"CpusetCpus": "1", "NanoCpus": 0}, {"PidsLimit": 5, "CpusetCpus": "1"}),
        ({}, {"Memory": 8 * MIB, "MemorySwap": 9 * MIB}, {"Memory": 8 * MIB, "MemorySwap": 9 * MIB}),
    ],
)
def test_an_update_is_laid_over_what_is(has: dict[str, Any], changes: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert limits.merge(has, changes) == becomes


@pytest.mark.parametrize(
    ("has", "changes", "sentence"),
    [
        ({"Memory": 64 * MIB}, {"Memory": 200 * MIB}, "Memory limit should be smaller than already set memoryswap limit"),
        ({}, {"Memory": 200 * MIB}, "Memory limit should be smaller than already set memoryswap limit"),
        ({"CpuQuota": 5000}, {"NanoCpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"CpuPeriod": 5000}, {"NanoCpus": 10**9}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"NanoCpus": 10**9}, {"CpuQuota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ({"NanoCpus": 10**9}, {"CpuPeriod": 5000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
    ],
)
def test_an_update_that_contradicts_what_is(has: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FailedPrecondition, match=sentence):
        limits.merge(has, changes)
