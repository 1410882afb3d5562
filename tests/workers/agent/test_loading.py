from __future__ import annotations

import asyncio
import io
import json
import tarfile

import pytest

from engine import errors
from engine.images import demo
from tests.workers.agent.conftest import TENANT, Host, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


def rootfs(size: int = 1000) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("etc/motd")
        entry.size = size
        tar.addfile(entry, io.BytesIO(b"m" * size))
    return buffer.getvalue()


def names(host: Host) -> dict[str, str]:
    return host.engine.images.refs(TENANT)


@pytest.mark.guest
async def test_a_loaded_image_is_told_with_its_record(host: Host) -> None:
    async with host.stream("load") as (_ok, reader, writer):
        writer.write(demo.archive())
        writer.write_eof()
        lines = [json.loads(line) for line in (await reader.read()).splitlines()]
    (image,) = lines[-1]["images"]
    assert image["refs"] == ["busybox:latest"]
    assert image["record"]["id"] == names(host)["busybox:latest"]
    host.engine.remove_image(TENANT, "busybox:latest")


async def test_an_imported_root_file_system_gets_its_changes(host: Host) -> None:
    async with host.stream("import", ref="mine:2", changes=['CMD ["/bin/x"]'], message="by hand") as (_ok, reader, writer):
        writer.write(rootfs())
        writer.write_eof()
        last = json.loads((await reader.read()).splitlines()[-1])
    assert last["images"][0]["refs"] == ["mine:2"]
    assert last["images"][0]["record"]["config"]["config"]["Cmd"] == ["/bin/x"]
    host.engine.remove_image(TENANT, "mine:2")


async def test_bytes_that_are_no_archive_are_an_error_line(host: Host) -> None:
    async with host.stream("load") as (_ok, reader, writer):
        writer.write(b"nonsense" * 1000)
        writer.write_eof()
        last = json.loads((await reader.read()).splitlines()[-1])
    assert last["error"] == last["errorDetail"]["message"]
    assert last["code"] == "invalid_argument"


async def test_a_client_that_goes_away_leaves_nothing(host: Host) -> None:
    async with host.stream("import", ref="half:1") as (_ok, _reader, writer):
        writer.write(rootfs(10 << 20)[: 5 << 20])
        await writer.drain()
    await asyncio.to_thread(until, lambda: not [path for path in host.config.layers.iterdir() if ".new" in path.name])
    assert "half:1" not in names(host)


async def test_streams_go_on_while_an_image_is_loaded(host: Host) -> None:
    container = host.run("cat", open_stdin=True)
    async with (
        host.stream("import", ref="slow:1") as (_ok, loading, upload),
        host.stream("attach", container, stdin=True) as (_ok2, out, typed),
    ):
        upload.write(rootfs(5 << 20)[: 1 << 20])
        typed.write(b"still there?\n")
        assert await out.readuntil(b"there?\n")
        upload.write_eof()
        await loading.read()


async def test_a_tenants_name_is_checked(host: Host) -> None:
    async with host.stream("load", tenant="../../x") as (_ok, reader, writer):
        writer.write_eof()
        last = json.loads((await reader.read()).splitlines()[-1])
    assert errors.from_json({"code": last["code"]}).code == "invalid_argument"
