"""The panel's management commands, run as the panel's user with its environment. What they write into files root writes for whom it is."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NoReturn

from workers.platform import checks, parts, prepare
from workers.platform.places import USER, Places
from workers.platform.say import Refusal, step
from workers.platform.spawn import Identity


def run(places: Places, release: Path, words: list[str]) -> int:
    """The exit code; but for ``context export`` it replaces this process, and code and output are the command's own."""
    checks.require_root(words[0])
    return _export_context(places, release, words) if words[:2] == ["context", "export"] else _become(places, release, words)


def _become(places: Places, release: Path, words: list[str]) -> NoReturn:
    user = parts.identity(USER)
    environment = _environment(places, release)  # of files that only root reads
    os.chdir(release)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    python = _python(release)
    os.execve(python, [python, "-m", "django", *words], environment)


def tenants(places: Places, release: Path) -> list[dict[str, Any]] | None:
    """Those it has, with what it has of each. None: its database does not answer."""
    done = _ask(places, release, ["tenant", "list", "--json"], stderr=subprocess.DEVNULL)
    found: list[dict[str, Any]] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def _export_context(places: Places, release: Path, words: list[str]) -> int:
    """The file has a key in it: it is of whoever asked for it, by sudo or as root, and of nobody else."""
    output = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    output.add_argument("-o", "--output")
    asked = output.parse_known_args(words)[0].output
    if asked and not Path(asked).parent.is_dir():  # before there is a certificate
        raise Refusal(f"{asked}: there is no such folder: make it, or name another file with -o")
    done = _ask(places, release, words)
    if done.returncode or asked == "-" or not tarfile.is_tarfile(io.BytesIO(done.stdout)):  # a refusal, or --help
        sys.stdout.buffer.write(done.stdout)
        return done.returncode
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        meta = tar.extractfile("meta.json")
        assert meta is not None
        name = json.load(meta)["Name"]
    path = Path(asked or f"{name}.dockercontext")
    owner = Identity(int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0")))
    prepare.give(path, done.stdout, owner)
    step(f"docker context import {name} {path}")
    return 0


def _ask(places: Places, release: Path, words: list[str], *, stderr: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """As the panel's user; its standard output is ours to read."""
    user = parts.identity(USER)
    return subprocess.run(
        [_python(release), "-m", "django", *words],
        env=_environment(places, release), cwd=release, user=user.uid, group=user.gid, extra_groups=user.groups,
        stdout=subprocess.PIPE, stderr=stderr, check=False,
    )  # fmt: skip


def _python(release: Path) -> str:
    return str(release / "venv" / "bin" / "python")


def _environment(places: Places, release: Path) -> dict[str, str]:
    return places.panel_environment(release) | {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
