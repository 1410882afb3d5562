from __future__ import annotations

import asyncio
import contextlib
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


async def test_a_saved_image_comes_out_whole(host: Host) -> None:
    async with host.stream("save", names=["busybox"]) as (ok, reader, _writer):
        assert ok["images"] == [{"id": host.image_id, "refs": ["busybox:latest"]}]
        data = await reader.read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        [entry] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert entry["Config"] == f"blobs/sha256/{host.image_id[7:]}" and entry["RepoTags"] == ["busybox:latest"]


async def test_what_is_not_there_is_refused_before_anything_is_sent(host: Host) -> None:
    for names_, error in (([], errors.InvalidArgument), (["absent:1"], errors.NotFound), ("busybox", errors.InvalidArgument)):
        with pytest.raises(error):
            async with host.stream("save", names=names_):
                pass


async def test_a_client_that_reads_no_more_ends_the_save(host: Host) -> None:
    async with host.stream("save", names=["busybox"]) as (_ok, reader, _writer):
        await reader.read(1000)
    async with host.stream("save", names=["busybox"]) as (_ok, reader, _writer):  # and others are served
        assert (await reader.read())[-1024:] == bytes(1024)


async def test_slow_loads_of_one_tenant_hold_nobody_else(host: Host) -> None:
    """Four are under way, the fifth waits; a look at a file, which uses the loop's own threads, is answered all the same."""
    container = host.create("true")
    async with contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(host.stream("import", ref=f"slow:{number}")) for number in range(4)]
        for _ok, _reader, upload in slow:
            upload.write(rootfs(1 << 20)[:1000])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), host.stream("import", ref="slow:5"):
                pass
        async with host.stream("archive_stat", container, path="/bin") as (ok, _reader, _writer):
            assert ok["stat"]["name"] == "bin"
