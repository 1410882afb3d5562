"""What a tenant with full rights in its tenant tries against host, control plane and other tenants. Images are the weapon here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.images.archives import Member, file, folder, symlink, tar
from tests.support.platform import Platform
from tests.support.raw import TAR, ask

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")

MALLORY, ALICE = "mallory", "alice"
NOBODY = 65534


@pytest.fixture(scope="module")
def walled(platform: Platform) -> Iterator[Platform]:
    for tenant in (MALLORY, ALICE):
        platform.tenant(tenant)
    platform.manage("tenant", "policy", MALLORY, "--allow", "capabilities")
    platform.docker("create", "--name", "secret", "busybox", "sleep", "600", tenant=ALICE)
    yield platform
    for tenant in (MALLORY, ALICE):
        for container in platform.docker("ps", "-aq", tenant=tenant).stdout.split():
            platform.docker("rm", "-f", container, tenant=tenant)
        platform.manage("tenant", "delete", tenant, "--now")


def run(platform: Platform, *words: str, image: str = "busybox", **more: Any) -> subprocess.CompletedProcess[str]:
    *options, command = words
    return platform.docker("run", "--rm", *options, image, "sh", "-c", command, tenant=MALLORY, check=False, **more)


# -- what the first process holds --------------------------------------------------------------------------


@pytest.mark.guest
@pytest.mark.parametrize("options", [(), ("-i",), ("--init",), ("-u", "1000")])
def test_the_first_process_has_three_descriptors(walled: Platform, options: tuple[str, ...]) -> None:
    assert run(walled, *options, "ls /proc/$$/fd; exit").stdout.split()[:3] == ["0", "1", "2"]
    seen = run(walled, *options, "for fd in /proc/$$/fd/*; do readlink $fd; done; true").stdout.split()
    assert [target for target in seen if not re.match(r"pipe:|/dev/null|/dev/pts", target)] == []


def test_no_descriptor_is_a_way_to_a_working_folder_outside(walled: Platform) -> None:
    for number in range(3, 24):
        done = run(walled, "-w", f"/proc/self/fd/{number}", "ls ../../../../../../../root; cat ../../../../../../../etc/shadow")
        assert done.returncode != 0 or "root:" not in done.stdout, number


@pytest.mark.guest
def test_every_capability_is_worth_nothing_outside(walled: Platform) -> None:
    """``--cap-add ALL`` is of the container's own user namespace."""
    attempts = """
        umount /proc/sys; echo x > /proc/sys/kernel/core_pattern && echo core_pattern
        echo 1 > /proc/sys/vm/drop_caches && echo drop_caches
        mkdir -p /tmp/m /tmp/t; for kind in debugfs tracefs securityfs devtmpfs bpf; do mount -t $kind x /tmp/m && echo $kind; done
        mount -t tmpfs t /tmp/t; mknod /tmp/t/disk b 254 0 && echo mknod
        mount -o remount,rw /sys && echo sys
        mount -t cgroup -o memory x /tmp/m && mkdir /tmp/m/x && echo cgroup_v1
        mount -t cgroup2 x /tmp/m && mkdir /tmp/m/x && echo cgroup_v2
        dmesg && echo dmesg
        true
    """
    assert run(walled, "--cap-add", "ALL", attempts).stdout == ""


# -- images ------------------------------------------------------------------------------------------------


def _weapon(platform: Platform, name: str, *members: Member, without: str = "") -> str:
    busybox = Path("/bin/busybox").read_bytes()
    folders = [folder(place) for place in ("bin", "etc", "proc", "sys", "dev", "tmp") if place != without]
    links = [symlink(f"bin/{applet}", "busybox") for applet in ("sh", "ls", "cat", "id", "touch", "readlink")]
    archive = tar(*folders, file("bin/busybox", busybox, mode=0o755), *links, *members)
    status, said = ask(platform.socket(MALLORY), "POST", f"/v1.51/images/create?fromSrc=-&repo={name}", archive, kind=TAR)
    assert status == 200, said
    assert b'"error"' not in said, said
    return name


@pytest.mark.parametrize(
    ("links", "without"),
    [
        ([symlink("dev", "/../../../../../tmp")], "dev"),
        ([symlink("dev", "/proc")], "dev"),
        ([symlink("etc", "/../../../../../../tmp")], "etc"),
        ([symlink("etc", "/proc/1/root/../../../../tmp")], "etc"),
        ([symlink("proc", "/../../../../tmp")], "proc"),
        ([symlink("sys", "/../../../../tmp")], "sys"),
        ([symlink("etc/resolv.conf", "/../../../../../../tmp/slipway-evil-resolv")], ""),
        ([symlink("etc/hosts", "../../../../../../../../tmp/slipway-evil-hosts")], ""),
        ([symlink("etc/hostname", "/proc/self/cwd/../../../tmp/slipway-evil-hostname")], ""),
        ([symlink("etc/resolv.conf", "/proc/self/fd/3")], ""),
        ([symlink("etc/resolv.conf", "resolv.conf")], ""),
        ([folder("etc/resolv.conf")], ""),
        ([symlink("etc/passwd", "/../../../../etc/shadow"), symlink("etc/group", "/dev/ptmx")], ""),
        ([symlink("etc/passwd", "/proc/kmsg")], ""),
    ],
)
def test_links_of_an_image_lead_nowhere_outside(walled: Platform, links: list[Member], without: str) -> None:
    """Either it runs within its own tree, or the refusal is the image's fault; nothing appears outside."""
    before = set(os.listdir("/tmp"))
    image = _weapon(walled, "weapon", *links, without=without)
    try:
        done = run(walled, "/bin/ls /tmp; /bin/ls -a /../../..; true", image=image)
        assert done.returncode in (0, 125), done.stderr
        assert "slipway-test-" not in done.stdout  # the host's /tmp has this session's folder
        assert "Traceback" not in done.stderr
        assert not {name for name in set(os.listdir("/tmp")) - before if name.startswith("slipway-evil")}
    finally:
        walled.docker("rmi", "-f", image, tenant=MALLORY)


def test_a_setuid_program_of_a_layer_can_not_be_reached_by_people_of_the_host(walled: Platform) -> None:
    """CVE-2021-41091. Nor can anything else that lies in the store."""
    image = _weapon(walled, "setuid", file("bin/rootshell", b"\x7fELF", mode=0o6755))
    try:
        engine = walled.data / "engine"
        assert list(engine.glob("layers/*/diff/bin/rootshell"))
        look = f"ls {engine} {engine}/layers {walled.data}/content/blobs {walled.data}/panel; cat {walled.data}/etc/redis.key"
        done = subprocess.run(
            ["/bin/sh", "-c", look], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        assert done.stderr.count("Permission denied") == 5
    finally:
        walled.docker("rmi", "-f", image, tenant=MALLORY)


# -- doors ---------------------------------------------------------------------------------------------------


def test_sockets_of_the_control_plane_are_closed_to_people_of_the_host(walled: Platform) -> None:
    script = (
        "import socket, sys\nfor path in sys.argv[1:]:\n"
        "  try: socket.socket(socket.AF_UNIX).connect(path); print(path)\n  except PermissionError: pass"
    )
    paths = [str(walled.run / f"{name}.sock") for name in ("redis", "agent", "keeper", "launcher", "logger", "netd", "supervisor")]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, *paths], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


@pytest.mark.guest
def test_a_stranger_at_a_tenants_socket_is_told_who_can_let_him_in(walled: Platform) -> None:
    script = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /v1.51/containers/json HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')\nprint(s.makefile().read())"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, str(walled.socket(MALLORY))],
        user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "403 Forbidden" in done.stdout
    assert f"unix user {NOBODY} is not linked to a member of tenant {MALLORY}" in done.stdout


_ROUTES = [
    ("GET", "/containers/{}/json"), ("GET", "/containers/{}/logs?stdout=1"), ("GET", "/containers/{}/stats?stream=0"),
    ("GET", "/containers/{}/top"), ("GET", "/containers/{}/changes"), ("GET", "/containers/{}/export"),
    ("GET", "/containers/{}/archive?path=/"), ("PUT", "/containers/{}/archive?path=/"), ("POST", "/containers/{}/start"),
    ("POST", "/containers/{}/stop"), ("POST", "/containers/{}/restart"), ("POST", "/containers/{}/kill"), ("POST", "/containers/{}/wait"),
    ("POST", "/containers/{}/attach?stream=1&stdout=1"), ("POST", "/containers/{}/resize?h=1&w=1"), ("POST", "/containers/{}/exec"),
    ("POST", "/containers/{}/pause"), ("POST", "/containers/{}/unpause"), ("POST", "/containers/{}/rename?name=zz"),
    ("POST", "/containers/{}/update"), ("DELETE", "/containers/{}?force=1"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "route"), _ROUTES)
def test_anothers_container_answers_as_one_that_never_was(walled: Platform, method: str, route: str) -> None:
    full = walled.docker("inspect", "-f", "{{.Id}}", "secret", tenant=ALICE).stdout.strip()
    for others, nobodys in ((full, "f" * 64), (full[:12], "f" * 12), ("secret", "nosuch")):
        answers = []
        for name in (others, nobodys):
            body = {} if method in ("POST", "PUT") else None
            status, said = ask(walled.socket(MALLORY), method, f"/v1.51{route.format(name)}", body)
            answers.append((status, said.replace(name.encode(), b"?")))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


def test_anothers_image_is_unknown(walled: Platform) -> None:
    archive = tar(file("etc/secret", b"of alice"))
    status, said = ask(walled.socket(ALICE), "POST", "/v1.51/images/create?fromSrc=-&repo=private", archive, kind=TAR)
    assert status == 200
    found = re.search(rb"sha256:[0-9a-f]{64}", said)
    assert found
    image_id = found[0].decode()
    try:
        for name in (image_id, image_id[7:19], "private:latest"):
            for method, route in (("GET", "/images/{}/json"), ("POST", "/images/{}/tag?repo=mine"), ("DELETE", "/images/{}")):
                assert ask(walled.socket(MALLORY), method, f"/v1.51{route.format(name)}")[0] == 404
            body = {"Image": name, "Cmd": ["/x"]}
            assert ask(walled.socket(MALLORY), "POST", "/v1.51/containers/create", body)[0] == 404
    finally:
        walled.docker("rmi", "-f", "private", tenant=ALICE)
