"""The installed copy that root runs: code, environment and front-end files below <data>/app, owned by root.

A release is named by its content, so the same checkout twice installs nothing, and after ``git pull`` the next ``up`` makes
a new one beside the old; ``current`` moves to it when it is complete. A release stays while a process runs from it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from engine import disk
from workers.platform import apt, assets, messages, venv
from workers.platform.places import Places
from workers.platform.say import Refusal, step

_FOLDERS: Final = ("engine", "workers", "controlpanel", "templates", "locale")
_FILES: Final = ("manage.py", "pyproject.toml", "requirements.lock", "requirements-assets.lock", "package.json", "package-lock.json")
_LEFT_OUT: Final = {"__pycache__", "vendor", "staticfiles", "node_modules"}
STAMP: Final = ".release"  # in every release: its name
_LAYOUT: Final = b"1"  # raise it when this module lays a release out differently


def is_release(root: Path) -> bool:
    return (root / STAMP).exists()


def installed(places: Places) -> Path | None:
    """The release in use, or None before the first ``up``."""
    release = places.current.resolve()
    return release if is_release(release) else None


def install(source: Path, places: Places, *, packages: Mapping[str, str] = apt.UP) -> Path:
    """Bring <data>/app to what ``source`` (a checkout) holds; the release. Needs root. ``packages``: Debian's that must be there."""
    missing = apt.missing(packages)
    apt.install(missing)
    python = venv.interpreter(for_everybody=True)
    for folder in (places.data, places.app, places.etc):
        _folder(folder, 0o755)
    if missing:
        disk.write_json(places.packages_note, sorted({*(disk.read_json(places.packages_note) or []), *missing}), mode=0o644)
    with disk.locked(places.app / ".lock"):
        environment = places.app / "venvs" / venv.key(python, source / "requirements.lock")
        if not venv.is_complete(environment, environment.name):
            venv.make(environment, python, source / "requirements.lock")
        release = places.app / "releases" / _content_key(source, environment)
        if not is_release(release):
            step(f"installing the code into {release}")
            _build(source, places, environment, release)
        if places.current.resolve() != release:
            temporary = places.app / ".current"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(release.relative_to(places.app))
            temporary.rename(places.current)
            _remove_unused(places, release, environment)
    return release


def _build(source: Path, places: Places, environment: Path, release: Path) -> None:
    release.parent.mkdir(exist_ok=True)
    cached = assets.fetch(source, places.app / "assets", environment / "bin" / "python")
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=release.parent))
    try:
        scratch.chmod(0o755)
        for file in _sources(source):
            target = scratch / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        (scratch / "venv").symlink_to(os.path.relpath(environment, release))
        assets.place(source, cached, scratch / "controlpanel" / "static" / "vendor")
        messages.compile_all(scratch)
        _collect_static(scratch, environment)
        subprocess.run(
            [environment / "bin" / "python", "-m", "compileall", "-q", "-j", "0", scratch], stdout=subprocess.DEVNULL, check=False
        )
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.name == "manage.py" else 0o644)
        (scratch / STAMP).write_text(release.name)
        shutil.rmtree(release, ignore_errors=True)
        scratch.rename(release)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _collect_static(release: Path, environment: Path) -> None:
    """Hashed names, so that browsers may keep each file for ever. Into a scratch data folder: the platform's may not exist yet."""
    with tempfile.TemporaryDirectory(prefix="slipway-static-") as data:
        variables = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": str(release),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "controlpanel.settings",
            "SLIPWAY_DATA": data,
            "SLIPWAY_RUN": data,
            "SLIPWAY_COLLECT_STATIC": "true",
            "SECRET_KEY": "no request is answered with this",
        }
        command = [str(environment / "bin" / "python"), "-m", "django", "collectstatic", "--no-input", "--verbosity", "0"]
        done = subprocess.run(command, cwd=release, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"collecting the static files failed, which is our fault: {_last_line(done.stderr)}")


def _sources(source: Path) -> Iterator[Path]:
    for name in _FILES:
        yield source / name
    for folder in _FOLDERS:
        for parent, folders, files in os.walk(source / folder):
            folders[:] = sorted(set(folders) - _LEFT_OUT)
            yield from (Path(parent, name) for name in sorted(files) if not name.endswith((".pyc", ".mo", "~")))


def _content_key(source: Path, environment: Path) -> str:
    digest = hashlib.sha256(_LAYOUT + environment.name.encode())
    for file in _sources(source):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(source)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _remove_unused(places: Places, release: Path, environment: Path) -> None:
    """Releases that nobody runs from (a keeper may be days old), and environments that no release names."""
    words = list(_process_words())
    kept = {release}
    for other in release.parent.iterdir():
        if other == release or any(f"{other}/".encode() in word for word in words):
            kept.add(other)
        else:
            shutil.rmtree(other, ignore_errors=True)
    environments = {environment, *((other / "venv").resolve() for other in kept)}
    for made in environment.parent.iterdir():
        if made not in environments:
            shutil.rmtree(made, ignore_errors=True)


def _process_words() -> Iterator[bytes]:
    """Command line, environment and folder of every process, each word ended by a slash: a release in use is named in one."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                process = Path("/proc", entry)
                yield (process / "cmdline").read_bytes().replace(b"\0", b"/\0")
                yield (process / "environ").read_bytes().replace(b"\0", b"/\0")
                yield os.readlink(process / "cwd").encode() + b"/"
            except OSError:
                continue  # it ended, or is a kernel thread


def _folder(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
