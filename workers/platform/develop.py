"""``test``, ``lint``, ``bench``, ``assets``, ``messages``: in a checkout, with its own ``.venv``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from workers.platform import apt, assets, checks, messages, venv
from workers.platform.places import Places
from workers.platform.say import Refusal, step

_LINT: Final = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy", "engine", "workers"), ("lint-imports",))


def run(root: Path, verb: str, words: list[str]) -> int:
    """``bench`` and ``test`` replace this process."""
    if verb == "lint":
        return _lint(root, _environment(root, "requirements-test.lock"))
    os.chdir(root)
    if verb == "bench":
        return _become(_environment(root, "requirements.lock"), "tests.bench", words, os.environ.get("PATH", ""))
    checks.require_root("test")
    apt.install(apt.missing(apt.UP | apt.TEST))
    python = _environment(root, "requirements-test.lock")
    build(root, "assets")
    build(root, "messages")
    path = os.pathsep.join([*map(str, _tools(python.parent.parent)), os.environ.get("PATH", "")])
    return _become(python, "pytest", [*_lanes(words), *words], path)


def _lanes(words: list[str]) -> list[str]:
    """The whole of the tests, or of a mark, in two processes at once: they wait as much as they work. Not where a few are named."""
    few = any(word in ("--collect-only", "--pdb", "-s", "-n") or Path(word.partition("::")[0]).exists() for word in words)
    return [] if few else ["-n", "2"]


def _become(python: Path, module: str, words: list[str], path: str) -> int:
    os.execve(python, [str(python), "-m", module, *words], {**os.environ, "PATH": path, "PYTHONPATH": str(Path.cwd())})


def build(root: Path, what: str) -> int:
    if what == "messages":
        messages.compile_all(root)
        return 0
    installed = Places.from_environment(os.environ).app / "assets"
    cached = assets.fetch(root, root / ".venv" / "assets", _environment(root, "requirements.lock"), others=installed)
    vendor = root / "controlpanel" / "static" / "vendor"
    stamp = vendor / ".key"
    wanted = " ".join([cached.name, *sorted(assets.icon_names(root / "templates"))])
    if not stamp.exists() or stamp.read_text() != wanted:
        assets.place(root, cached, vendor)
        stamp.write_text(wanted)
    return 0


def _environment(root: Path, lock_name: str) -> Path:
    """The checkout's Python with at least ``lock_name`` installed: the test lock holds all of the other."""
    folder, own = root / ".venv", root / ".venv" / "bin" / "python"
    python = os.path.realpath(own) if own.exists() else venv.interpreter(for_everybody=False)
    locks = {lock_name, "requirements-test.lock"}
    if not any(venv.is_complete(folder, venv.key(python, root / name)) for name in locks):
        venv.make(folder, python, root / lock_name, keep=True)
    return own


def _lint(root: Path, python: Path) -> int:
    failed = [command for command in _LINT if subprocess.run([python.parent / command[0], *command[1:]], cwd=root, check=False).returncode]
    for command in failed:
        print(f"slipway: {' '.join(command)} found something", file=sys.stderr)
    return 1 if failed else 0


def _tools(environment: Path) -> list[Path]:
    """For PATH: what this machine lacks and the tests want, unpacked beside them. Debian's docker.io would bring and start a daemon, and
    nobody shall wonder where another container runtime comes from. Refusal without a docker client."""
    folders = []
    if shutil.which("docker") is None:
        found = _unpacked(environment, "docker", "docker-cli") or _unpacked(environment, "docker", "docker.io")  # split in Debian 13
        if not found:
            raise Refusal("no docker client: install docker-cli (Debian 13) or docker.io (Debian 12), then run this again")
        folders += found
    if shutil.which("runc") is None or shutil.which("crun") is None:
        folders += _unpacked(environment, "crun", "crun", "libyajl2", "runc")  # without them tests/isolation compares nothing
    return folders


def _unpacked(environment: Path, program: str, *packages: str) -> list[Path]:
    """The folders of the packages' programs, of which ``program`` is one; none when the mirror does not give these packages."""
    target = environment / program
    folders = [target / "usr" / "bin", target / "usr" / "sbin"]
    if not (folders[0] / program).exists():
        step(f"unpacking Debian's {program} beside the tests")
        scratch = environment / f"{program}.deb"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        scratch.chmod(0o777)  # apt downloads as its own user
        subprocess.run(["apt-get", "-q", "download", *packages], cwd=scratch, capture_output=True, check=False)
        for archive in scratch.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, target], check=True)
        shutil.rmtree(scratch)
    return folders if (folders[0] / program).exists() else []
