"""What a container is when it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups
from engine.model.resources import Resources

from .launching import UID_START, Host, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


# -- what it sees --------------------------------------------------------------------------------


def test_its_output_and_exit_code_arrive(engine: Host) -> None:
    result = engine.shell("echo out; echo err >&2; exit 3")
    assert result.exit_code == 3
    assert sorted(result.output.splitlines()) == ["err", "out"]


def test_root_in_it_is_an_unprivileged_id_outside(engine: Host) -> None:
    with engine.running("sleep", "60") as container:
        status = Path(f"/proc/{container.pid}/status").read_text()
    assert f"Uid:\t{UID_START}\t{UID_START}\t{UID_START}\t{UID_START}" in status
    assert f"Gid:\t{UID_START}\t{UID_START}" in status
    assert re.split(r"\s+", engine.shell("cat /proc/self/uid_map").output.strip()) == ["0", str(UID_START), "65536"]


def test_it_sees_only_its_own_processes_and_mounts(engine: Host) -> None:
    result = engine.shell("ls /proc | head -n 2; cat /proc/self/mountinfo; readlink /proc/1/exe")
    assert result.output.startswith("1\n")
    root = next(line for line in result.output.splitlines() if " / / " in line)
    assert str(engine.config.data) not in root, "where the layers lie is nobody's business"
    points = {line.split()[4] for line in result.output.splitlines() if " - " in line}
    assert points >= {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc/hosts"}
    assert not any(point.startswith(("/home", "/run", "/boot", "/var")) for point in points)
    assert "/bin/busybox" in result.output


def test_every_descriptor_but_three_is_closed(engine: Host) -> None:
    assert engine.shell("ls /proc/self/fd").output.split() == ["0", "1", "2", "3"], "3 is ls' own"


def test_signals_are_as_the_kernel_makes_them(engine: Host) -> None:
    status = engine.run("cat", "/proc/self/status").output
    assert re.search("SigIgn:\t(.*)", status)[1] == "0000000000000000"
    assert "SigBlk:\t0000000000000000" in status


def test_proc_and_sys_show_nothing_of_the_machine(engine: Host) -> None:
    masked = [path for path in ("/proc/interrupts", "/proc/timer_list", "/proc/keys", "/proc/kcore") if Path(path).exists()]
    result = engine.shell(f"cat {' '.join(masked)}; ls -A /proc/acpi /sys/firmware 2>/dev/null | cat", user="0")
    assert "".join(line for line in result.output.splitlines() if not line.endswith(":")) == ""


def test_what_is_read_only_stays_so_for_root(engine: Host) -> None:
    result = engine.shell("echo 1 > /proc/sys/kernel/hostname; echo 1 > /sys/kernel/uevent_seqnum; mkdir /sys/fs/cgroup/x")
    assert result.output.count("Read-only file system") == 3


def test_devices_work_and_no_others_can_be_made(engine: Host) -> None:
    script = """
        exec 2>&1  # two pipes have no order between them
        head -c 3 /dev/zero | cat >/dev/null && head -c 3 /dev/urandom >/dev/null && echo usable
        for what in "c 1 3" "b 8 0" "c 10 200"; do mknod /tmp/node $what; mknod /dev/node $what; mknod /dev/shm/node $what; done
        ls /dev
    """
    result = engine.shell(script, cap_add=("ALL",), seccomp="unconfined")
    assert "usable" in result.output
    assert result.output.count("Operation not permitted") == 9
    names = result.output.split("permitted\n")[-1].split()
    core = "core " if Path("/proc/kcore").exists() else ""
    assert " ".join(names) == f"{core}fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"


def test_the_cgroup_refuses_a_device_that_lies_in_dev(engine: Host) -> None:
    """The device rule is the barrier behind the missing mknod: even a process of the host in that cgroup can't open a disk."""
    disk = next((path for path in Path("/sys/class/block").iterdir()), None)
    if disk is None:
        pytest.skip("this machine has no block device")
    major, minor = map(int, (disk / "dev").read_text().split(":"))
    node = engine.config.data / "node"
    os.mknod(node, 0o600 | 0o060000, os.makedev(major, minor))
    with engine.running("sleep", "60") as container:
        pid = os.fork()
        if pid == 0:
            cgroups.enter(container.cgroup, os.getpid())
            try:
                os.open(node, os.O_RDONLY)
            except PermissionError:
                os._exit(7)
            except OSError:
                os._exit(8)
            os._exit(0)
        _pid, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_its_cgroup_is_the_root_of_what_it_sees(engine: Host) -> None:
    lines = engine.shell("cat /proc/self/cgroup").output.splitlines()
    own = [line for line in lines if "name=systemd" not in line and (cgroups.version() == 2 or not line.startswith("0::"))]
    assert own and all(line.endswith(":/") for line in own)


def test_files_belong_to_the_container_on_disk_as_inside(engine: Host) -> None:
    with engine.running("sh", "-c", "touch /new; ln -s x /link; su bob -c 'touch /home/bob/his'; sleep 60") as container:
        upper = engine.config.rootfs / container.id / "upper"
        until((upper / "home/bob/his").exists)
        assert (upper / "new").stat().st_uid == 0
        assert (upper / "home/bob/his").stat().st_uid == 1000


def test_hosts_hostname_and_resolv_conf_are_there_and_writable(engine: Host) -> None:
    result = engine.shell("cat /etc/hosts /etc/hostname /etc/resolv.conf; echo 1.2.3.4 x >> /etc/hosts && stat -c %u /etc/hosts")
    assert result.output == "# hosts\n# hostname\n# resolv.conf\n0\n"


def test_host_and_domain_name_are_set(engine: Host) -> None:
    result = engine.shell("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname", hostname="box", domainname="example.org")
    assert result.output == "box\nexample.org\n"


def test_its_network_has_a_loopback_that_is_up(engine: Host) -> None:
    result = engine.shell("cat /sys/class/net/lo/carrier /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net")
    assert result.output == "1\n0\nlo\n"


def test_a_read_only_root_takes_only_tmpfs(engine: Host) -> None:
    result = engine.shell(
        "for file in /x /etc/hosts /etc/hostname /etc/resolv.conf; do touch $file; done; touch /cache/deep/x && echo yes; cat /proc/mounts",
        read_only_rootfs=True,
        tmpfs={"/cache/deep": "size=1m"},
    )
    for file in ("/x", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        assert f"touch: {file}: Read-only file system" in result.output
    assert "yes" in result.output
    assert re.search(r"/cache/deep tmpfs rw,nosuid,nodev,noexec,\S*size=1024k", result.output)


def test_mounts_go_where_symlinks_of_the_image_point(engine: Host) -> None:
    layer = engine.config.layers / "links" / "diff"
    (layer / "etc").mkdir(parents=True)
    (layer / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (layer / "var").symlink_to("/../../../../srv")
    engine.layers.insert(0, "layers/links/diff")
    try:
        result = engine.shell("cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf; ls -d /srv/cache", tmpfs={"/var/cache": ""})
    finally:
        engine.layers.pop(0)
    assert result.output == "# resolv.conf\n# resolv.conf\n/srv/cache\n"


def test_a_symlink_upwards_never_meets_a_path_of_the_host(engine: Host) -> None:
    """While the old root lay upon the new one, ``/..`` led into it: the launcher's member wrote where the image said."""
    trap = engine.config.data.parent / "trap"
    trap.mkdir()
    trap.chmod(0o777)
    (trap / "bait").write_text("of the host")
    layer = engine.config.layers / "upwards" / "diff"
    (layer / "etc").mkdir(parents=True)
    for name, target in (("hosts", "bait"), ("hostname", "new")):
        (layer / "etc" / name).symlink_to(f"..{trap}/{target}")
    (layer / "cache").symlink_to(f"..{trap}/folder")
    engine.layers.insert(0, "layers/upwards/diff")
    try:
        result = engine.shell(f"cat /etc/hosts {trap}/new; ls {trap}", tmpfs={"/cache": ""})
    finally:
        engine.layers.pop(0)
    assert result.output == "# hosts\n# hostname\nbait\nfolder\nnew\n"
    assert [path.name for path in trap.iterdir()] == ["bait"]
    assert (trap / "bait").read_text() == "of the host"


def test_a_proc_that_is_a_symlink_is_refused(engine: Host) -> None:
    layer = engine.config.layers / "proc" / "diff"
    layer.mkdir(parents=True)
    os.mknod(layer / "proc", 0o644 | 0o020000, 0)  # a whiteout
    (engine.config.layers / "proc2" / "diff").mkdir(parents=True)
    (engine.config.layers / "proc2" / "diff" / "proc").symlink_to("/tmp")
    engine.layers[:0] = ["layers/proc2/diff", "layers/proc/diff"]
    try:
        error = engine.refused("true")
    finally:
        del engine.layers[:2]
    assert "/proc of the image is a symbolic link" in error.message


def test_three_hundred_layers_are_one_root(engine: Host) -> None:
    names = []
    for number in range(300):
        layer = engine.config.layers / f"n{number}" / "diff"
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        names.append(f"layers/n{number}/diff")
    before = list(engine.layers)
    engine.layers[:0] = names
    try:
        result = engine.shell("ls /file* | cat; touch /file7 && ls -l /file7")
    finally:
        engine.layers[:] = before
    assert len([name for name in result.output.split() if name.startswith("/file")]) == 301


# -- terminal and streams ------------------------------------------------------------------------


def test_a_terminal_is_its_own_and_controls(engine: Host) -> None:
    result = engine.shell("tty; stat -c %t:%T /dev/console /dev/pts/0; echo to-tty > /dev/tty; ls -l /proc/self/fd/0", tty=True)
    lines = result.output.replace("\r", "").splitlines()
    assert lines[:4] == ["/dev/pts/0", "88:0", "88:0", "to-tty"]
    assert lines[4].endswith("/dev/pts/0")


def test_standard_streams_belong_to_the_user(engine: Host) -> None:
    """Images whose USER is not root open /dev/stdout, as nginx' do."""
    result = engine.shell("id -u; echo again > /dev/stdout; echo error > /dev/stderr; stat -Lc %u /dev/stdout", user="bob")
    assert sorted(result.output.split()) == ["1000", "1000", "again", "error"]


def test_standard_input_is_null_unless_asked_for(engine: Host) -> None:
    assert engine.shell("readlink /proc/self/fd/0; cat").output == "/dev/null\n"
    with engine.running("cat", open_stdin=True) as container:
        fds = engine.keeper.fds(container.id, ["stdin"])
        os.write(fds["stdin"], b"typed")
        os.close(fds["stdin"])
        engine.keeper.close_stdin(container.id)
        assert engine.wait(container.id) == 0
        assert engine.output(container.id) == "typed"


# -- who it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("bob", "uid=1000(bob) gid=1000(bob) groups=10(wheel),1000(bob)"),
        ("1000", "uid=1000(bob) gid=1000(bob) groups=10(wheel),1000(bob)"),
        ("bob:nogroup", "uid=1000(bob) gid=65534(nogroup) groups=65534(nogroup)"),
        ("4242:10", "uid=4242 gid=10(wheel) groups=10(wheel)"),
    ],
)
def test_users_are_looked_up_in_the_image(engine: Host, user: str, line: str) -> None:
    assert engine.run("id", user=user).output.strip() == line


def test_home_is_the_users_unless_it_was_given(engine: Host) -> None:
    assert engine.shell("echo $HOME", user="bob").output == "/home/bob\n"
    assert engine.shell("echo $HOME", user="4242").output == "/\n"
    assert engine.shell("echo $HOME", env=("HOME=/tmp",)).output == "/tmp\n"


def test_root_has_dockers_capabilities_and_a_user_has_none(engine: Host) -> None:
    assert "CapEff:\t00000000a80425fb" in engine.shell("cat /proc/self/status").output
    user = engine.shell("cat /proc/self/status", user="bob").output
    assert "CapEff:\t0000000000000000" in user
    assert "CapBnd:\t00000000a80425fb" in user
    none = engine.shell("cat /proc/self/status", cap_drop=("ALL",)).output
    assert "CapBnd:\t0000000000000000" in none


def test_seccomp_filters_with_and_without_new_privileges(engine: Host) -> None:
    for allowed in (False, True):
        status = engine.shell("cat /proc/self/status", no_new_privileges=not allowed, user="bob").output
        assert "Seccomp:\t2" in status
        assert f"NoNewPrivs:\t{int(not allowed)}" in status
    assert "Seccomp:\t0" in engine.shell("cat /proc/self/status", seccomp="unconfined").output


def test_setuid_counts_unless_new_privileges_are_forbidden(engine: Host) -> None:
    assert engine.run("su", "-c", "id -u", user="bob", env=("PATH=/bin",)).exit_code in (0, 1)  # su asks for a password
    raised = engine.shell("cat /proc/self/status; exec su --help", user="bob", no_new_privileges=True)
    assert "NoNewPrivs:\t1" in raised.output


def test_a_working_folder_is_made_when_it_is_missing(engine: Host) -> None:
    assert engine.run("pwd", cwd="/what/ever").output == "/what/ever\n"
    error = engine.refused("pwd", cwd="/etc/passwd")
    assert error.message == "Cannot mkdir: /etc/passwd is not a directory"


def test_a_working_folder_can_not_be_a_descriptor_of_the_host(engine: Host) -> None:
    """CVE-2024-21626."""
    for number in range(3, 12):
        error = engine.refused("pwd", cwd=f"/proc/self/fd/{number}")
        assert isinstance(error, errors.EngineError)


def test_tini_is_the_first_process_when_asked_for(engine: Host) -> None:
    if not Path("/usr/bin/tini-static").exists():
        pytest.skip("no /usr/bin/tini-static")
    result = engine.shell("cat /proc/1/cmdline; echo $$", init=True)
    assert result.output.startswith("/sbin/docker-init\0--\0sh\0")


# -- limits --------------------------------------------------------------------------------------


def test_memory_beyond_the_limit_kills(engine: Host) -> None:
    with engine.running(
        "sh", "-c", "x=a; while :; do x=$x$x; done", resources=Resources(memory_bytes=32 << 20, memory_swap_bytes=32 << 20)
    ) as container:
        assert engine.wait(container.id) == 137
        assert cgroups.oom_kills(container.cgroup) >= 1


def test_processes_beyond_the_limit_are_refused(engine: Host) -> None:
    result = engine.shell("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", resources=Resources(pids_limit=4))
    assert "can't fork" in result.output


def test_limits_are_what_the_cgroup_says(engine: Host) -> None:
    limits = Resources(memory_bytes=64 << 20, nano_cpus=500_000_000, pids_limit=20, cpuset_cpus="0")
    with engine.running("sleep", "60", resources=limits) as container:
        usage = cgroups.usage(container.cgroup)
        assert (usage.memory_limit_bytes, usage.pids_limit, usage.pids) == (64 << 20, 20, 1)
        assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{container.pid}/status").read_text()


def test_a_limit_that_the_kernel_refuses_is_said(engine: Host) -> None:
    error = engine.refused("true", resources=Resources(cpuset_cpus="4095"))
    assert isinstance(error, errors.InvalidArgument)
    assert "cpuset.cpus" in error.message


def test_a_tenants_wall_of_processes_is_said(engine: Host) -> None:
    """Version 1 counts the first process of a container only when it forks."""
    if cgroups.version() != 2:
        pytest.skip("cgroup v1")
    wall = f"{engine.cgroup}/alice"
    with engine.running("sleep", "60"):
        cgroups.set_limits(wall, Resources(pids_limit=1))
        try:
            error = engine.refused("true")
        finally:
            cgroups.set_limits(wall, Resources())
    assert isinstance(error, errors.QuotaExceeded)


def test_descriptors_and_other_process_limits(engine: Host) -> None:
    def adjust(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
        config["process"]["oomScoreAdj"] = 500

    result = engine.shell("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj", adjust=adjust)
    assert result.output.split() == ["100", "200", "500"]
    assert engine.shell("ulimit -Sn; cat /proc/self/oom_score_adj").output.split() == ["1024", "0"]
