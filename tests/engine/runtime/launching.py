"""Containers by the real keeper and launcher, from a layer with busybox in it; without images, networks and records."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import disk, errors
from engine.config import EngineConfig
from engine.kernel import cgroups
from engine.model.container import ContainerSpec
from engine.model.tenant import TenantHost
from engine.runtime.client import KeeperClient, Launch, launch
from engine.spec.generate import generate

UID_START = 1_879_048_192  # for tests: far above what hosts give to people and subordinate ranges
PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = "root:x:0:\nwheel:x:10:root,bob\nbob:x:1000:\nnogroup:x:65534:\n"
APPLETS = "sh cat echo env false head id ln ls mkdir mknod mount ps pwd readlink sleep stat touch true tty umount"
TIMEOUT_S = 60.0  # a guest that is emulated needs seconds


@dataclass(frozen=True)
class Result:
    exit_code: int
    output: str


@dataclass(frozen=True)
class Running:
    id: str
    pid: int
    cgroup: str
    started_at_ns: int


class Host:
    """One engine folder with a keeper. ``base`` is the good spec that a test changes one thing of."""

    def __init__(self, folder: Path) -> None:
        self.config = EngineConfig(folder / "data", folder / "run")
        self.keeper = KeeperClient(self.config)
        self.tenant = TenantHost(name="alice", number=1, uid_start=UID_START, subnet="10.0.0.0/24")
        self.cgroup = f"/slipway-{secrets.token_hex(2)}"
        self.base = ContainerSpec(id="", tenant="alice", name="test", image_id="", image="busybox", args=("true",), network_mode="none")
        self.layers = ["layers/base/diff"]
        self.config.containers.mkdir(parents=True)
        self.make_layer(self.config.layers / "base" / "diff")
        self.keeper.ensure_running()

    def make_layer(self, root: Path) -> None:
        for name in ("bin", "etc", "root", "proc", "sys", "dev", "tmp", "home/bob"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        os.chown(root / "home/bob", 1000, 1000)
        shutil.copy(os.environ.get("TEST_BUSYBOX", "/bin/busybox"), root / "bin/busybox")
        for name in APPLETS.split():
            (root / "bin" / name).symlink_to("busybox")
        (root / "bin/su").write_bytes((root / "bin/busybox").read_bytes())
        (root / "bin/su").chmod(0o4755)
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text(GROUP)

    def close(self) -> None:
        self.keeper.stop(containers=True)
        cgroups.remove(self.cgroup)

    # -- one container ---------------------------------------------------------------------------

    def words(self, *args: str, adjust: Callable[[dict[str, Any]], None] | None = None, **changes: Any) -> dict[str, Any]:
        """What ``launch`` takes, with its folders made. ``adjust`` changes the OCI config."""
        container_id = secrets.token_hex(32)
        tenant = changes.pop("owner", self.tenant)
        spec = replace(self.base, id=container_id, tenant=tenant.name, args=args or self.base.args, **changes)
        folder = self.config.container(container_id)
        (folder / "log").mkdir(parents=True)
        for name in ("hosts", "hostname", "resolv.conf"):
            (folder / name).write_text(f"# {name}\n")
        for name in ("upper", "work"):
            (self.config.rootfs / container_id / name).mkdir(parents=True)
        config = generate(spec, tenant, cgroup=f"{self.cgroup}/{tenant.name}/{container_id}", folder=folder)
        if adjust is not None:
            adjust(config)
        rootfs = {
            "tenant": tenant.name,
            "uid_start": tenant.uid_start,
            "lower": self.layers,
            "upper": f"rootfs/{container_id}/upper",
            "work": f"rootfs/{container_id}/work",
        }
        return {"id": container_id, "run": 1, "config": config, "rootfs": rootfs, "log_dir": folder / "log", "stdin": spec.open_stdin}

    @contextmanager
    def launched(self, *args: str, **changes: Any) -> Iterator[tuple[Launch, str]]:
        words = self.words(*args, **changes)
        with launch(self.config, **words) as launched:
            yield launched, words["id"]

    @contextmanager
    def running(self, *args: str, **changes: Any) -> Iterator[Running]:
        words = self.words(*args, **changes)
        with launch(self.config, **words) as launched:
            started = launched.start()
        container = Running(words["id"], launched.pid, words["config"]["linux"]["cgroupsPath"], started)
        try:
            yield container
        finally:
            try:
                self.keeper.signal(container.id, 9)
            except errors.NotFound:
                pass
            self.wait(container.id)
            cgroups.remove(container.cgroup)

    def run(self, *args: str, **changes: Any) -> Result:
        """Runs it to its end."""
        with self.running(*args, **changes) as container:
            return Result(self.wait(container.id), self.output(container.id))

    def shell(self, script: str, **changes: Any) -> Result:
        return self.run("sh", "-c", script, **changes)

    def refused(self, *args: str, **changes: Any) -> errors.EngineError:
        """Asserts that it does not start and that nothing of it is left; returns why."""
        words = self.words(*args, **changes)
        try:
            with launch(self.config, **words) as launched:
                launched.start()
        except errors.EngineError as error:
            self.assert_nothing_left(words["id"], str(words["config"]["linux"]["cgroupsPath"]))
            return error
        self.wait(words["id"])
        raise AssertionError(f"it started: {self.output(words['id'])}")

    def assert_nothing_left(self, container_id: str, cgroup: str) -> None:
        """At once, not soon: the launcher answers when all is gone."""
        assert not cgroups.exists(cgroup)
        assert container_id not in {item["id"] for item in self.keeper.list()}
        assert container_id not in Path(f"/proc/{self.part('launcher')}/mountinfo").read_text()

    def part(self, name: str) -> int:
        return int(self.keeper.parts()[name]["pid"])

    def launcher_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.part('launcher')}/fd"))

    def wait(self, container_id: str) -> int:
        record = until(lambda: disk.read_json(self.config.container(container_id) / "exit.json"), what="an exit")
        return int(record["exit_code"])

    def output(self, container_id: str) -> str:
        """All that it wrote; call it after the exit."""
        folder = self.config.container(container_id) / "log"

        def complete() -> bool:
            return any(path.stat().st_size for path in folder.glob("*.idx"))

        try:
            until(complete, timeout_s=1.0)
        except AssertionError:
            pass  # it wrote nothing
        last, size = b"", -1
        while len(last) != size:  # the logger reads on for a moment after the exit
            size = len(last)
            time.sleep(0.05)
            last = b"".join(path.read_bytes() for path in sorted(folder.glob("*.data")))
        return last.decode()


def until(found: Callable[[], Any], *, timeout_s: float = TIMEOUT_S, what: str = "") -> Any:
    deadline = time.monotonic() + timeout_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"in {timeout_s} s: never {what or found}"
        time.sleep(0.005)
    return answer


@contextmanager
def host() -> Iterator[Host]:
    """Below /tmp: no parent folder may hide it from anybody, as a data folder's don't."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-launch-"))
    folder.chmod(0o755)
    made = None
    try:
        made = Host(folder)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder)
