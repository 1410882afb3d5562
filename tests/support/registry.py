"""Debian's docker-registry on loopback, unpacked and never installed: anonymous, with a password, with TLS."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".venv" / "debian"
_START_S = 20.0


@dataclass(frozen=True)
class DebianRegistry:
    """``host``: 127.0.0.1:port, the first part of its images' names."""

    host: str
    folder: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def blobs(self) -> int:
        """How many it keeps."""
        return len(list(self.folder.glob("data/docker/registry/v2/blobs/sha256/*/*/data")))

    def asked(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text()


def binary(package: str, name: str) -> str | None:
    """The program of a Debian package, installed or unpacked. None where there is no Debian to ask."""
    if found := shutil.which(name):
        return found
    folder = unpacked(package)
    path = folder / "usr" / "bin" / name if folder else None
    return str(path) if path and path.exists() else None


def unpacked(package: str) -> Path | None:
    """The files of a Debian package that is not installed: downloaded and unpacked once."""
    folder = CACHE / package
    if not folder.exists() and shutil.which("apt-get"):
        making = CACHE / f".{package}"
        making.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["apt-get", "download", package], cwd=making, check=True, capture_output=True)
            for archive in making.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", archive, making / "files"], check=True)
            (making / "files").rename(folder)
        shutil.rmtree(making)
    return folder if folder.exists() else None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    htpasswd: str = "",
    tls: tuple[Path, Path] | None = None,
    token: dict[str, str] | None = None,
    address: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[DebianRegistry]:
    """``htpasswd``: a line of that file; ``tls``: certificate and key; ``token``: realm, service, issuer, rootcertbundle. Port 0: any."""
    program = binary("docker-registry", "docker-registry")
    assert program is not None
    host = f"{address}:{port or free_port()}"
    config = [
        "version: 0.1", "log: {level: info, accesslog: {disabled: false}}", "http:", f"  addr: {host}", "  secret: x",
        *([f"  tls: {{certificate: {tls[0]}, key: {tls[1]}}}"] if tls else []),
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}",
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd + "\n")
        config.append(f"auth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}")
    if token:
        config.append("auth: {token: {" + ", ".join(f"{name}: {value}" for name, value in token.items()) + "}}")
    (folder / "config.yml").write_text("\n".join(config) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log, env={"PATH": os.defpath})
    try:
        _wait(host, process)
        yield DebianRegistry(host, folder)
    finally:
        process.terminate()
        process.wait()


def _wait(host: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    name, _, port = host.partition(":")
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((name, int(port)), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"docker-registry did not start at {host}")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
