"""``backup -o FILE``: the panel's own state in one file, while the platform runs or not; with --volumes what lies in volumes, too.

The database is as of one moment. What is beside it (keys, ceilings, the audit's witness) changes seldom and is read before it, so that
the witness has never seen a record that the database does not have. A volume is copied while containers may write to it: each file as
it is met, as any backup of a running machine; a database in it is backed up by its own means, or its container stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from workers.platform import bundle, contents, parts, prepare
from workers.platform.places import USER, Places
from workers.platform.say import Refusal, step

_SECRET: Final = (
    "It holds secrets: password hashes, the keys that sign sessions and tickets, whatever members wrote into environments. "
    "Its mode is 0600; keep it as you keep root's own files."
)


def backup(places: Places, release: Path, target: Path, *, volumes: bool) -> int:
    database = state_file_name(places)
    with tempfile.TemporaryDirectory(prefix="backup.", dir=places.data) as scratch, bundle.writing(target.absolute()) as writer:
        ask(places, release, "backed_up", *(["--volumes"] if volumes else []))
        writer.put_json(bundle.ABOUT, _about(places, release, volumes))
        for folder in contents.trees(places):
            for name, path in contents.files(places, folder):
                writer.put_file(f"{folder}/{name}", path)
        copy = Path(scratch) / database
        copy_database(places, release, copy)
        writer.put_file(database, copy)
        for tenant, found in json.loads(ask(places, release, "definitions")).items():
            writer.put_json(f"definitions/{tenant}.json", found)
        count = _volumes(places, writer) if volumes else 0
    size = target.stat().st_size
    step(f"{target}: {size:,} bytes{f', {count} volumes' if volumes else '; volumes are not in it (--volumes)'}. {_SECRET}")
    return 0


def _about(places: Places, release: Path, volumes: bool) -> dict[str, Any]:
    return {
        "format": bundle.FORMAT,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "release": release.name,
        "database": kind(places),
        "migrations": json.loads(ask(places, release, "known"))["database"],
        "volumes": volumes,
    }


def _volumes(places: Places, writer: bundle.Writer) -> int:
    """How many. Those in memory and those that are folders of the host hold nothing that is ours."""
    from engine.engine import Engine
    from engine.model.codec import to_json
    from engine.volumes.store import check_own_files

    count = 0
    for spec in Engine(places.engine).volumes.list():
        try:
            check_own_files(spec)
        except Exception as error:
            step(f"volume {spec.name} of tenant {spec.tenant} is left out: {error}")
            continue
        folder = f"volumes/{spec.tenant}/{spec.name}"
        writer.put_json(f"{folder}/volume.json", to_json(spec))
        for number, piece in enumerate(contents.export_volume(places, spec.tenant, spec.name)):
            writer.put_bytes(f"{folder}/{number:06}", piece)
        count += 1
    return count


# -- shared with restore ---------------------------------------------------------------------------------


def kind(places: Places) -> str:
    return "sqlite" if places.embedded_database else "postgresql"


def state_file_name(places: Places) -> str:
    return "database.sqlite3" if places.embedded_database else "database.jsonl"


def copy_database(places: Places, release: Path, target: Path) -> None:
    """All of it as of one moment, into a new file."""
    if places.embedded_database:
        contents.copy_sqlite(places.panel / contents.DATABASE, target)
        return
    with target.open("xb") as file:
        done = subprocess.run(**_django(places, release, "state", "dump"), stdout=file, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Refusal(f"the database cannot be read: {prepare.last_line(done.stderr.decode())}")


def load_database(places: Places, release: Path, source: Path) -> None:
    """PostgreSQL's: in one transaction."""
    with source.open("rb") as file:
        done = subprocess.run(**_django(places, release, "state", "load"), stdin=file, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Refusal(f"the database cannot be written: {prepare.last_line(done.stderr.decode())}")


def ask(places: Places, release: Path, *words: str) -> str:
    """The panel's command ``state``. Refusal in its own words."""
    done = prepare.django(places, release, "state", *words)
    if done.returncode:
        raise Refusal(prepare.last_line(done.stderr).removeprefix("slipway: "))
    return done.stdout


def _django(places: Places, release: Path, *words: str) -> dict[str, Any]:
    user = parts.identity(USER)
    return {
        "args": [os.fspath(release / "venv" / "bin" / "python"), "-m", "django", *words],
        "cwd": release,
        "env": places.panel_environment(release),
        "user": user.uid,
        "group": user.gid,
        "extra_groups": user.groups,
    }
