"""Docker's create request: what is accepted gets what it asked for, everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import request
from controlpanel.hosts.machine import Machine
from engine.errors import EngineError, InvalidArgument, PermissionDenied, Unsupported
from engine.model.container import Device, Ulimit

MACHINE = Machine(cpus=4, cpuset_cpus="0-3", blkio_weight=True)
ID = "0123456789ab" + "c" * 52
IMAGE = {
    "config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "LANG=C"], "WorkingDir": "/srv", "Labels": {"from": "image"}, "StopSignal": "SIGQUIT"}
}


def read(body: dict[str, Any], image: dict[str, Any] = IMAGE) -> request.Asked:
    full = {"Image": "busybox", **body}
    return request.read(full, container_id=ID, tenant="acme", name="web", image_id="sha256:1", image_config=image, machine=MACHINE)


def host(**words: Any) -> dict[str, Any]:
    return {"HostConfig": words}


def test_the_images_defaults_fill_what_was_not_asked() -> None:
    spec = read({"Env": ["LANG=de", "NEW=1", "PATH"]}).spec
    assert spec.args == ("sh",)
    assert set(spec.env) == {"LANG=de", "NEW=1"}
    assert (spec.cwd, spec.labels, spec.stop_signal, spec.hostname) == ("/srv", {"from": "image"}, "SIGQUIT", ID[:12])


def test_a_terminal_begins_with_the_clients_size() -> None:
    assert read(host(ConsoleSize=[33, 101])).spec.console_size == (33, 101)
    assert read(host(ConsoleSize=[0, 0])).spec.console_size == ()
    with pytest.raises(InvalidArgument, match="ConsoleSize"):
        read(host(ConsoleSize=[33, -1]))


def test_an_entrypoint_drops_the_images_command() -> None:
    assert read({"Entrypoint": "/bin/x"}).spec.args == ("/bin/x",)
    assert read({"Entrypoint": ["a"], "Cmd": "b"}).spec.args == ("a", "b")


def test_what_docker_run_sends_by_default_is_accepted() -> None:
    body = {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": True, "AttachStderr": True, "Tty": False,
        "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": ["true"], "Volumes": {}, "WorkingDir": "", "Entrypoint": None,
        "OnBuild": None, "Labels": {},
        "HostConfig": {
            "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default", "PortBindings": {},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": True, "VolumeDriver": "", "VolumesFrom": None,
            "ConsoleSize": [24, 80], "CapAdd": None, "CapDrop": None, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
            "ExtraHosts": None, "GroupAdd": None, "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "",
            "Privileged": False, "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0,
            "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpusetCpus": "", "CpusetMems": "",
            "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0,
            "MemorySwappiness": -1, "OomKillDisable": False, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
            "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": None, "ReadonlyPaths": None,
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": ""}}},
    }  # fmt: skip
    asked = read(body)
    assert asked.spec.auto_remove and asked.spec.network_mode == "bridge" and asked.spec.shm_size_bytes == 64 << 20
    assert asked.warnings == ()


def test_options_arrive_in_the_spec() -> None:
    words = host(
        Memory=64 << 20, NanoCpus=500_000_000, PidsLimit=50, ReadonlyRootfs=True, Init=True, CapAdd=["NET_ADMIN"], CapDrop=["ALL"],
        SecurityOpt=["no-new-privileges"], Tmpfs={"/tmp": "size=1m"}, ShmSize=1 << 20, ExtraHosts=["db:10.0.0.1"], Dns=["1.1.1.1"],
        NetworkMode="none", LogConfig={"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}},
    )  # fmt: skip
    spec = read({**words, "Tty": True, "StopTimeout": 0, "User": "nobody:nogroup"}).spec
    assert (spec.resources.memory_bytes, spec.resources.nano_cpus, spec.resources.pids_limit) == (64 << 20, 500_000_000, 50)
    assert spec.read_only_rootfs and spec.init and spec.no_new_privileges and spec.tty
    assert (spec.cap_add, spec.cap_drop, spec.tmpfs, spec.shm_size_bytes) == (("NET_ADMIN",), ("ALL",), {"/tmp": "size=1m"}, 1 << 20)
    assert (spec.network_mode, spec.stop_timeout_s, spec.user) == ("none", 0, "nobody:nogroup")
    assert (spec.log.max_size_bytes, spec.log.max_files) == (1 << 20, 3)


def endpoint(**words: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {"bridge": words}}}


REFUSED: list[tuple[dict[str, Any], type[EngineError], str]] = [
    (host(PidMode="host"), PermissionDenied, "^PID mode host is not allowed: rule policy.host_namespaces .nobody can allow it"),
    (host(IpcMode="host"), PermissionDenied, "^IPC mode host"),
    (host(UTSMode="host"), PermissionDenied, "^UTS mode host"),
    (host(UsernsMode="host"), PermissionDenied, "^user namespace mode host"),
    (host(IpcMode="bogus"), InvalidArgument, "^invalid IPC mode: bogus$"),
    (host(PidMode="container:"), InvalidArgument, "^invalid PID mode: container:$"),
    (host(Binds=["data:/"]), InvalidArgument, "destination can't be '/'"),
    (host(Mounts=[{"Type": "bind", "Target": "/x"}]), InvalidArgument, "field Source must not be empty"),
    (host(SecurityOpt=["systempaths=unconfined"]), InvalidArgument, "^invalid --security-opt 2: \"systempaths=unconfined\"$"),
    (host(SecurityOpt=["rubbish"]), InvalidArgument, "security-opt"),
    (host(MaskedPaths=[]), PermissionDenied, "MaskedPaths"),
    (host(Runtime="kata"), InvalidArgument, "unknown or invalid runtime name: kata"),
    (host(NetworkMode="web"), InvalidArgument, "^network web not found$"),
    (host(LogConfig={"Type": "syslog"}), Unsupported, "log driver"),
    (host(LogConfig={"Type": "json-file", "Config": {"max-size": "x"}}), InvalidArgument, "invalid size: 'x'"),
    (host(LogConfig={"Type": "json-file", "Config": {"colour": "x"}}), InvalidArgument, "unknown log opt 'colour'"),
    (host(ExtraHosts=["nope"]), InvalidArgument, 'bad format for add-host: "nope"'),
    (host(ShmSize=-1), InvalidArgument, "SHM size can not be less than 0"),
    (host(Memory="64m"), InvalidArgument, "Memory must be a number, not a string"),
    (host(CapAdd="ALL", Dns=[1]), InvalidArgument, "each of Dns must be a string"),
    ({"Cmd": [1]}, InvalidArgument, "each of Cmd must be a string"),
    ({"Cmd": ["a\0b"]}, InvalidArgument, "zero byte"),
    ({"Labels": {"a": "\0"}}, InvalidArgument, "invalid Labels: it holds a zero byte"),  # PostgreSQL takes none in a row
    ({"HostConfig": {"Annotations": {"a\0": "b"}}}, InvalidArgument, "invalid HostConfig: it holds a zero byte"),
    ({"Env": ["=x"]}, InvalidArgument, "^invalid environment variable: =x$"),
    ({"Labels": {"a": 1}}, InvalidArgument, "Labels"),
    ({"Labels": []}, InvalidArgument, "Labels must be an object"),
    ({"Tty": "yes"}, InvalidArgument, "Tty must be true or false"),
    ({"WorkingDir": "srv"}, InvalidArgument, "the working directory 'srv' is invalid, it needs to be an absolute path"),
    ({"StopSignal": "SIGNOPE"}, InvalidArgument, "^invalid signal: SIGNOPE$"),
    ({"Volumes": {"data": {}}}, InvalidArgument, "must be absolute"),
    (endpoint(IPAMConfig={"IPv4Address": "10.0.0.1"}), InvalidArgument, "user defined networks only"),
    (endpoint(Aliases=["db"]), InvalidArgument, "network-scoped alias is supported only for containers in user defined networks"),
    ({"HostConfig": []}, InvalidArgument, "HostConfig must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "sentence"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_what_is_not_done_is_said(body: dict[str, Any], kind: type[EngineError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        read(body)


def test_without_any_command_there_is_nothing_to_start() -> None:
    with pytest.raises(InvalidArgument, match=r"^no command specified$"):
        read({}, image={"config": {}})


def test_an_images_own_volumes_do_not_stop_it() -> None:
    assert read({}, image={"config": {"Cmd": ["sh"], "Volumes": {"/data": {}}}}).spec.args == ("sh",)


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"Memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": 64 << 20, "MemorySwap": 32 << 20}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
    ({"MemorySwap": 32 << 20}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    ({"Memory": 8 << 20, "MemoryReservation": 16 << 20}, "Minimum memory limit can not be less than memory reservation limit, see usage"),
    ({"NanoCpus": 5_000_000_000}, r"range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
    ({"NanoCpus": -1}, "range of CPUs"),
    ({"NanoCpus": 1_000_000_000, "CpuQuota": 5000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    ({"CpuPeriod": 5}, "CPU cfs period can not be less than 1ms"),
    ({"CpuQuota": 5}, "CPU cfs quota can not be less than 1ms"),
    ({"CpuShares": -1}, r"invalid CPU shares \(-1\)"),
    ({"CpuShares": 1}, "the minimum allowed cpu-shares is 2"),
    ({"MemoryReservation": 100}, "Minimum memory reservation allowed is 6MB"),
    ({"MemorySwappiness": 500}, "Invalid value: 500, valid memory swappiness range is 0-100"),
    ({"CpusetCpus": "7"}, "Requested CPUs are not available - requested 7, available: 0-3"),
    ({"CpusetMems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
    ({"CpusetCpus": "a"}, "Invalid value a for cpuset cpus: invalid format: a"),
    ({"CpusetCpus": "0-1,"}, "Invalid value 0-1, for cpuset cpus: invalid format: 0-1,"),
    ({"CpusetCpus": "2-1"}, "invalid format: 2-1"),
    ({"CpusetCpus": "0-99999"}, "value of out range, maximum is 8192"),
    ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
    ({"BlkioDeviceReadBps": [{"Path": "/etc/passwd", "Rate": 5}]}, "invalid block device path '/etc/passwd'"),
    ({"BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": -5}]}, "Rate of BlkioDeviceReadBps must be a number from 0"),
    ({"BlkioDeviceReadBps": [5]}, "each of BlkioDeviceReadBps must be an object"),
    ({"IOMaximumIOps": 5}, "invalid option: QoS maximum IOPs configuration is not supported on linux"),
]


@pytest.mark.parametrize(("words", "sentence"), LIMITS)
def test_limits_are_checked_in_mobys_words(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        read(host(**words))


def test_options_of_one_container_arrive_in_the_spec() -> None:
    asked = read(
        host(
            GroupAdd=["wheel", "7"], Ulimits=[{"Name": "nofile", "Soft": 1, "Hard": 2}], Sysctls={"net.a": "1"}, OomScoreAdj=9,
            Devices=[{"PathOnHost": "/dev/fuse"}], DeviceCgroupRules=["c 10:229 r"], CgroupParent="web", Annotations={"a": "b"},
            IpcMode=f"container:{'a' * 64}", PidMode="private", Runtime="io.containerd.runc.v2",
            SecurityOpt=["no-new-privileges:true", "label=disable", 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}'],
        )
    )  # fmt: skip
    spec = asked.spec
    assert (spec.group_add, spec.ulimits) == (("wheel", "7"), (Ulimit(name="nofile", soft=1, hard=2),))
    assert (spec.sysctls, spec.oom_score_adj, spec.annotations, spec.cgroup_parent) == ({"net.a": "1"}, 9, {"a": "b"}, "web")
    assert spec.devices == (Device(path_on_host="/dev/fuse", path_in_container="/dev/fuse", permissions="rwm"),)
    assert (spec.device_rules, spec.ipc_mode, spec.pid_mode) == (("c 10:229 r",), f"container:{'a' * 64}", "")
    assert spec.no_new_privileges and spec.seccomp.startswith("{") and "can refuse more calls" in asked.warnings[0]


def test_an_empty_entrypoint_resets_the_images() -> None:
    assert read({"Entrypoint": [""], "Cmd": ["true"]}, image={"config": {"Entrypoint": ["/init"]}}).spec.args == ("true",)


SHARED: list[tuple[dict[str, Any], str]] = [
    ({"Hostname": "x"}, "hostname and the network mode"),
    ({"ExposedPorts": {"80/tcp": {}}}, "port exposing and the container type network mode"),
    (host(Dns=["1.1.1.1"]), "dns and the network mode"),
    (host(ExtraHosts=["a:1.1.1.1"]), "custom host-to-IP mapping and the network mode"),
    (host(PortBindings={"80/tcp": [{}]}), "port publishing and the container type network mode"),
    (host(Links=["a:b"]), "container type network can't be used with links"),
]


@pytest.mark.parametrize(("words", "sentence"), SHARED)
def test_what_contradicts_the_network_of_another_container(words: dict[str, Any], sentence: str) -> None:
    shared = {**words.get("HostConfig", {}), "NetworkMode": f"container:{'a' * 64}"}
    with pytest.raises(InvalidArgument, match=f"conflicting options: {sentence}"):
        read({**words, "HostConfig": shared})
