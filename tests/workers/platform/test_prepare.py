"""Keys in a folder that another user may write."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from workers.platform import parts, prepare
from workers.platform.places import USER, Places

pytestmark = [pytest.mark.guest, pytest.mark.requires("root")]


@pytest.fixture
def places(open_folder: Path) -> Places:
    made = Places.from_environment({"SLIPWAY_DATA": str(open_folder / "data"), "SLIPWAY_RUN": str(open_folder / "run")})
    prepare.ensure_user(made)
    prepare.make_folders(made)
    return made


def owner(path: Path) -> tuple[str, int]:
    found = path.lstat()
    return pwd.getpwuid(found.st_uid).pw_name, stat.S_IMODE(found.st_mode)


def test_keys_are_made_once_for_their_readers(places: Places) -> None:
    prepare.make_keys(places)
    before = [(places.panel / name).read_bytes() for name in ("secret.key", "seal.key", "ticket.key")]
    prepare.make_keys(places)
    assert [(places.panel / name).read_bytes() for name in ("secret.key", "seal.key", "ticket.key")] == before
    assert {owner(places.panel / name) for name in ("secret.key", "seal.key", "ticket.key")} == {(USER, 0o600)}
    assert owner(places.redis_key) == ("root", 0o600)


def test_a_key_that_root_made_becomes_the_panels(places: Places) -> None:
    (places.panel / "secret.key").write_text("made by a command that root ran")
    prepare.make_keys(places)
    assert owner(places.panel / "secret.key")[0] == USER


def test_a_database_that_root_made_becomes_the_panels(places: Places, tmp_path: Path) -> None:
    release = tmp_path / "release"
    places.etc.mkdir(exist_ok=True)
    (places.etc / "migrated").write_text(release.name)
    for name in ("slipway.sqlite3", "slipway.sqlite3-wal"):
        (places.panel / name).touch()
    prepare.migrate(places, release)
    assert owner(places.panel / "slipway.sqlite3")[0] == owner(places.panel / "slipway.sqlite3-wal")[0] == USER


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_planted_link_gives_nobody_a_file_of_root(places: Places, link: object) -> None:
    treasure = places.data / "treasure"
    treasure.write_text("root's")
    assert callable(link)
    link(treasure, places.panel / "ticket.key")
    try:
        prepare.make_keys(places)
    except OSError:
        pass  # ELOOP: a symbolic link is not followed
    assert owner(treasure)[0] == "root"


def test_folders_get_their_modes_back(places: Places) -> None:
    places.panel.chmod(0o777)
    prepare.make_folders(places)
    assert owner(places.panel) == (USER, 0o700)
    assert places.panel.stat().st_uid == parts.identity(USER).uid
