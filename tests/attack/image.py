"""The attacker's image: this machine's Python, the libraries it needs, busybox, and the probe. No compiler is promised anywhere."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.engine.images.archives import Member, file, folder, symlink, tar

PROBE = Path(__file__).with_name("probe.py")
PYTHON = "/usr/bin/python3"
COMMAND = (PYTHON, "-I", "-S", "/probe.py")
_NEEDS = "import ctypes, encodings.idna, encodings.ascii, encodings.latin_1, errno, os, signal, socket, stat, sys, time"
_APPLETS = ("sh", "ls", "cat", "sleep", "mv", "mkdir", "ln", "touch", "echo", "true", "dd", "rm", "id", "seq", "yes", "head", "cp")


@cache
def archive() -> bytes:
    """As ``docker import`` takes it, about 12 MB."""
    members: dict[str, Member] = {name: folder(name) for name in ("proc", "sys", "dev", "etc", "tmp", "bin", "usr", "usr/bin")}
    for path in [PYTHON, *_modules()]:
        _add(members, path)
    for program in [PYTHON, *(path for path in _modules() if path.endswith(".so"))]:
        for library in _libraries(program):
            _add(members, library)
    members["bin/busybox"] = file("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
    for applet in _APPLETS:
        members[f"bin/{applet}"] = symlink(f"bin/{applet}", "busybox")
    members["probe.py"] = file("probe.py", PROBE.read_bytes(), mode=0o644)
    return tar(*members.values())


def _add(members: dict[str, Member], path: str) -> None:
    """Under the name it is asked for, whatever links lead to it."""
    members[path.lstrip("/")] = file(path.lstrip("/"), Path(path).read_bytes(), mode=0o755)


@cache
def _modules() -> tuple[str, ...]:
    script = f"{_NEEDS}\nfor m in list(sys.modules.values()):\n  f = getattr(m, '__file__', None)\n  if f: print(f)"
    found = subprocess.run([PYTHON, "-I", "-S", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    return tuple(sorted(set(found)))


def _libraries(program: str) -> list[str]:
    """What the dynamic linker loads, itself included."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
