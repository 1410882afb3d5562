r"""One Dockerfile with its context, as a file that is read at a glance: what is compared in builds/*.case.

about: what it is there for          like: classic | buildkit | nobody: which builder of the reference it is measured against
build: more words for docker build   setup: a line of sh in the context, for what no text file can be
fails: yes                           twice: yes: built a second time, with the cache of the first
-- path [mode] --                    a file of the context follows, up to the next such line
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent / "builds"
TIME: Final = 1_735_689_600  # of every file of a context: what was not made by the build is told by it
_FILE: Final = re.compile(r"^-- (.+?)(?: (0[0-7]{3,4}))? --\n", re.MULTILINE)
_LIKES: Final = ("classic", "buildkit", "nobody")


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    about: str
    like: str
    build: tuple[str, ...]
    setup: str
    fails: bool
    twice: bool
    files: tuple[tuple[str, int, str], ...]  # path, mode, content

    def lay_out(self, folder: Path) -> None:
        """Make the context; the same bytes, modes and times whenever it is made."""
        os.umask(0o022)
        for path, mode, content in self.files:
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(mode)
        made_before = set(_below(folder))
        for each in made_before:
            os.utime(each, (TIME, TIME), follow_symlinks=False)
        if self.setup:
            subprocess.run(["sh", "-ec", self.setup], cwd=folder, check=True, capture_output=True, env={**os.environ, "TZ": "UTC"})
            for each in _below(folder):
                if each not in made_before and os.lstat(each).st_mtime > TIME + 86400 * 30:  # unless the line has set a time itself
                    os.utime(each, (TIME, TIME), follow_symlinks=False)
        for each in (*(path for path in _below(folder) if path.is_dir() and not path.is_symlink()), folder):
            os.utime(each, (TIME, TIME))


def _below(folder: Path) -> list[Path]:
    return [Path(root) / name for root, folders, names in os.walk(folder, topdown=False) for name in (*folders, *names)]


def read(path: Path) -> Recipe:
    head, *pieces = _FILE.split(path.read_text())
    said = dict(line.split(": ", 1) for line in head.splitlines() if line)
    unknown = set(said) - {"about", "like", "build", "setup", "fails", "twice"}
    assert not unknown and said.get("like") in _LIKES and said.get("about"), f"{path.name}: {unknown or said}"
    files = tuple(
        (name, int(mode, 8) if mode else 0o644, content)
        for name, mode, content in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    )
    return Recipe(
        path.stem, said["about"], said["like"], tuple(shlex.split(said.get("build", ""))), said.get("setup", ""), "fails" in said,
        "twice" in said, files,
    )  # fmt: skip


def all_recipes() -> list[Recipe]:
    return [read(path) for path in sorted(FOLDER.glob("*.case"))]
