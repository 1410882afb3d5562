"""Virtual environments from a lock file with hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from workers.platform import apt
from workers.platform.say import Refusal, step

OLDEST: Final = (3, 11)
# What ensurepip does by running pip once; minutes on a slow machine. Debian keeps the wheel in _WHEEL_PKG_DIR, others beside ensurepip.
_UNPACK_PIP: Final = """
import ensurepip, glob, os, sysconfig, zipfile
folders = [getattr(ensurepip, "_WHEEL_PKG_DIR", None) or "", os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
wheels = [wheel for folder in folders if folder for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))]
zipfile.ZipFile(wheels[0]).extractall(sysconfig.get_path("purelib"))
"""
_STAMP: Final = "slipway.lock"  # written last: an environment without it is half made


def interpreter(*, for_everybody: bool) -> str:
    """The Python to build on. ``for_everybody``: the panel's user must reach it, so not one below /root."""
    if not for_everybody:
        return sys.executable if sys.version_info >= OLDEST else "/usr/bin/python3"
    for candidate in ("/usr/bin/python3", sys.executable):
        if os.path.exists(candidate) and _everybody_reaches(Path(candidate).resolve()) and _version(candidate) >= OLDEST:
            return candidate
    raise Refusal(f"no Python >= {OLDEST[0]}.{OLDEST[1]} that every user may run: install Debian's python3, then run this again")


def key(python: str, lock: Path) -> str:
    """Changes with the lock file or the interpreter's minor version."""
    return hashlib.sha256(lock.read_bytes() + repr((os.path.realpath(python), _version(python))).encode()).hexdigest()[:16]


def is_complete(folder: Path, stamp: str) -> bool:
    try:
        return (folder / _STAMP).read_text() == stamp and os.access(folder / "bin" / "python", os.X_OK)
    except FileNotFoundError:
        return False


def make(folder: Path, python: str, lock: Path, *, keep: bool = False) -> None:
    """Build ``folder`` anew, or with ``keep`` bring what is there to the lock file's versions. Refusal names who can help.

    What is kept is a developer's: his interpreter writes what it compiles. A built one is compiled whole, for nobody may write there later.
    """
    stamp = key(python, lock)
    if not (keep and os.access(folder / "bin" / "python", os.X_OK)):
        shutil.rmtree(folder, ignore_errors=True)
        _create(folder, python)
    step(f"installing Python packages of {lock.name} into {folder}")
    pip(folder / "bin" / "python", lock, "install", "--no-deps", "--no-compile")  # compiled afterwards, on all cores
    if not keep:
        command = [str(folder / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", "-x", r"/(pip|tests?)/", str(folder / "lib")]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    (folder / _STAMP).write_text(stamp)


def pip(python: Path, lock: Path, verb: str, *options: str) -> None:
    """``verb`` what the lock file names. --no-deps is among the options because a lock file is complete."""
    command = [str(python), "-m", "pip", "-qq", "--disable-pip-version-check", verb, "--no-input", *options]
    environment = {**os.environ, "PIP_CONSTRAINT": "/dev/null"}  # the lock file decides, not the machine's own constraints
    done = subprocess.run([*command, "--require-hashes", "-r", str(lock)], env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Refusal(f"pip could not {verb} {lock.name}: its words are above; is the package index reachable from this machine?")


def _create(folder: Path, python: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if subprocess.run([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL, check=False).returncode:
        apt.install([apt.VENV])
    for command in ([python, "-m", "venv", "--without-pip", str(folder)], [str(folder / "bin" / "python"), "-c", _UNPACK_PIP]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refusal(f"{python} -m venv {folder} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _version(python: str) -> tuple[int, int]:
    if os.path.realpath(python) == os.path.realpath(sys.executable):
        return sys.version_info[:2]
    out = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False).stdout
    major, minor = out.split() or ("0", "0")
    return int(major), int(minor)


def _everybody_reaches(path: Path) -> bool:
    """Whether each folder above may be searched and the file read by a user who is nobody special."""
    return path.stat().st_mode & 0o005 == 0o005 and all(parent.stat().st_mode & 0o001 for parent in path.parents)
