"""What is fetched from the network for a tenant: ADD of an address, a context, an import. A container of the tenant's serves it."""

from __future__ import annotations

import io
import secrets
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.builds.builder import Builder
from engine.builds.importing import import_from
from engine.errors import InvalidArgument
from engine.model.build import BuildRequest
from engine.model.container import ContainerSpec
from engine.model.image import ImageRecord
from tests.engine.builds import building
from tests.engine.builds.building import TENANT, Bench
from tests.engine.runtime.launching import until

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with building.bench() as made:
        yield made


@contextmanager
def serving(bench: Bench, name: str, content: bytes) -> Iterator[str]:
    """The address of a container that serves ``content`` as ``name``, an archive also unpacked."""
    engine = bench.engine
    bench.build(f"FROM busybox\nADD {name} /www/\nCOPY {name} /www/\n", {name: content}, tags=("server",))
    record = engine.images.resolve(TENANT, "server")
    args = ("httpd", "-f", "-h", "/www", "-p", "80")
    spec = ContainerSpec(id=secrets.token_hex(32), tenant=TENANT, name="server", image_id=record.id, image="server", args=args)
    engine.create(spec)
    try:
        address = engine.start(TENANT, spec.id).ip_address
        until(lambda: listens(address), what="a server that listens")
        yield address
    finally:
        engine.remove(TENANT, spec.id, force=True)


def listens(address: str) -> bool:
    try:
        socket.create_connection((address, 80), timeout=1).close()
    except OSError:
        return False
    return True


def test_adding_what_a_container_of_the_tenant_serves(bench: Bench) -> None:
    """ADD reaches what the tenant's containers reach: another container of it, and not this machine."""
    with serving(bench, "f.txt", b"served\n") as address:
        built = bench.build(f"FROM busybox\nADD http://{address}/f.txt /got/\nADD http://{address}/f.txt /named\n")
        files = bench.files(built.record)
        assert files["got/f.txt"][3] == files["named"][3] == "served\n" and files["named"][0] == "100600"
        with pytest.raises(InvalidArgument, match="with status 404"):
            bench.build(f"FROM busybox\nADD http://{address}/none /x\n")
        gateway = f"{address.rpartition('.')[0]}.1"
        with pytest.raises(InvalidArgument, match="failed to GET"):
            bench.build(f"FROM busybox\nADD http://{gateway}:1/x /x\n")
        with pytest.raises(InvalidArgument, match="failed to GET"):
            bench.build("FROM busybox\nADD http://127.0.0.1:1/x /x\n")
        with pytest.raises(InvalidArgument):
            remote(bench, f"http://{address}/f.txt")


def test_importing_from_an_address(bench: Bench) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        info = tarfile.TarInfo("hello")
        info.size = 300_000
        packed.addfile(info, io.BytesIO(b"h" * 300_000))
    with serving(bench, "fs.tar", archive.getvalue()) as address:
        lines = list(import_from(bench.engine, TENANT, f"{address}/fs.tar", ref="got:1", changes=['CMD ["/hello"]']))
        assert lines[0] == {"status": f"Downloading from http://{address}/fs.tar"}
        record = bench.engine.images.resolve(TENANT, "got:1")
        assert lines[-1]["images"][0]["record"]["id"] == record.id and "hello" in bench.files(record)
        for wrong, why in ((f"{address}/none", "status 404"), ("ftp://x/y", "protocol scheme"), ("http://127.0.0.1:1/x", "failed to GET")):
            with pytest.raises(InvalidArgument, match=why):
                list(import_from(bench.engine, TENANT, wrong, ref="bad:1"))
        with pytest.raises(InvalidArgument):  # no tar, though it says so
            list(import_from(bench.engine, TENANT, f"{address}/hello", ref="bad:1"))


@pytest.mark.requires("git")
def test_a_repository_as_context_and_as_source(bench: Bench, tmp_path: Path) -> None:
    work, bare = tmp_path / "work", tmp_path / "www" / "r.git"
    (work / "sub").mkdir(parents=True)
    (work / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY . /c/\n")
    (work / "sub" / "f").write_text("first\n")
    (work / "out").symlink_to("/etc")
    identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]

    def git(*words: str, cwd: Path = work) -> str:
        return subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    first = git("rev-parse", "HEAD")
    (work / "sub" / "f").write_text("second\n")
    git("commit", "-q", "-a", "-m", "two")
    git("clone", "-q", "--bare", ".", str(bare))
    git("update-server-info", cwd=bare)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        packed.add(bare, "r.git")
    with serving(bench, "r.tar", archive.getvalue()) as server:
        address = f"http://{server}/r.git"
        built = remote(bench, f"{address}#:sub")
        assert bench.files(built)["c/f"][3] == "second\n"
        assert bench.files(remote(bench, f"{address}#{first[:10]}:sub"))["c/f"][3] == "first\n"
        files = bench.files(bench.build(f"FROM busybox\nADD {address}#main:sub /got/\nADD {address} /all/\n").record)
        assert files["got/f"][3] == "second\n" and files["all/out"][3] == "/etc" and "all/.git" not in files
        with pytest.raises(InvalidArgument, match="did not match"):
            remote(bench, f"{address}#nowhere")
        with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile"):
            remote(bench, address)


def remote(bench: Bench, address: str) -> ImageRecord:
    request = BuildRequest(id=secrets.token_hex(16), tenant=TENANT, remote=address)
    return bench.engine.images.get(Builder(bench.engine, request).build(None, lambda _line: None))
