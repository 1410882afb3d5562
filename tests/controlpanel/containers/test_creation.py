"""Fields of REST and of the form → Docker's create request → what the host gets. PURE."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from controlpanel.containers import request
from controlpanel.containers.creation import ContainerIn, to_docker
from controlpanel.containers.references import BUILTIN, References
from controlpanel.dockerapi.create import decode
from controlpanel.hosts.machine import Machine
from controlpanel.networks.projection import NetworkView
from engine.errors import EngineError, InvalidArgument, PermissionDenied
from engine.model.container import ContainerSpec, Device, LogPolicy, Ulimit
from engine.model.network import EndpointSpec, Pool, PortBinding
from engine.model.resources import DeviceRate
from engine.model.volume import MountSpec

IMAGE = {"config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Healthcheck": {"Test": ["CMD", "true"]}}}
HERE = Machine(cpus=4, cpuset_cpus="0-3", blkio_weight=True)

BACKEND, MAC = "be" * 32, "02:42:0a:09:00:07"
VIEW = NetworkView(
    id=BACKEND,
    name="backend",
    driver="bridge",
    created_ns=1,
    asked_pool=Pool(subnet="10.9.0.0/24"),
    asked_ipv6_pool=Pool(subnet="fd00:9::/64"),
)
KNOWN = References({**BUILTIN, "backend": VIEW}, {"db": "db" * 32})

# field → what is asked, and the member of ContainerSpec with what comes of it
ASKED: dict[str, tuple[Any, str, Any]] = {
    "entrypoint": (["sh", "-c"], "args", ("sh", "-c", "echo hi")),
    "command": (["echo hi"], "args", ("sh", "-c", "echo hi")),
    "env": ({"A": "b c"}, "env", ("A=b c", "PATH=/bin")),
    "annotations": ({"a": "b"}, "annotations", {"a": "b"}),
    "working_dir": ("/srv", "cwd", "/srv"),
    "user": ("1000:1000", "user", "1000:1000"),
    "group_add": (["audio"], "group_add", ("audio",)),
    "hostname": ("box", "hostname", "box"),
    "domainname": ("example.org", "domainname", "example.org"),
    "tty": (True, "tty", True),
    "open_stdin": (True, "open_stdin", True),
    "stdin_once": (True, "stdin_once", True),
    "init": (True, "init", True),
    "privileged": (True, "privileged", True),
    "stop_signal": ("SIGQUIT", "stop_signal", "SIGQUIT"),
    "stop_timeout_s": (0, "stop_timeout_s", 0),
    "dns": (["10.0.0.53"], "dns", ("10.0.0.53",)),
    "dns_search": (["example.org"], "dns_search", ("example.org",)),
    "dns_options": (["ndots:2"], "dns_options", ("ndots:2",)),
    "extra_hosts": (["db:10.0.0.7"], "extra_hosts", ("db:10.0.0.7",)),
    "ipc_mode": ("shareable", "ipc_mode", "shareable"),
    "pid_mode": ("container:" + "a" * 64, "pid_mode", "container:" + "a" * 64),
    "uts_mode": ("container:" + "a" * 64, "uts_mode", "container:" + "a" * 64),
    "cgroup_parent": ("batch", "cgroup_parent", "batch"),
    "oom_score_adj": (5, "oom_score_adj", 5),
    "shm_size": ("128m", "shm_size_bytes", 128 << 20),
    "ulimits": ([{"name": "nofile", "soft": 5}], "ulimits", (Ulimit(name="nofile", soft=5, hard=5),)),
    "read_only": (True, "read_only_rootfs", True),
    "layer_size": ("10m", "layer_size_bytes", 10 << 20),
    "tmpfs": ({"/tmp": "size=1m"}, "tmpfs", {"/tmp": "size=1m"}),
    "volumes": (["data:/d:ro"], "mounts", (MountSpec(type="volume", source="data", target="/d", read_only=True, mode="ro"),)),
    "cap_add": (["NET_ADMIN"], "cap_add", ("NET_ADMIN",)),
    "cap_drop": (["ALL"], "cap_drop", ("ALL",)),
    "no_new_privileges": (True, "no_new_privileges", True),
    "seccomp": ({"defaultAction": "SCMP_ACT_ALLOW"}, "seccomp", '{"defaultAction": "SCMP_ACT_ALLOW"}'),
    "sysctls": ({"net.core.somaxconn": "1"}, "sysctls", {"net.core.somaxconn": "1"}),
    "devices": (
        [{"path_on_host": "/dev/fuse"}], "devices", (Device(path_on_host="/dev/fuse", path_in_container="/dev/fuse", permissions="rwm"),)
    ),
    "device_rules": (["c 10:229 rwm"], "device_rules", ("c 10:229 rwm",)),
    "aliases": (["x"], "networks", (EndpointSpec(network_id=BACKEND, aliases=("x",), ip_address="10.9.0.7", mac_address=MAC),)),
    "ports": (["8080:80", "53/udp"], "ports", (
        PortBinding(container_port=80, host_port=8080), PortBinding(container_port=53, protocol="udp"),
        PortBinding(container_port=90), PortBinding(container_port=91),
    )),
    "log": (
        {"driver": "local", "options": {"max-size": "1m", "max-file": "2"}},
        "log", LogPolicy(driver="local", max_size_bytes=1 << 20, max_files=2),
    ),
}  # fmt: skip
RATE = [{"path": "/dev/sda", "rate": "1m"}]
LIMITS: dict[str, tuple[Any, str, Any]] = {
    "memory": ("64m", "memory_bytes", 64 << 20),
    "memory_swap": (128 << 20, "memory_swap_bytes", 128 << 20),
    "memory_reservation": ("32m", "memory_reservation_bytes", 32 << 20),
    "memory_swappiness": (0, "memory_swappiness", 0),
    "oom_kill_disable": (True, "oom_kill_disable", True),
    "cpu_shares": (512, "cpu_shares", 512),
    "cpu_period_us": (50_000, "cpu_period_us", 50_000),
    "cpu_quota_us": (25_000, "cpu_quota_us", 25_000),
    "cpuset_cpus": ("0-1", "cpuset_cpus", "0-1"),
    "cpuset_mems": ("0", "cpuset_mems", "0"),
    "pids_limit": (9, "pids_limit", 9),
    "blkio_weight": (300, "blkio_weight", 300),
    "blkio_weight_device": ([{"path": "/dev/sda", "rate": 200}], "blkio_weight_device", (DeviceRate(path="/dev/sda", rate=200),)),
    "blkio_read_bps": (RATE, "blkio_read_bps", (DeviceRate(path="/dev/sda", rate=1 << 20),)),
    "blkio_write_bps": (RATE, "blkio_write_bps", (DeviceRate(path="/dev/sda", rate=1 << 20),)),
    "blkio_read_iops": (RATE, "blkio_read_iops", (DeviceRate(path="/dev/sda", rate=1 << 20),)),
    "blkio_write_iops": (RATE, "blkio_write_iops", (DeviceRate(path="/dev/sda", rate=1 << 20),)),
}
ELSEWHERE = {  # shown by the tests below, or no part of a spec
    "image", "name", "start", "labels", "auto_remove", "runtime", "restart_policy", "restart_max_retries", "restart_when_unhealthy",
    "health", "network", "networks", "ip_address", "ipv6_address", "mac_address", "links", "expose", "publish_all", "cpus", "volumes_from",
}  # fmt: skip


def read(**words: Any) -> ContainerSpec:
    body = to_docker(ContainerIn(image="busybox", **words))
    body = decode(json.dumps(body).encode())  # Docker's own types: what is sent is what docker's client could send
    return request.read(
        body, container_id="f" * 64, tenant="acme", name="web", image_id="sha256:" + "ab" * 32, image_config=IMAGE, machine=HERE,
        references=KNOWN,
    ).spec  # fmt: skip


def test_every_field_comes_to_the_host() -> None:
    asked = {name: words for name, (words, _member, _value) in (ASKED | LIMITS).items()}
    network = {"network": "backend", "ip_address": "10.9.0.7", "mac_address": MAC, "expose": ["90", "91/tcp"], "publish_all": True}
    spec = read(**asked, **network, auto_remove=True, runtime="runc")
    for name, (_words, member, value) in ASKED.items():
        assert getattr(spec, member) == value, name
    for name, (_words, member, value) in LIMITS.items():
        assert getattr(spec.resources, member) == value, name
    assert spec.auto_remove
    assert {*ASKED, *LIMITS, *ELSEWHERE} == set(ContainerIn.model_fields)


def test_networks_beside_the_main_one_and_links() -> None:
    spec = read(networks=[{"network": "backend", "aliases": ["x"], "gw_priority": 2, "ipv6_address": "fd00:9::7"}], links=["db:store"])
    assert spec.network_mode == "bridge"
    assert spec.networks == (
        EndpointSpec(links=("db" * 32 + ":store",)),
        EndpointSpec(network_id=BACKEND, aliases=("x",), gw_priority=2, ipv6_address="fd00:9::7"),
    )
    assert read(network="backend", links=["db"]).networks == (EndpointSpec(network_id=BACKEND, links=("db" * 32 + ":db",)),)


def test_what_is_not_asked_is_the_images_and_the_platforms() -> None:
    plain = read()
    assert plain == ContainerSpec(
        id="f" * 64, tenant="acme", name="web", image_id="sha256:" + "ab" * 32, image="busybox", args=("sh",), env=("PATH=/bin",),
        hostname="f" * 12, health=plain.health,
    )  # fmt: skip
    assert plain.health is not None and plain.health.test == ("CMD", "true")


def test_a_health_check_is_words_a_shells_line_the_images_or_off() -> None:
    def test_of(**words: Any) -> tuple[str, ...]:
        health = read(health=words).health
        return health.test if health else ()

    assert test_of(command=["test", "-e", "/ok"]) == ("CMD", "test", "-e", "/ok")
    assert test_of(shell="test -e /ok") == ("CMD", "/bin/sh", "-c", "test -e /ok")
    assert test_of(command=[]) == ()
    health = read(health={"interval_s": 1.5, "timeout_s": 2, "start_period_s": 3, "start_interval_s": 4, "retries": 5}).health
    assert health is not None and health.test == ("CMD", "true")
    times = (health.interval_ns, health.timeout_ns, health.start_period_ns, health.start_interval_ns)
    assert times == (1_500_000_000, 2 * 10**9, 3 * 10**9, 4 * 10**9) and health.retries == 5


def test_policy_network_and_cpus() -> None:
    spec = read(restart_policy="on-failure", restart_max_retries=3, restart_when_unhealthy=True, network="none", cpus=0.25)
    assert (spec.restart.name, spec.restart.maximum_retries, spec.restart.when_unhealthy) == ("on-failure", 3, True)
    assert spec.network_mode == "none" and spec.resources.nano_cpus == 250_000_000
    assert read(network="container:" + "a" * 64).network_mode == "container:" + "a" * 64


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"memory": "much"}, "invalid size: 'much'"),
        ({"memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"memory_swap": "1g"}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"cpus": 0.5, "cpu_quota_us": 10_000}, "Conflicting options"),
        ({"cpuset_cpus": "0-9"}, "Requested CPUs are not available"),
        ({"network": "elsewhere"}, "network elsewhere not found"),
        ({"working_dir": "srv"}, "needs to be an absolute path"),
        ({"stop_signal": "SIGNOTHING"}, "SIGNOTHING"),
        ({"runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"log": {"driver": "json-file", "options": {"colour": "red"}}}, "unknown log opt 'colour'"),
        ({"tmpfs": {"/tmp": "colour=red"}}, "invalid tmpfs option"),
        ({"extra_hosts": ["db"]}, "bad format for add-host"),
        ({"health": {"shell": "true", "interval_s": 1e-9}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"health": {"shell": "true", "interval_s": 1e300}}, "out of range"),
        ({"restart_policy": "always", "auto_remove": True}, "can't create 'AutoRemove' container with restart policy"),
    ],
)
def test_what_the_docker_api_refuses_is_refused_in_its_words(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EngineError) as caught:
        body = to_docker(ContainerIn(image="busybox", **words))
        request.read(body, container_id="f" * 64, tenant="acme", name="", image_id="", image_config=IMAGE, machine=HERE)
    assert sentence in caught.value.message and isinstance(caught.value, InvalidArgument | PermissionDenied)


@pytest.mark.parametrize("words", [{"cpus": float("inf")}, {"health": {"interval_s": float("nan")}}, {"ulimits": [{"name": "nofile"}]}])
def test_numbers_that_are_none_and_missing_ones_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContainerIn(image="busybox", **words)
