"""The supervisor with small parts of its own: real processes, sockets and signals."""

from __future__ import annotations

import array
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime import protocol
from tests.support import machine
from tests.support.platform import PYTHON, ROOT, free_port
from workers.platform import logfiles
from workers.platform.places import Places

pytestmark = [pytest.mark.guest, pytest.mark.requires("root")]

# A supervisor over the parts that JSON on its command line names.
RUN = """
import grp, json, os, sys
from workers.platform import parts, supervisor
from workers.platform.places import Places
from workers.platform.spawn import Identity
parts.gid = lambda: grp.getgrnam("nogroup").gr_gid
nobody = Identity(65534, 65534)
given = json.loads(sys.argv[1])
environment = {"NOTIFY_SOCKET": os.environ["SLIPWAY_RUN"] + "/notify.sock", "PYTHONPATH": os.environ["CODE"]}
family = [
    parts.Part(
        part["name"], (os.environ["PYTHON"], "-c", part["code"]), environment, os.environ["CODE"], nobody if part.get("nobody") else None,
        takes_sockets=part.get("sockets", False), grace_s=part.get("grace_s", 5.0),
    )
    for part in given
]
def tend():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid
supervisor.Supervisor(Places.from_environment(), "test", family, tend).run()
"""

# Says what it is, keeps a unix socket with the supervisor, and serves the HTTP socket it was given.
SERVER = """
import os, socket, sys, time
from controlpanel.server import activation
given = activation.listen_fds()
status = {row.split(":")[0]: row.split(":")[1].strip() for row in open("/proc/self/status") if ":" in row}
if "tenant-demo" not in given:
    sock = socket.socket(socket.AF_UNIX); sock.bind("\\0" + "slipway-test-%d" % os.getppid()); sock.listen()
    activation.store("tenant-demo", sock)
activation.notify("READY=1", "STATUS=serving")
given["http"].setblocking(True)
print(os.getuid(), status["CapEff"], status["NoNewPrivs"], sorted(given), flush=True)
while True:
    peer, _ = given["http"].accept()
    peer.sendall(str(os.getpid()).encode()); peer.close()
"""


class Running:
    def __init__(self, folder: Path, parts: list[dict[str, Any]]) -> None:
        self.places = Places.from_environment(
            {"SLIPWAY_DATA": str(folder / "data"), "SLIPWAY_RUN": str(folder / "run"), "SLIPWAY_HTTP": f"127.0.0.1:{free_port()}"}
        )
        self.places.log.mkdir(parents=True)
        self.places.run.mkdir()
        self.places.run.chmod(0o755)
        # the checkout may lie where nobody but root comes, and so may the interpreter of a virtual environment
        (folder / "code/controlpanel/server").mkdir(parents=True)
        for name in ("__init__.py", "server/__init__.py", "server/activation.py"):
            shutil.copy(ROOT / "controlpanel" / name, folder / "code/controlpanel" / name)
        environment = {**os.environ, **self.places.own(), "PYTHONPATH": str(ROOT), "CODE": str(folder / "code"), "PYTHON": PYTHON}
        self.process = subprocess.Popen([sys.executable, "-c", RUN, json.dumps(parts)], env=environment, cwd=ROOT)
        self.wait(lambda: self.places.supervisor_socket.exists())

    def parts(self) -> dict[str, dict[str, Any]]:
        with protocol.connect(self.places.supervisor_socket, timeout_s=5) as sock:
            answer, _ = protocol.ask(sock, "parts")
        return {part["name"]: part for part in answer["parts"]}

    def log(self, name: str) -> str:
        return (self.places.log / f"{name}.log").read_text()

    def wait(self, true: Callable[[], Any], within_s: float = 30.0) -> None:
        began = time.monotonic()
        while not true():
            took = time.monotonic() - began
            assert took < within_s or took < within_s * machine.slowness(), "it did not come true in time"
            assert self.process.poll() is None, "the supervisor ended"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def run(open_folder: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(*parts: dict[str, Any]) -> Running:
        made.append(Running(open_folder, list(parts)))
        return made[-1]

    yield start
    for running in made:
        if running.process.poll() is None:
            running.stop()


def test_web_gets_its_sockets_and_nothing_else(run: Callable[..., Running]) -> None:
    platform = run({"name": "web", "code": SERVER, "nobody": True, "sockets": True})
    platform.wait(lambda: platform.parts()["web"]["ready"])
    assert platform.log("web") == f"{pwd.getpwnam('nobody').pw_uid} 0000000000000000 1 ['http']\n"
    assert platform.parts()["web"]["status"] == "serving"


def test_sockets_survive_a_kill_and_no_client_is_refused(run: Callable[..., Running]) -> None:
    platform = run({"name": "web", "code": SERVER, "nobody": True, "sockets": True})
    platform.wait(lambda: platform.parts()["web"]["ready"])
    first = platform.parts()["web"]["pid"]
    os.kill(first, signal.SIGKILL)
    platform.wait(lambda: platform.parts()["web"]["pid"] != first)
    host, port = platform.places.http.split(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        assert int(sock.recv(64)) != first
    assert "['http', 'tenant-demo']" in platform.log("web")
    assert platform.parts()["web"]["last_exit"] == "SIGKILL"


def test_another_process_can_not_leave_descriptors(run: Callable[..., Running]) -> None:
    platform = run({"name": "web", "code": SERVER, "nobody": True, "sockets": True})
    platform.wait(lambda: platform.parts()["web"]["ready"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, open("/etc/passwd", "rb") as file:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
        sock.sendmsg([b"FDSTORE=1\nFDNAME=intruder"], rights, 0, str(platform.places.notify_socket))
    os.kill(platform.parts()["web"]["pid"], signal.SIGKILL)
    platform.wait(lambda: platform.log("web").count("\n") == 2)
    assert "intruder" not in platform.log("web")


def test_a_part_that_keeps_dying_is_tried_less_and_less(run: Callable[..., Running]) -> None:
    platform = run({"name": "worker", "code": "import sys; sys.exit(3)"})
    platform.wait(lambda: platform.parts()["worker"]["restarts"] >= 3)
    began = platform.parts()["worker"]["restarts"]
    time.sleep(1.0)
    assert platform.parts()["worker"]["restarts"] - began <= 2
    assert platform.parts()["worker"]["last_exit"] == "exit code 3"


def test_a_part_that_will_not_end_is_killed(run: Callable[..., Running]) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
    platform = run({"name": "worker", "code": stubborn, "grace_s": 0.5})
    platform.wait(lambda: (platform.places.log / "worker.log").exists() and "here" in platform.log("worker"))
    pid = platform.parts()["worker"]["pid"]
    platform.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not platform.places.supervisor_socket.exists()


def test_redis_ends_after_the_workers(run: Callable[..., Running]) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n time.sleep({wait}); print(time.monotonic_ns(), flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('here', flush=True)\nwhile True: time.sleep(1)"
    )
    platform = run({"name": "redis", "code": code.format(wait=0)}, {"name": "host-worker", "code": code.format(wait=0.3)})
    for name in ("redis", "host-worker"):
        platform.wait(lambda name=name: (platform.places.log / f"{name}.log").exists() and "here" in platform.log(name))
    platform.stop()
    assert int(platform.log("host-worker").split()[-1]) < int(platform.log("redis").split()[-1])


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_supervisor_takes_its_parts_along(run: Callable[..., Running]) -> None:
    platform = run({"name": "worker", "code": "import time; print('here', flush=True); time.sleep(600)"})
    platform.wait(lambda: (platform.places.log / "worker.log").exists() and "here" in platform.log("worker"))
    pid = platform.parts()["worker"]["pid"]
    platform.process.kill()
    platform.process.wait()
    deadline = time.monotonic() + 5
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_logs_are_cut_while_their_writer_goes_on(tmp_path: Path) -> None:
    fd = logfiles.open_log(tmp_path, "web")
    for _ in range(logfiles.KEPT + 2):
        os.write(fd, b"x" * (logfiles.MAX_BYTES + 1))
        logfiles.rotate(tmp_path)
    os.write(fd, b"after\n")
    os.close(fd)
    assert (tmp_path / "web.log").read_bytes() == b"after\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.log", *(f"web.log.{n}" for n in range(1, logfiles.KEPT + 1))]
