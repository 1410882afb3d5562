"""Copying can't be turned against the host: by links that move, by names that climb, by what an image brings, by being killed."""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import errors, leftovers, recovery
from engine.kernel import cgroups
from engine.kernel.capabilities import CAP_SYS_RESOURCE
from engine.model.resources import Resources
from tests.support import machine
from tests.support.capabilities import sets_of
from tests.workers.agent.conftest import TENANT, Host, listens, until
from tests.workers.agent.test_files import archive, ask, changes, content, done, entry, get, members, put, wait_for

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")

SWAPS = """
mkdir -p /w/folder; echo inside >/w/folder/file; ln -s / /w/link; touch /swapping
while :; do mv -T /w/folder /w/a; mv -T /w/link /w/folder; mv -T /w/folder /w/link; mv -T /w/a /w/folder; done
"""


def porters(host: Host) -> list[int]:
    """Processes of this host's porter, children too."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_porter(pid, str(host.config.data))]


def mounted(host: Host) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(host.config.data) in line]


def _is_porter(pid: int, data: str) -> bool:
    try:
        command, environment = (Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0") for name in ("cmdline", "environ"))
    except OSError:
        return False
    return b"engine.files.porter" in command and f"SLIPWAY_DATA={data}".encode() in environment


async def test_a_folder_that_becomes_a_link_to_the_root_meanwhile_leads_nowhere_else(host: Host, tmp_path: Path) -> None:
    """CVE-2018-15664: the container swaps a folder for a link to / in a loop while files are copied out of it and into it."""
    one = host.run("sh", "-c", SWAPS)
    await wait_for(host, one, "/swapping")
    mark = f"slipway-attack-{one[:12]}"
    for number in range(60):
        try:
            _stat, got = await get(host, one, "/w/folder/etc/shadow" if number % 2 else "/w/folder/")
            assert all(member.uid < 65536 and member.gid < 65536 for member in members(got).values())
        except errors.NotFound:
            pass
        try:
            await put(host, one, "/w/folder", archive(entry(mark, b"from outside")))
        except (errors.NotFound, errors.InvalidArgument):
            pass
    assert not Path("/", mark).exists()
    assert not Path(host.config.engine, mark).exists()


@pytest.mark.guest
async def test_nothing_of_the_image_is_loaded_or_run(host: Host) -> None:
    """CVE-2019-14271: libraries and programs in the places where the host's are, which would leave a trace."""
    one = host.create("sleep", "1000")
    trap = b"#!/bin/sh\ntouch /trapped\n"
    names = [
        "lib/x86_64-linux-gnu/libnss_files.so.2",
        "lib/libnss_files.so.2",
        "usr/lib/python3/json.py",
        "json.py",
        "bin/tar",
        "usr/bin/unpigz",
    ]
    await put(host, one, "/", archive(*(entry(name, trap, mode=0o755) for name in names)))
    host.start(one)
    await get(host, one, "/etc")
    await put(host, one, "/tmp", archive(entry("f", b"x")), copy_owner=True)
    assert "/trapped" not in await changes(host, one)


@pytest.mark.guest
@pytest.mark.parametrize(
    "sent",
    [
        entry("../out", b"x"),
        entry("a/../../out", b"x"),
        entry("l", type=tarfile.SYMTYPE, linkname="../../out"),
        entry("h", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
        entry("h", type=tarfile.LNKTYPE, linkname="/../etc/passwd"),
    ],
    ids=["climbing name", "climbing inside", "climbing link", "climbing hard link", "absolute climbing hard link"],
)
async def test_what_climbs_out_of_its_destination_is_refused(host: Host, sent: Any) -> None:
    one = host.create("true")
    with pytest.raises(errors.InvalidArgument, match=r"outside of|invalid symlink|invalid hardlink"):
        await put(host, one, "/root", archive(sent))
    assert set(await changes(host, one)) <= {"/root"}


@pytest.mark.guest
async def test_absolute_names_and_links_end_in_the_container(host: Host) -> None:
    one = host.run("sleep", "1000")
    mark = f"slipway-attack-{one[:12]}"
    await put(
        host,
        one,
        "/tmp",
        archive(
            entry(f"/{mark}", b"below"),
            entry("root", type=tarfile.SYMTYPE, linkname="/proc/self/root"),
            entry("up", type=tarfile.SYMTYPE, linkname="/"),
            entry(f"up/{mark}", b"in the container's root"),
        ),
    )
    assert content((await get(host, one, f"/tmp/{mark}"))[1], mark) == b"below"
    assert content((await get(host, one, f"/{mark}"))[1], mark) == b"in the container's root"
    with pytest.raises((errors.NotFound, errors.InvalidArgument)):
        await put(host, one, "/tmp/root", archive(entry(mark, b"x")))
    with pytest.raises((errors.NotFound, errors.InvalidArgument)):
        await get(host, one, "/tmp/root/etc/shadow")
    assert not Path("/", mark).exists()


@pytest.mark.guest
@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
@pytest.mark.parametrize("running", [True, False], ids=["running", "created"])
async def test_a_device_cannot_be_brought_in(host: Host, kind: bytes, running: bool) -> None:
    one = host.create("sleep", "1000")
    if running:
        host.start(one)
    with pytest.raises(errors.PermissionDenied, match="operation not permitted"):
        await put(host, one, "/tmp", archive(entry("disk", type=kind, devmajor=8, devminor=0)))
    assert "/tmp/disk" not in await changes(host, one)


@pytest.mark.guest
async def test_a_file_of_nobodys_id_is_refused_and_a_setuid_one_is_the_containers(host: Host) -> None:
    one = host.create("true")
    with pytest.raises(errors.InvalidArgument, match="cannot be mapped"):
        await put(host, one, "/tmp", archive(entry("f", b"x", uid=1 << 20)))
    await put(host, one, "/tmp", archive(entry("su", b"x", mode=0o6755)))
    assert members((await get(host, one, "/tmp/su"))[1])["su"].mode == 0o6755


async def test_very_deep_folders_are_an_error_or_copied_but_never_a_fault(host: Host) -> None:
    one = host.run("sh", "-c", "cd /tmp; for i in $(seq 1500); do mkdir d; cd d; done; touch /ready; sleep 1000")
    await wait_for(host, one, "/ready")
    assert len(members((await get(host, one, "/tmp"))[1])) == 1501
    assert len([path for path in await changes(host, one) if path.startswith("/tmp/")]) == 1500
    with pytest.raises(errors.InvalidArgument):
        await put(host, one, "/root", archive(entry("/".join("e" * 3000), b"x")))


@pytest.mark.guest
async def test_a_read_only_container_takes_nothing(host: Host) -> None:
    for one in (host.create("true", read_only_rootfs=True), host.run("sleep", "1000", read_only_rootfs=True)):
        with pytest.raises(errors.InvalidArgument, match="container rootfs is marked read-only"):
            await put(host, one, "/root", archive(entry("f", b"x")))


@pytest.mark.guest
async def test_an_archive_that_is_cut_off_leaves_no_half_file(host: Host) -> None:
    one = host.create("true")
    whole = archive(entry("first", b"1"), entry("second", b"2" * 100_000))
    with pytest.raises(errors.InvalidArgument, match="unexpected EOF"):
        await put(host, one, "/tmp", whole[:60_000])
    assert {path for path in await changes(host, one) if path.startswith("/tmp/")} == {"/tmp/first"}


@pytest.mark.guest
async def test_a_full_file_system_leaves_no_half_file(host: Host) -> None:
    one = host.run("sh", "-c", "touch /ready; sleep 1000", tmpfs={"/small": "size=1m"})
    await wait_for(host, one, "/ready")
    with pytest.raises(errors.Unavailable, match="no space left"):
        await put(host, one, "/small", archive(entry("fits", b"1"), entry("large", b"2" * (2 << 20))))
    assert set(members((await get(host, one, "/small"))[1])) == {"small", "small/fits"}


async def test_a_start_ends_a_copy_that_does_not_come_to_its_end(host: Host) -> None:
    one = host.create("sleep", "1000")
    async with host.stream("archive_put", one, path="/tmp", shown="c") as (_ok, reader, writer):
        writer.write(archive(entry("slow", b"x" * 1000))[:700])
        await writer.drain()
        await asyncio.to_thread(host.start, one)
        assert await reader.read() == b""
    await put(host, one, "/tmp", archive(entry("after", b"works")))


@pytest.mark.guest
async def test_a_copy_of_any_size_stays_within_the_tenants_wall(host: Host) -> None:
    """Its memory, CPU time and processes count as the tenant's: twice the wall goes in and comes out, in pages that are given back."""
    if machine.filesystem(host.config.data) == "tmpfs":
        pytest.skip("the store lies on a tmpfs here (Debian 13's /tmp): what is copied there is memory, and none is given back")
    one, leaf, wall = host.create("true"), host.engine.files_cgroup(TENANT), 48 << 20
    before = host.engine.tenants.get(TENANT).limits
    until(lambda: not cgroups.pids(leaf))
    cgroups.remove(leaf)  # with what it has used so far
    host.engine.ensure_tenant(TENANT, limits=replace(before, memory_bytes=wall, memory_swap_bytes=wall))
    try:
        async with host.stream("archive_put", one, path="/tmp", shown="c") as (_ok, _reader, writer):
            writer.write(archive(entry("slow", b"x" * 1000))[:700])
            [worker] = cgroups.pids(leaf)
            assert worker in porters(host)
        await put(host, one, "/tmp", archive(entry("big", bytes(2 * wall))))
        assert members((await get(host, one, "/tmp/big"))[1])["big"].size == 2 * wall
        used = cgroups.usage(leaf)
        assert wall // 2 < used.memory_peak_bytes <= wall + (1 << 20)  # the kernel charges 64 pages a processor at once, and some by force
        assert used.cpu_ns > 0 and used.oom_kills == 0
    finally:
        host.engine.ensure_tenant(TENANT, limits=before)
    assert await changes(host, one) == {"/tmp": "C", "/tmp/big": "A"}  # by a child that reads layers
    until(lambda: not cgroups.pids(leaf))


@pytest.mark.guest
async def test_the_doctor_knows_the_cgroup_of_copies_and_takes_it_only_with_a_tenant_that_is_gone(host: Host) -> None:
    await get(host, host.create("true"), "/etc")
    gone = f"/slipway-{host.engine.instance}/gone"
    cgroups.ensure(f"{gone}/files", Resources())
    items = {item.what: item for item in leftovers.of_own(host.engine)}
    found = items[f"cgroup {gone}"]
    assert found.why == "its tenant is gone" and found.remove is not None
    assert not [what for what in items if "/files" in what or what.endswith(f"/{TENANT}")]
    found.remove()
    assert not cgroups.exists(gone) and cgroups.exists(host.engine.files_cgroup(TENANT))


@pytest.mark.guest
async def test_neither_the_agent_nor_who_copies_for_it_may_exceed_a_quota(host: Host) -> None:
    one = host.create("true")
    async with host.stream("archive_put", one, path="/tmp", shown="c"):
        wanted = {name: have & ~CAP_SYS_RESOURCE for name, have in sets_of(os.getpid()).items()}
        [porter] = set(porters(host)) - set(cgroups.pids(host.engine.files_cgroup(TENANT)))  # its child is root of the tenant alone
        assert sets_of(host.agent.pid) == sets_of(porter) == wanted


@pytest.mark.guest
async def test_who_is_killed_leaves_no_mount_no_process_and_no_layer(host: Host) -> None:
    """Agent and porter, in the middle of a copy in and of a commit; a container that was held still goes on."""
    one, stopped = host.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; touch /ready; sleep 1000"), host.create("true")
    await wait_for(host, one, "/ready")
    assert porters(host)
    mounts, layers = mounted(host), set(os.listdir(host.config.layers))
    reader, writer = await asyncio.open_unix_connection(str(host.config.agent_socket))
    writer.write(json.dumps({"v": 1, "op": "archive_put", "tenant": TENANT, "id": stopped, "path": "/tmp"}).encode() + b"\n")
    assert json.loads(await reader.readline()) == {"ok": {}}
    commit_reader, commit_writer = await asyncio.open_unix_connection(str(host.config.agent_socket))
    commit_writer.write(json.dumps({"v": 1, "op": "commit", "tenant": TENANT, "id": one, "pause": True}).encode() + b"\n")
    assert json.loads(await commit_reader.readline()) == {"ok": {}}
    host.agent.kill()
    until(lambda: not porters(host))
    writer.close()
    commit_writer.close()
    assert mounted(host) == mounts
    host.agent.start()
    until(lambda: listens(host.config))
    await asyncio.to_thread(recovery.recover, host.engine)
    assert set(os.listdir(host.config.layers)) == layers
    assert not list((host.config.engine / "incoming").iterdir())
    assert not (host.config.container(one) / "still.json").exists()
    await put(host, one, "/tmp", archive(entry("after", b"works")))
    (_done, _rest) = await done(host, "commit", one, pause=True)
    host.engine.remove_image(TENANT, _done["image"]["record"]["id"])
    assert (await ask(host, "archive_stat", stopped, path="/tmp", shown="c"))["stat"]["name"] == "tmp"
