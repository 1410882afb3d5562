"""The panel's management commands, run as the panel's user with its environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from workers.platform import checks, parts
from workers.platform.places import USER, Places


def run(places: Places, release: Path, words: list[str]) -> int:
    """Replaces this process: exit code and output are the command's own."""
    checks.require_root(words[0])
    user = parts.identity(USER)
    environment = _environment(places, release)  # of files that only root reads
    os.chdir(release)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    python = _python(release)
    os.execve(python, [python, "-m", "django", *words], environment)


def tenants(places: Places, release: Path) -> dict[str, int] | None:
    """Name → number of those it has. None: its database does not answer."""
    user = parts.identity(USER)
    done = subprocess.run(
        [_python(release), "-m", "django", "tenant", "list", "--json"],
        env=_environment(places, release), cwd=release, user=user.uid, group=user.gid, extra_groups=user.groups,
        capture_output=True, check=False,
    )  # fmt: skip
    return {tenant["name"]: tenant["number"] for tenant in json.loads(done.stdout)} if done.returncode == 0 else None


def _python(release: Path) -> str:
    return str(release / "venv" / "bin" / "python")


def _environment(places: Places, release: Path) -> dict[str, str]:
    return places.panel_environment(release) | {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
