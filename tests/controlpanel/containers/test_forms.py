"""The forms' words → what the docker client would send; a refusal → the field that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers.creation import ContainerIn
from controlpanel.containers.forms import RunForm
from controlpanel.containers.limits_form import LimitsForm
from controlpanel.hosts.machine import Machine
from engine.errors import AlreadyExists, EngineError, InvalidArgument, PermissionDenied

ASKED = {"image": "busybox", "network": "bridge"}
HERE = Machine(cpus=4, cpuset_cpus="0-3", blkio_weight=True)


def form(**words: Any) -> RunForm:
    return RunForm({**ASKED, **words}, containers=["db"])


def docker(**words: Any) -> dict[str, Any]:
    filled = form(**words)
    assert filled.is_valid(), filled.errors
    return filled.to_docker()


def test_the_basic_fields_become_dockers_config() -> None:
    body = docker(
        name="web",
        command="""sh -c "echo 'a  b'" \\$x""",
        env="A=1\n\n B=x y \n",
        memory="1.5g",
        cpus="0.25",
        tty="on",
        auto_remove="on",
        network="none",
        restart_policy="no",
    )
    host_config = body.pop("HostConfig")
    assert body == {
        "Image": "busybox", "Env": ["A=1", "B=x y"], "Tty": True, "OpenStdin": True, "Cmd": ["sh", "-c", "echo 'a  b'", "$x"], "Labels": {},
    }  # fmt: skip
    assert host_config == {
        "NetworkMode": "none", "Memory": 3 << 29, "NanoCpus": 250_000_000, "AutoRemove": True,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }  # fmt: skip


def test_the_rarer_fields_are_spelled_as_the_docker_client_spells_them() -> None:
    body = docker(
        entrypoint="sh -c",
        stop_timeout_s="0",
        memory_swap="-1",
        memory="64m",
        network="container:db",
        ulimits="nofile=5:6\nnproc=7",
        devices="/dev/a\n/dev/b:rw\n/dev/c:/dev/d:r",
        blkio_read_bps="/dev/sda:1m",
        tmpfs="/tmp:size=1m\n/run",
        sysctls="net.core.somaxconn=1",
        seccomp='{"defaultAction": "SCMP_ACT_ALLOW"}',
        no_new_privileges="on",
        log_driver="local",
        log_options="max-size=1m",
        labels="a=b=c",
    )
    host_config = body["HostConfig"]
    assert body["Entrypoint"] == ["sh", "-c"] and body["StopTimeout"] == 0 and body["Labels"] == {"a": "b=c"}
    assert host_config["MemorySwap"] == -1 and host_config["NetworkMode"] == "container:db"
    assert host_config["Ulimits"] == [{"Name": "nofile", "Soft": 5, "Hard": 6}, {"Name": "nproc", "Soft": 7, "Hard": 7}]
    assert [tuple(each.values()) for each in host_config["Devices"]] == [
        ("/dev/a", "", "rwm"), ("/dev/b", "", "rw"), ("/dev/c", "/dev/d", "r"),
    ]  # fmt: skip
    assert host_config["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 1 << 20}]
    assert host_config["Tmpfs"] == {"/tmp": "size=1m", "/run": ""} and host_config["Sysctls"] == {"net.core.somaxconn": "1"}
    assert host_config["SecurityOpt"] == ["no-new-privileges", 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}']
    assert host_config["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m"}}


def test_policy_and_health_check_become_dockers_config() -> None:
    body = docker(
        restart_policy="on-failure", restart_max_retries="3", health="test -e /ok", health_interval="5", restart_when_unhealthy="on"
    )
    check = {name: value for name, value in body["Healthcheck"].items() if value}
    assert check == {"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 5 * 10**9}
    assert body["Labels"] == {"slipway.restart-unhealthy": "true"}
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_an_empty_command_is_left_to_the_image() -> None:
    assert "Cmd" not in docker()


def test_every_field_is_shown_once_and_named_as_in_rest() -> None:
    names = [*RunForm.BASIC, *(name for _title, group in RunForm.GROUPS for name in group.split())]
    assert sorted(names) == sorted(RunForm.base_fields)
    ours = {name for name in names if not name.startswith(("health", "log_"))}
    elsewhere = {
        "health",
        "log",
        "start",
        "stdin_once",
        "runtime",
    }  # the last two make no difference here: docker's client sends them itself
    assert ours == set(ContainerIn.model_fields) - elsewhere


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", "echo 'a"),
        ("entrypoint", "'"),
        ("memory", "much"),
        ("memory", "-1"),
        ("memory_swap", "-2"),
        ("env", "=x"),
        ("env", "A"),
        ("cpus", "-1"),
        ("network", "host"),
        ("network", "container:of-a-stranger"),
        ("image", ""),
        ("ulimits", "nofile=many"),
        ("devices", "fuse"),
        ("blkio_read_bps", "/dev/sda"),
        ("seccomp", "{"),
        ("stop_timeout_s", "soon"),
    ],
)
def test_what_cannot_be_meant_is_said_at_its_field(field: str, value: str) -> None:
    filled = form(**{field: value})
    assert not filled.is_valid() and list(filled.errors) == [field]
    assert field in RunForm.BASIC or [group.failed for group in filled.groups].count(True) == 1


def blamed(refusal: EngineError, **words: Any) -> dict[str, list[str]]:
    filled = form(**words)
    assert filled.is_valid(), filled.errors
    filled.blame(refusal, HERE)
    return {name: list(sentences) for name, sentences in filled.errors.items()}


def test_every_refusal_of_ours_comes_to_its_field() -> None:
    first = InvalidArgument("whichever was found first")
    found = blamed(first, memory="64m", memory_swap="32m", cpuset_cpus="9", extra_hosts="db", dns="nowhere", working_dir="srv")
    assert set(found) == {"memory_swap", "cpuset_cpus", "extra_hosts", "dns", "working_dir"}
    assert found["cpuset_cpus"] == ["Requested CPUs are not available - requested 9, available: 0-3"]
    assert set(blamed(first, cpus="0.5", cpu_quota_us="10000")) == {"cpu_quota_us"}
    assert set(blamed(first, auto_remove="on", restart_policy="always")) <= {"auto_remove", "restart_policy"}


def test_a_refusal_of_the_host_comes_to_its_field_or_above_all() -> None:
    unknown = InvalidArgument('invalid CapAdd: unknown capability: "FLY"')
    assert blamed(unknown, cap_add="FLY") == {"cap_add": [unknown.message]}
    ungranted = PermissionDenied("device /dev/fuse is not allowed", rule="Devices")
    assert set(blamed(ungranted, devices="/dev/fuse")) == {"devices"}
    taken = AlreadyExists('Conflict. The container name "/web" is already in use by container "x".')
    assert set(blamed(taken, name="web")) == {"name"}
    assert set(blamed(InvalidArgument("the moon is full"))) == {"__all__"}
    assert set(blamed(unknown)) == {"__all__"}  # nothing was written there


def changed(initial: dict[str, Any], **words: Any) -> dict[str, Any]:
    filled = LimitsForm(words, initial=initial)
    assert filled.is_valid(), filled.errors
    return filled.to_docker(swap_bytes=128 << 20)


def test_an_update_says_what_was_changed() -> None:
    initial = {"memory": "64 MiB", "restart_policy": "no", "pids_limit": 5}
    assert changed(initial, memory="64 MiB", restart_policy="no", pids_limit="5") == {}
    assert changed(initial, memory="32m", restart_policy="no", pids_limit="0") == {"Memory": 32 << 20, "PidsLimit": 0}
    assert changed(initial, memory="64 MiB", restart_policy="no") == {"PidsLimit": 0}
    assert changed(initial, memory="1g", restart_policy="no")["MemorySwap"] == 2 << 30
    assert "MemorySwap" in changed(initial, memory="1g", memory_swap="-1", restart_policy="no")
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    words = {"restart_policy": "on-failure", "restart_max_retries": "2", "cpu_quota_us": "5000", "cpuset_cpus": "0"}
    body = changed(initial, memory="64 MiB", pids_limit="5", **words)
    assert body == {"RestartPolicy": policy, "CpuQuota": 5000, "CpusetCpus": "0"}


def test_a_limit_that_was_emptied_is_refused_beside_its_field() -> None:
    """Docker's update passes over a 0: the page would say that all went well."""
    filled = LimitsForm({"memory": "", "restart_policy": "no"}, initial={"memory": "64 MiB", "cpuset_cpus": "0", "restart_policy": "no"})
    assert not filled.is_valid() and set(filled.errors) == {"memory", "cpuset_cpus"}
