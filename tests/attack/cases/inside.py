"""Root in a container, with every capability: out of the namespaces, past the filter, into the kernel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.attack import image
from tests.attack.attempt import Impossible, Nothing, Who, attempt
from tests.attack.ground import IMAGE, Ground, got

IDS = "the user namespace, and the filter with it"


def _disk(ground: Ground) -> tuple[int, int]:
    """The one below the data folder, or a loop device where not even root may open that."""
    number = os.stat(ground.platform.data).st_dev
    for found in ((os.major(number), os.minor(number)), (7, 0)):
        node = ground.folder / "node"
        try:
            os.mknod(node, 0o060600, os.makedev(*found))
            os.close(os.open(node, os.O_RDONLY))
            return found
        except OSError:
            continue
        finally:
            node.unlink(missing_ok=True)
    raise Impossible("not even the host's root may open a disk here")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def node_of_the_hosts_disk(ground: Ground, walled: bool) -> str:
    """mknod of the disk that the platform lies on, or of a loop device where the host's root may not open that, and a read of it"""
    return ground.probe(walled, "node", "b", *_disk(ground))


@attempt("b", Who.CONTAINER, IDS, quick=True)
def node_of_kernel_memory(ground: Ground, walled: bool) -> str:
    """mknod of /dev/kmsg, 1:11, and a read of it"""
    return ground.probe(walled, "node", "c", 1, 11)


@attempt("b", Who.CONTAINER, IDS, quick=True)
def mount_of_the_hosts_devices(ground: Ground, walled: bool) -> str:
    """a devtmpfs of its own, which is the host's /dev"""
    return ground.probe(walled, "new_mount", "devtmpfs", "none", "null")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def mount_of_tracefs(ground: Ground, walled: bool) -> str:
    """tracefs or debugfs, which show and steer the kernel"""
    return ground.probe(walled, "new_mount", "tracefs") or ground.probe(walled, "new_mount", "debugfs")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def core_pattern(ground: Ground, walled: bool) -> str:
    """a program that the kernel runs as root for each crash, by /proc and by a proc of its own (what stands there is written again)"""
    return ground.probe(walled, "kernel_file", "proc", "sys/kernel/core_pattern")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def path_of_modprobe(ground: Ground, walled: bool) -> str:
    """the program that the kernel runs as root for a missing module"""
    if not Path("/proc/sys/kernel/modprobe").exists():
        raise Impossible("this kernel has no modules")
    return ground.probe(walled, "kernel_file", "proc", "sys/kernel/modprobe")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def sysrq(ground: Ground, walled: bool) -> str:
    """/proc/sysrq-trigger; h only prints help into the kernel's log"""
    if not Path("/proc/sysrq-trigger").exists():
        raise Impossible("this kernel has no sysrq")
    return ground.probe(walled, "kernel_file", "proc", "sysrq-trigger", "h")


@attempt("b", Who.CONTAINER, IDS + ", and the cgroup namespace", quick=True)
def cgroup_release_agent(ground: Ground, walled: bool) -> str:
    """CVE-2022-0492: release_agent of a cgroup v1 hierarchy, mounted anew"""
    if not Path("/sys/fs/cgroup/memory/release_agent").exists():
        raise Impossible("no cgroup v1 here, so there is no release_agent")
    return ground.probe(walled, "kernel_file", "cgroup:memory", "release_agent", "\n", without=("cgroup",))


@attempt("b", Who.CONTAINER, IDS, quick=True)
def kernel_module(ground: Ground, walled: bool) -> str:
    """init_module of bytes that are no module: does the kernel look at them?"""
    if not Path("/proc/modules").exists():
        raise Impossible("this kernel has no modules")
    return ground.probe(walled, "module")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def program_for_the_kernel(ground: Ground, walled: bool) -> str:
    """bpf(2): a classifier, loaded"""
    return ground.probe(walled, "bpf")


@attempt("b", Who.CONTAINER, IDS, quick=True)
def open_by_handle(ground: Ground, walled: bool) -> str:
    """CVE-2014-3519, "shocker": the file system below /etc/hosts, opened by the number of its root"""
    hosts = ground.engine.config.container(ground.cage) / "hosts"
    if hosts.stat().st_dev != ground.outside.stat().st_dev or os.stat("/").st_dev != hosts.stat().st_dev or os.stat("/").st_ino != 2:
        raise Impossible("the data folder does not lie on the root file system, or that is no ext4")
    return ground.probe(walled, "handle", "/etc/hosts", ground.outside)


@attempt("b", Who.CONTAINER, "the mount namespace", quick=True)
def out_of_the_root(ground: Ground, walled: bool) -> str:
    """a file of the host's by chroot and .., and by root and cwd of each process"""
    return ground.probe(walled, "outside", ground.outside, without=("mount",))


@attempt("b", Who.CONTAINER, "that nothing but three streams is handed on", quick=True)
def leaked_descriptor(ground: Ground, walled: bool) -> str:
    """CVE-2024-21626: a folder of the host's among the descriptors of this process, or of the first"""
    if walled:
        return ground.probe(walled, "descriptors", ground.outside)
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return ground.probe(walled, "descriptors", ground.outside, pass_fds=(top,))
    finally:
        os.close(top)


@attempt("b", Who.CONTAINER, "that nothing but three streams is handed on", quick=True)
def working_folder_by_descriptor(ground: Ground, walled: bool) -> str:
    """CVE-2024-21626 at the exec: a working folder of /proc/self/fd/N"""
    path = f"../../../../../../../..{ground.outside}"
    for number in range(3, 16) if walled else (0,):
        if walled:
            done = ground.mallory.docker("exec", "-w", f"/proc/self/fd/{number}", ground.cage, "cat", path, check=False)
        else:
            top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
            enter = ["nsenter", "-t", str(ground.cage_pid), "-m", "-p", "sh", "-c", f"cd /proc/self/fd/{top} && cat {path}"]
            done = subprocess.run(enter, pass_fds=(top,), capture_output=True, text=True, check=False)
            os.close(top)
        if ground.secret in done.stdout:
            return f"{ground.outside} by descriptor"
    return ""


@attempt("b", Who.CONTAINER, IDS + ", and that who joins is not dumpable", quick=True)
def program_of_who_enters(ground: Ground, walled: bool) -> str:
    """CVE-2019-5736: /proc/PID/exe of the processes that enter for an exec, opened for writing"""
    copy = ground.folder / "joiner" / "busybox"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy("/bin/busybox", copy)
    with copy.open("ab") as file:
        file.write(b"\0")  # no file of the container's
    asked = ("others_program", 2)
    if walled:
        spy = subprocess.Popen(
            ["docker", "exec", ground.cage, *image.COMMAND, *map(str, asked)],
            env={**os.environ, "DOCKER_HOST": f"unix://{ground.platform.socket('mallory')}"}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        while spy.poll() is None:
            ground.mallory.docker("exec", ground.cage, "true", check=False)
        return got(spy.communicate()[0])
    entered = subprocess.Popen(["nsenter", "-t", str(ground.cage_pid), "-p", str(copy), "sleep", "10"])
    try:
        return ground.probe(walled, *asked)
    finally:
        entered.send_signal(signal.SIGTERM)
        entered.wait()


@attempt("b", Who.AUTHOR, IDS, quick=True)
def program_that_starts_containers(ground: Ground, walled: bool) -> str:
    """an image whose entry point is /proc/self/exe, which is then who starts containers; is that program writable?"""
    if walled:
        words = ("run", "--rm", "--entrypoint", "/proc/self/exe", IMAGE, "-I", "-S", "/probe.py", "own_program")
        done = ground.mallory.docker(*words, check=False)
        if done.returncode and "got:" not in done.stdout:
            return ""  # it did not come as far as the probe
        return got(done.stdout, done.stderr)
    copy = ground.folder / "starter"
    shutil.copy(os.path.realpath(image.PYTHON), copy)
    done = subprocess.run([copy, "-I", "-S", str(image.PROBE), "own_program"], capture_output=True, text=True, check=False)
    return got(done.stdout, done.stderr)


@attempt("b", Who.CONTAINER, IDS, quick=True)
def id_of_nobody(ground: Ground, walled: bool) -> str:
    """to become uid 65536, the first that is not the tenant's"""
    return ground.probe(walled, "become", 65536)


@attempt("b", Who.CONTAINER, "the pid namespace and " + IDS, quick=True)
def signal_by_pid(ground: Ground, walled: bool) -> str:
    """to signal another tenant's process by the number that it has on the host"""
    return ground.probe(walled, "signal_to", ground.box_pid, without=("pid",))


@attempt("b", Who.CONTAINER, "the pid namespace and " + IDS, quick=True)
def trace_by_pid(ground: Ground, walled: bool) -> str:
    """to trace it, which would be to run code as it"""
    return ground.probe(walled, "trace", ground.box_pid, without=("pid",))


@attempt("b", Who.PERSON, "that the store lies below a folder of root's alone", quick=True)
def setuid_program_of_a_layer(ground: Ground, walled: bool) -> str:
    """CVE-2021-41091: a setuid program in a container, run by a user of the host"""
    ground.mallory.docker("exec", ground.cage, "sh", "-c", "cp /usr/bin/python3 /bin/rootshell; chmod 4755 /bin/rootshell")
    found = ground.engine.config.rootfs / ground.cage / "upper" / "bin" / "rootshell"
    if not found.exists():
        raise Impossible("the container's layer is in a disk of its own")
    if not walled:
        if os.statvfs(ground.folder).f_flag & os.ST_NOSUID:
            raise Impossible(f"{ground.folder} is mounted nosuid")
        copy = ground.folder / "rootshell"
        shutil.copy(found, copy)
        copy.chmod(0o4755)
        found = copy
    try:
        words = [found, "-I", "-S", "-c", "import os; print(os.geteuid())"]
        done = subprocess.run(words, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False)
    except PermissionError:
        return ""
    return "the host's root" if done.stdout == "0\n" else ""


@attempt("a", Who.CONTAINER, "the pid and the mount namespace", quick=True)
def processes_of_others(ground: Ground, walled: bool) -> str:
    """a secret in any process' command line or environment"""
    _ = ground.box
    return ground.probe(walled, "processes", ground.mark, without=("pid", "mount"), ids=True)


@attempt("a", Who.CONTAINER, "the cgroup and the mount namespace", quick=True)
def cgroups_of_others(ground: Ground, walled: bool) -> str:
    """cgroups below /sys/fs/cgroup that have other tenants' containers' ids"""
    return ground.probe(walled, "named", "/sys/fs/cgroup", ground.box, without=("cgroup", "mount"), ids=True)


@attempt("a", Who.CONTAINER, "the mount namespace, and the pid namespace that its /proc is of", quick=True)
def mounts_of_others(ground: Ground, walled: bool) -> str:
    """another tenant's volumes in /proc/self/mountinfo, which names each by its place on the host"""
    _ = ground.box
    return ground.probe(walled, "said", "/proc/self/mountinfo", ground.mark, without=("mount=alice", "pid=alice"))


@attempt("a", Who.CONTAINER, "the ipc namespace", quick=True)
def shared_memory_of_others(ground: Ground, walled: bool) -> str:
    """each segment of System V that /proc/sysvipc lists, attached"""
    _ = ground.box
    return ground.probe(walled, "shared_memory", ground.mark, without=("ipc=alice",), ids=True)


@attempt("a", Who.CONTAINER, "the network namespace", quick=True)
def abstract_socket_of_others(ground: Ground, walled: bool) -> str:
    """an abstract unix socket by its name"""
    _ = ground.box
    return ground.probe(walled, "abstract", ground.mark, without=("net=alice",), ids=True)


@attempt("a", Who.CONTAINER, "the filter", quick=True)
def keys_of_the_kernel(ground: Ground, walled: bool) -> str:
    """add_key and keyctl: the kernel's key store is divided by no namespace of a container's"""
    return ground.probe(walled, "keys", ids=True)


@attempt("a", Who.CONTAINER, IDS, quick=True)
def kernel_log(ground: Ground, walled: bool) -> str:
    """syslog(2) and /dev/kmsg: addresses, names and faults of everybody"""
    return ground.probe(walled, "kernel_log")


def _control_plane(name: str) -> None:
    def act(ground: Ground, walled: bool) -> str:
        return ground.probe(walled, "door", ground.platform.run / f"{name}.sock", without=("mount",))

    what = f"connect(2) to {name}.sock by its path on the host"
    attempt("d", Who.CONTAINER, "the mount namespace and " + IDS, quick=True, name=f"socket-of-{name}", what=what)(act)


for part in ("redis", "keeper", "launcher", "agent", "netd"):
    _control_plane(part)


def _asked(name: str, what: str, words: tuple[str, ...], grant: dict[str, Any], command: tuple[str, ...], promise: str = "b") -> None:
    """What root of the host has not granted, asked for by a tenant that it was not and by one that it was granted to."""

    def act(ground: Ground, walled: bool) -> str:
        tenant = ground.mallory if walled else ground.tenant("granted")
        place = str(ground.outside.parent)
        if not walled:
            ground.grant(tenant.name, **{word: (place,) if word == "bind" else given for word, given in grant.items()})
        filled = [word.replace("FOLDER", place).replace("MARK", ground.mark) for word in (*words, IMAGE, *command)]
        done = tenant.docker("run", "--rm", *filled, check=False)
        return (done.stdout.strip() or "it ran") if done.returncode == 0 else Nothing(done.stderr)

    attempt(promise, Who.USER, "root's ceiling", name=name, what=what)(act)


_asked("device-of-the-host", "docker run --device /dev/fuse", ("--device", "/dev/fuse"), {"grant": ("/dev/fuse",)}, ("ls", "/dev/fuse"))
_asked("folder-of-the-host", "docker run -v of a folder of the host's", ("-v", "FOLDER:/x"), {"bind": ()}, ("cat", "/x/MARK"), "e")
_asked(
    "no-filter",
    "docker run --security-opt seccomp=unconfined",
    ("--security-opt", "seccomp=unconfined"),
    {"seccomp_unconfined": True},
    (*image.COMMAND, "keys"),
)
_asked("container-without-filter-and-masks", "docker run --privileged", ("--privileged",), {"privileged": True}, (*image.COMMAND, "keys"))
_asked("network-of-the-host", "docker run --network host", ("--network", "host"), {"host_network": True}, ("cat", "/proc/net/dev"), "d")
