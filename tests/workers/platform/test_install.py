"""The installed copy: what goes in, who may write it, and that nothing is done twice."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platform import ROOT
from tests.support.scratch import open_folder
from workers.platform import assets, checks, install, venv
from workers.platform.places import Places, load_env_file
from workers.platform.say import Refusal
from workers.platform.sockets import split


def _everybody_reaches(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


def test_the_bootstrap_imports_nothing_but_the_standard_library() -> None:
    """It runs before any environment exists: -S and -E hide every installed package."""
    modules = ("commands", "install", "develop", "doctor", "apt", "assets", "messages", "checks")
    code = "".join(f"import workers.platform.{name}\n" for name in modules)
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not _everybody_reaches(ROOT), reason="other users do not reach this checkout")
def test_an_ordinary_user_is_told_who_can_help() -> None:
    user = 65534 if os.geteuid() == 0 else None
    done = subprocess.run(["/usr/bin/python3", ROOT / "manage.py", "up"], capture_output=True, text=True, user=user, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs root" in done.stderr and "sudo" in done.stderr


@pytest.mark.skipif(not _everybody_reaches(ROOT), reason="other users do not reach this checkout")
def test_the_doctor_calls_nothing_fine_that_it_could_not_try() -> None:
    user = 65534 if os.geteuid() == 0 else None
    done = subprocess.run(["/usr/bin/python3", ROOT / "manage.py", "doctor"], capture_output=True, text=True, user=user, check=False)
    rows = done.stdout.splitlines()
    assert {row.split(maxsplit=1)[0] for row in rows} <= {"ok", "absent", "MISSING", "untried", "note"}
    assert "untried  user namespaces: only root may" in rows
    assert rows[-1] == "note     `sudo ./manage.py doctor` tries the rest"


@pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft")
def test_a_port_that_is_taken_is_told_before_anything_is_installed() -> None:
    with open_folder() as folder, socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        places = {"SLIPWAY_DATA": str(folder / "data"), "SLIPWAY_RUN": str(folder / "run"), "SLIPWAY_HTTP": address}
        words = ["/usr/bin/python3", ROOT / "manage.py", "up", "--detach"]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **places}, check=False)
        taken = f"slipway: {address} is taken by another program: stop that one, or set SLIPWAY_HTTP to a free address\n"
        assert (done.returncode, done.stderr) == (1, taken)
        assert not (folder / "data").exists()


def test_a_command_before_the_first_up_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "SLIPWAY_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, ROOT / "manage.py", "status"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "./manage.py up" in done.stderr


def test_the_same_sources_have_the_same_key_and_a_changed_line_another(tmp_path: Path) -> None:
    for name in install._FILES:
        (tmp_path / name).write_text(name)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "a.py").write_text("a = 1\n")
    environment = tmp_path / "venv"
    first = install._content_key(tmp_path, environment)
    (tmp_path / "engine" / "__pycache__").mkdir()
    (tmp_path / "engine" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert install._content_key(tmp_path, environment) == first
    (tmp_path / "engine" / "a.py").write_text("a = 2\n")
    assert install._content_key(tmp_path, environment) != first


def test_an_interpreter_below_root_is_not_taken(tmp_path: Path) -> None:
    hidden = tmp_path / "python3"
    hidden.write_text("")
    hidden.chmod(0o755)
    tmp_path.chmod(0o700)
    assert not venv._everybody_reaches(hidden)
    assert venv._everybody_reaches(Path(venv.interpreter(for_everybody=True)).resolve())


def test_only_icons_that_templates_name_are_copied(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("""{% icon "player-play" %} {% icon 'trash' class="x" %} {% include "icon" %}""")
    assert assets.icon_names(tmp_path) == {"player-play", "trash"}


def test_an_unknown_icon_is_named(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text('{% icon "no-such-thing" %}')
    (tmp_path / "cached" / "icons-all").mkdir(parents=True)
    with pytest.raises(Refusal, match="no-such-thing"):
        assets.place(tmp_path, tmp_path / "cached", tmp_path / "vendor")


def test_no_lock_file_names_a_registry() -> None:
    for name in ("package-lock.json", "requirements.lock", "requirements-test.lock", "requirements-assets.lock"):
        text = (ROOT / name).read_text()
        assert '"resolved"' not in text and "index-url" not in text and "registry." not in text, name


def test_env_file_gives_what_the_environment_does_not(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a comment\nSLIPWAY_HTTP=127.0.0.1:9000\nSLIPWAY_HOST = 'alpha'\n\nbroken line\n")
    environment = {"SLIPWAY_HTTP": "127.0.0.1:1"}
    load_env_file(tmp_path / ".env", environment)
    assert environment == {"SLIPWAY_HTTP": "127.0.0.1:1", "SLIPWAY_HOST": "alpha"}


def test_no_part_of_the_host_learns_the_database(tmp_path: Path) -> None:
    places = Places.from_environment(
        {
            "DATABASE_URL": "postgres://secret",
            "SECRET_KEY": "secret",
            "SEAL_KEY": "secret",
            "REDIS_URL": "redis://x",
            "HISTFILE": "/root/.h",
        }
    )
    host, panel = places.host_environment(tmp_path), places.panel_environment(tmp_path)
    assert "secret" not in repr(host)
    assert panel["DATABASE_URL"] == "postgres://secret"
    assert "HISTFILE" not in panel


@pytest.mark.parametrize(("address", "parts"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8000", ("::1", 8000)), (":9", ("", 9))])
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    assert split(address) == parts


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:port", "1.2.3.4:99999", ""])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(Refusal, match=r"127\.0\.0\.1:8000"):
        split(address)


@pytest.mark.parametrize("run", ["/run/with a space", "/run/$HOME", "/run/" + "long" * 20])
def test_places_that_would_break_later_are_refused_now(run: str) -> None:
    with pytest.raises(Refusal, match="SLIPWAY_RUN"):
        checks.require_places(Places.from_environment({"SLIPWAY_RUN": run}))
    checks.require_places(Places.from_environment({}))
