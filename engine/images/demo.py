"""The demo image ``busybox:latest``, made on the spot from this host's own static busybox: a first container without a registry.

The same busybox gives the same image id, whenever it is built: times are the program's own, the order is sorted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.config import PUBLIC_TENANT
from engine.errors import Unavailable
from engine.images.store import ImageStore
from engine.model.platform import host_architecture

NAME: Final = "busybox:latest"
BUSYBOX: Final = Path("/bin/busybox")
_ENV: Final = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
_FOLDERS: Final = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sbin": 0o755,
    "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/spool": 0o755,
    "var/tmp": 0o1777, "var/www": 0o755,
}  # fmt: skip
_USERS: Final = (
    ("root", 0, "/root", "/bin/sh"), ("daemon", 1, "/usr/sbin", "/bin/false"), ("bin", 2, "/bin", "/bin/false"),
    ("sys", 3, "/dev", "/bin/false"), ("sync", 100, "/bin", "/bin/sync"), ("mail", 8, "/var/spool/mail", "/bin/false"),
    ("www-data", 33, "/var/www", "/bin/false"), ("operator", 37, "/var", "/bin/false"), ("nobody", 65534, "/home", "/bin/false"),
)  # fmt: skip
_GROUPS: Final = {
    "root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "mail": 8, "kmem": 9, "wheel": 10, "dialout": 18,
    "audio": 29, "video": 28, "www-data": 33, "operator": 37, "utmp": 43, "users": 100, "nogroup": 65534,
}  # fmt: skip


def load(store: ImageStore) -> str:
    """Makes the image everybody's, by the name ``busybox:latest``. Its id. Cheap when it is there already."""
    config, layer = _build()
    image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
    if store.refs(PUBLIC_TENANT).get(NAME) != image_id:
        for _line in store.load(PUBLIC_TENANT, io.BytesIO(_archive(config, layer)), quiet=True):
            pass
    return image_id


def archive() -> bytes:
    """The image as ``docker save`` would write it."""
    return _archive(*_build())


def _archive(config: bytes, layer: bytes) -> bytes:
    files = {
        "config.json": config,
        "layer.tar": layer,
        "manifest.json": _json([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _build() -> tuple[bytes, bytes]:
    """Config and layer."""
    program = _static_busybox()
    mtime = int(BUSYBOX.stat().st_mtime)
    layer = _layer(program, _applets(), mtime)
    created = datetime.fromtimestamp(mtime, UTC).isoformat().replace("+00:00", "Z")
    config = {
        "architecture": host_architecture(),
        "os": "linux",
        "created": created,
        "config": {"Cmd": ["sh"], "Env": _ENV, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "busybox of this host"}],
    }
    return _json(config), layer


def _static_busybox() -> bytes:
    try:
        program = BUSYBOX.read_bytes()
    except FileNotFoundError:
        raise Unavailable(f"no {BUSYBOX} on this host: its operator has to install the package busybox-static") from None
    if b"/ld-" in program[:4096]:  # the interpreter's name lies right behind the ELF headers
        raise Unavailable(f"{BUSYBOX} needs shared libraries: this host's operator has to install the package busybox-static")
    return program


def _applets() -> list[str]:
    """bin/ash, usr/sbin/chroot, …: where this busybox wants its names."""
    listed = subprocess.run([BUSYBOX, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in listed if os.path.dirname(name) in _FOLDERS and name != "bin/busybox")


def _layer(program: bytes, applets: list[str], mtime: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in _members(program, applets):
            member.mtime = mtime
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return out.getvalue()


def _members(program: bytes, applets: list[str]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for name, mode in sorted(_FOLDERS.items()):
        yield _member(name, tarfile.DIRTYPE, mode), b""
    yield _file("bin/busybox", program, 0o755)
    for name in applets:
        link = _member(name, tarfile.SYMTYPE, 0o777)
        link.linkname = "busybox" if os.path.dirname(name) == "bin" else "/bin/busybox"
        yield link, b""
    passwd = "".join(f"{name}:x:{number}:{_GROUPS.get(name, number)}:{name}:{home}:{shell}\n" for name, number, home, shell in _USERS)
    group = "".join(f"{name}:x:{number}:\n" for name, number in _GROUPS.items())
    yield _file("etc/passwd", passwd.encode(), 0o644)
    yield _file("etc/group", group.encode(), 0o644)
    yield _file("etc/shadow", "".join(f"{name}:*:::::::\n" for name, *_rest in _USERS).encode(), 0o640)
    yield _file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)


def _file(name: str, data: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    member = _member(name, tarfile.REGTYPE, mode)
    member.size = len(data)
    return member, data


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
