"""One Docker endpoint under comparison: its test image, the run of one case, and the removal of what the case made."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.conformance.case import Case, masked

IMAGE: Final = "box:latest"
_DIRECTORIES: Final = ("bin", "dev", "etc", "home", "opt/data", "proc", "root", "sys", "tmp", "usr", "var")
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:User:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nstaff:x:50:user\nuser:x:1000:\nnogroup:x:65534:\n",
    "opt/data/one": "1\n",
    "opt/data/two": "2\n",
}
_PRELUDE: Final = """
api() { curl -s --max-time 20 -w '%{http_code}\\n' --unix-socket "$SOCKET" -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} \
"http://docker/v1.51$2"; }
until_running() { until [ "$(docker inspect -f '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; do sleep 0.05; done; }
until_says() { until docker logs "$1" 2>&1 | grep -q "$2"; do sleep 0.05; done; }
until_is() { until [ "$(docker inspect -f "$2" "$1" 2>/dev/null)" = "$3" ]; do sleep 0.05; done; }
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one endpoint said, masked. ``broken``: why the case could not be tried."""

    out: str = ""
    err: str = ""
    code: int = 0
    broken: str = ""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Endpoint:
    """``address`` is unix:///…: what would be given as DOCKER_HOST."""

    def __init__(self, address: str, folder: Path, program: str = "docker") -> None:
        self.address, self.path = address, address.removeprefix("unix://")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bin").mkdir(exist_ok=True)
        shutil.copy(shutil.which(program) or program, folder / "bin" / "docker")
        self._image = make_image(folder / "box.tar")

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        connection = _Connection(self.path)
        with contextlib.closing(connection):
            connection.request(method, f"/v1.44{path}")
            answer = connection.getresponse()
            body = answer.read()
        return answer.status, json.loads(body) if body.startswith((b"{", b"[")) else None

    def is_empty(self) -> bool:
        return not self.ask("GET", "/containers/json?all=1")[1]

    def clean(self) -> None:
        """No containers; of images only the one under test."""
        for _ in range(3):  # a container that is being removed counts until it is gone
            left = self.ask("GET", "/containers/json?all=1")[1]
            for container in left:
                self.ask("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            if not left:
                break
        for volume in self.ask("GET", "/volumes")[1]["Volumes"] or ():
            self.ask("DELETE", f"/volumes/{volume['Name']}?force=1")
        wrong = False
        for image in self.ask("GET", "/images/json")[1]:
            wanted = IMAGE in image["RepoTags"]
            for ref in image["RepoTags"] or [image["Id"]]:
                if ref != IMAGE:
                    self.ask("DELETE", f"/images/{quote(ref, safe='')}?force=1")
            wrong = wrong or (wanted and image["Id"] != self._image)
        if wrong or self.ask("GET", f"/images/{IMAGE}/json")[0] != 200:
            self.ask("DELETE", f"/images/{IMAGE}?force=1")
            self._shell(f"docker load -q -i {self.folder}/box.tar", self.folder, "", 60)

    def run(self, case: Case) -> Outcome:
        self.clean()
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            if case.setup:
                done = self._shell(f"set -e\n{case.setup}", Path(scratch), "", case.timeout_s)
                if done.code != 0:
                    return Outcome(broken=masked(f"set-up: {done.err or done.out or done.code}", case))
            if case.terminal or case.typed:
                done = self._terminal(case, Path(scratch))
            else:
                done = self._shell(case.command, Path(scratch), case.stdin, case.timeout_s)
        return Outcome(masked(done.out, case), masked(done.err, case), done.code)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "DOCKER_HOST": self.address,
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_CLI_HINTS": "false",
            "SOCKET": self.path,
            "TZ": "UTC",
            "TERM": "xterm",
            "FROM_CLIENT": "from-client",  # for `-e NAME`
        }

    def _shell(self, script: str, scratch: Path, stdin: str, timeout_s: float) -> Outcome:
        process = subprocess.Popen(
            ["sh", "-c", _PRELUDE + script], cwd=scratch, env=self._environment(), start_new_session=True, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return Outcome(out, f"{err}[no end within {timeout_s:g} s]\n", -1)
        return Outcome(out, err, process.returncode)

    def _terminal(self, case: Case, scratch: Path) -> Outcome:
        """A pseudo terminal of 24 rows and 80 columns; everything shown is standard output."""
        child, master = pty.fork()
        if child == 0:
            os.chdir(scratch)
            os.execvpe("sh", ["sh", "-c", f"{_PRELUDE}stty rows 24 cols 80\n{case.command}"], self._environment())
        deadline, shown, at, steps = time.monotonic() + case.timeout_s, b"", 0, list(case.typed)
        while True:
            if steps and (found := shown.find(steps[0][0].encode(), at)) >= 0:
                at = found + len(steps[0][0])
                os.write(master, steps.pop(0)[1].encode())
                continue
            if not select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os.close(master)
                return Outcome(shown.decode(errors="replace") + f"[no end within {case.timeout_s:g} s]\n", "", -1)
            try:
                shown += os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
        _pid, status = os.waitpid(child, 0)
        os.close(master)
        return Outcome(shown.decode(errors="replace"), "", os.waitstatus_to_exitcode(status))


def make_image(path: Path) -> str:
    """Write the same image, of this machine's static busybox, for each endpoint: a docker-archive. Its id."""
    binary = shutil.which("busybox")
    assert binary is not None, "the package busybox-static is missing"
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in (*_DIRECTORIES, "opt"):
            _add(tar, name, kind=tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        _add(tar, "bin/busybox", data=Path(binary).read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
        for name, text in _FILES.items():
            _add(tar, name, data=text.encode())
        _add(tar, "opt/link", kind=tarfile.SYMTYPE, target="data/one")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "created": "2025-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "conformance"}],
        }
    ).encode()  # fmt: skip
    number = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{number}.json", "RepoTags": [IMAGE], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        _add(tar, f"{digest}/layer.tar", data=layer.getvalue())
        _add(tar, f"{number}.json", data=config)
        _add(tar, "manifest.json", data=json.dumps(manifest).encode())
    return f"sha256:{number}"


def _add(tar: tarfile.TarFile, name: str, *, data: bytes = b"", kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size, entry.mtime = kind, mode, target, len(data), 1_735_689_600
    tar.addfile(entry, io.BytesIO(data))
