"""``restore FILE``: what ``backup`` wrote, onto a clean instance. The hashes first; then all of it, or what was there before.

    <data>/etc/restoring.json      {"saved", "written": [[name in etc, was it there]], "volumes": [[tenant, name]], "database"}
    <data>/before-restore-<time>/  what was there: panel, ceilings, witness, etc/…

The note is written before anything is moved, and goes when all is done: one that was killed is undone by the next ``restore`` or ``up``.
Containers and images are of the machine and not in the file (docs/backup.md).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from engine import disk
from workers.platform import backup, bundle, contents, parts, prepare, stopping, tending
from workers.platform.places import USER, Places
from workers.platform.say import Refusal, step

_WHOLE: Final = ("panel", "ceilings", "witness")  # folders that are exchanged; of etc only what the backup has


def restore(places: Places, release: Path, source: Path, *, force: bool) -> int:
    undo_unfinished(places, release)
    step(f"checking {source}")
    about = bundle.check(source)
    _check_fits(places, release, about, force=force)
    was_running = stopping.stop_supervisor(places)
    note = _Note.begin(places)
    try:
        _put(places, release, source, note)
        prepare.make_folders(places)
        prepare.make_keys(places)
        (places.etc / "migrated").unlink(missing_ok=True)
        prepare.migrate(places, release)
        backup.ask(places, release, "restored", "--made-at", about["made_at"])
        if about["volumes"]:
            tending.tend(places, release)
            _put_volumes(places, source, note)
    except BaseException:
        step("it did not come to its end: what was there before comes back")
        undo_unfinished(places, release)
        if was_running:
            _up(places, release)
        raise
    note.end(keep=force)
    step(f"restored what was backed up at {about['made_at']}; {places.data}/restored says what containers and images each tenant had")
    return _up(places, release) if was_running else 0


def _check_fits(places: Places, release: Path, about: dict[str, Any], *, force: bool) -> None:
    if about["database"] != backup.kind(places):
        raise Refusal(f"the backup is of a platform on {about['database']}, and this one is on {backup.kind(places)} (DATABASE_URL)")
    if not (places.panel / "secret.key").exists():
        prepare.prepare(places, release)
    known = json.loads(backup.ask(places, release, "known"))["release"]
    if newer := sorted(set(about["migrations"]) - set(known)):
        raise Refusal(f"the backup was made by a later release (its database has {newer[0]}): install that one first")
    there = json.loads(backup.ask(places, release, "empty"))
    if (there["tenants"] or there["users"]) and not force:
        names = ", ".join([*(f"tenant {name}" for name in there["tenants"]), *(f"user {name}" for name in there["users"])])
        raise Refusal(f"this platform is in use ({names}): --force replaces all that the panel knows")


class _Note:
    """What an undo must know, on disk before it is true."""

    def __init__(self, places: Places, words: dict[str, Any]) -> None:
        self.places, self.words = places, words
        self.saved = Path(words["saved"])

    @classmethod
    def path(cls, places: Places) -> Path:
        return places.etc / "restoring.json"

    @classmethod
    def begin(cls, places: Places) -> _Note:
        saved = places.data / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
        saved.mkdir(mode=0o700)
        note = cls(places, {"saved": str(saved), "written": [], "volumes": [], "database": False})
        note.write()
        return note

    @classmethod
    def left(cls, places: Places) -> _Note | None:
        words = disk.read_json(cls.path(places))
        return None if words is None else cls(places, words)

    def write(self) -> None:
        disk.write_json(self.path(self.places), self.words, sync=True)

    def add(self, what: str, value: Any) -> None:
        self.words[what].append(value)
        self.write()

    def end(self, *, keep: bool) -> None:
        self.path(self.places).unlink()
        if not keep:
            disk.remove_tree(self.saved)
        else:
            step(f"what was there before lies in {self.saved}: it holds secrets, too; remove it when you are content")


def _put(places: Places, release: Path, source: Path, note: _Note) -> None:
    """All but the volumes. What is there goes aside first."""
    trees = contents.trees(places)
    if not places.embedded_database:
        backup.copy_database(places, release, note.saved / "database.jsonl")
    for folder in _WHOLE:
        trees[folder].mkdir(mode=0o700, exist_ok=True)
        trees[folder].rename(note.saved / folder)
        trees[folder].mkdir(mode=0o700)
    shutil.copy2(note.saved / "panel" / "ticket.key", places.panel)  # the agent lives on, and knows no other
    shutil.rmtree(places.data / "restored", ignore_errors=True)
    for member in bundle.members(source):
        top, _slash, name = member.name.partition("/")
        if top == "volumes":
            break
        if top == "etc":
            note.add("written", [name, (trees["etc"] / name).exists()])
            _aside(trees["etc"] / name, note.saved / "etc" / name)
        if top in trees:
            _write(trees[top] / name, member, panel=top == "panel")
        elif top == "definitions":
            _write(places.data / "restored" / name, member)
        elif member.name == "database.sqlite3":
            _write(places.panel / contents.DATABASE, member, panel=True)
            contents.check_sqlite(places.panel / contents.DATABASE)
        elif member.name == "database.jsonl":
            _load(places, release, member, note)
    for path in trees["witness"].iterdir():
        os.chown(path, 0, parts.gid())
    user = parts.identity(USER)
    for folder, _folders, _files in os.walk(places.panel, topdown=False):  # root's until now: nobody else changed a name in it
        os.chown(folder, user.uid, user.gid)


def _load(places: Places, release: Path, member: bundle.Member, note: _Note) -> None:
    rows = note.saved / "loading.jsonl"
    _write(rows, member)
    rows.chmod(0o600)
    note.words["database"] = True
    note.write()
    backup.load_database(places, release, rows)
    rows.unlink()


def _aside(path: Path, target: Path) -> None:
    if path.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def _write(path: Path, member: bundle.Member, *, panel: bool = False) -> None:
    """A new file, the panel's or root's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        shutil.copyfileobj(member.content, file, 1 << 20)
        os.fchmod(fd, member.mode)
        if panel:
            user = parts.identity(USER)
            os.fchown(fd, user.uid, user.gid)


def _put_volumes(places: Places, source: Path, note: _Note) -> None:
    from engine.engine import Engine
    from engine.model.codec import from_json
    from engine.model.volume import VolumeSpec

    engine = Engine(places.engine)
    under_way: contents.Import | None = None
    try:
        for member in bundle.members(source):
            if not member.name.startswith("volumes/"):
                continue
            if not member.name.endswith("/volume.json"):
                assert under_way is not None
                while data := member.content.read(1 << 20):
                    under_way.write(data)
                continue
            if under_way is not None:
                under_way.end()
            spec = from_json(VolumeSpec, json.loads(member.content.read()))
            if spec.name in engine.volumes.names(spec.tenant):
                raise Refusal(f"tenant {spec.tenant} has a volume {spec.name} here: remove or rename it first")
            note.add("volumes", [spec.tenant, spec.name])
            engine.ensure_tenant(spec.tenant)
            engine.create_volume(spec)
            under_way = contents.Import(places, spec.tenant, spec.name)
        if under_way is not None:
            under_way.end()
    finally:
        if under_way is not None:
            under_way.close()


def undo_unfinished(places: Places, release: Path) -> None:
    """What a restore that failed or was killed has done so far. Any number of times."""
    note = _Note.left(places)
    if note is None:
        return
    _remove_volumes(places, note.words["volumes"])
    trees = contents.trees(places)
    for folder in _WHOLE:
        if (note.saved / folder).exists():
            if trees[folder].exists():
                disk.remove_tree(trees[folder])
            (note.saved / folder).rename(trees[folder])
    for name, was_there in note.words["written"]:
        old, new = note.saved / "etc" / name, trees["etc"] / name
        if old.exists():
            old.replace(new)
        elif not was_there:
            new.unlink(missing_ok=True)
    rows = note.saved / "database.jsonl"
    if note.words["database"] and rows.exists():
        backup.load_database(places, release, rows)
    note.end(keep=False)
    step("a restore that did not come to its end was undone")


def _remove_volumes(places: Places, volumes: list[list[str]]) -> None:
    from engine.engine import Engine
    from engine.errors import EngineError

    engine = Engine(places.engine)
    for tenant, name in volumes:
        try:
            engine.volumes.remove(tenant, name)
        except EngineError as error:
            step(f"volume {name} of tenant {tenant}: {error}")


def _up(places: Places, release: Path) -> int:
    words = [os.fspath(release / "venv" / "bin" / "python"), os.fspath(release / "manage.py"), "up", "--detach", "--no-demo"]
    environment = {**os.environ, **places.variables, **places.own(), "PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, env=environment, check=False).returncode
