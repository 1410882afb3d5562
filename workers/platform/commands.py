"""The commands of manage.py and where each runs.

    from the checkout, any Python     up (installs, then goes on in the release), release, assets, messages, doctor, test, lint
    from the installed release        down, status, logs, service, uninstall, keeper, and the panel's own commands

"From the release" means: this process is replaced by the release's Python running the release's manage.py, so root runs
nothing that another user may have changed since it was installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.errors import EngineError
from workers.platform import checks, install
from workers.platform.places import Places, load_env_file
from workers.platform.say import Refusal

ROOT: Final = Path(__file__).resolve().parents[2]  # a checkout, or a release
PANEL_COMMANDS: Final = ("tenant", "project", "token", "context", "user", "member", "role", "group", "audit")


def main(words: Sequence[str]) -> int:
    os.umask(0o022)  # what root installs must be readable for the panel's user
    try:
        return _run(list(words))
    except Refusal as refusal:
        print(f"slipway: {refusal}", file=sys.stderr)
        return 1
    except (OSError, EngineError) as error:
        print(f"slipway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(words: list[str]) -> int:
    environment = dict(os.environ)
    load_env_file(ROOT / ".env", environment)
    places = Places.from_environment(environment)
    if words and words[0] in PANEL_COMMANDS:
        release = _in_release(places, words)
        from workers.platform import panel

        return panel.run(places, release, words)
    if words and words[0] in ("test", "lint", "bench"):
        from workers.platform import develop

        return develop.run(ROOT, words[0], words[1:])
    options = _parser().parse_args(words)
    if options.command == "up":
        return _up(places, words, options)
    if options.command in ("assets", "messages"):
        from workers.platform import develop

        return develop.build(ROOT, options.command)
    if options.command == "release":
        checks.require_root("release")
        install.install(ROOT, dataclasses.replace(places, data=options.folder.absolute()), packages={})
        return 0
    if options.command == "doctor":
        if options.repair:
            return _repair(places, words)
        from workers.platform.doctor import doctor

        return doctor(places)
    checks.require_root(options.command)
    release = _in_release(places, words)
    return _in_place(places, release, options)


def _up(places: Places, words: list[str], options: argparse.Namespace) -> int:
    checks.require_root("up")
    checks.require_places(places)
    checks.require_panel(places)
    checks.require_one_way_in(places)
    if not install.is_release(ROOT):
        checks.require_kernel(places)
        if places.panel_here and not places.supervisor_socket.exists():  # before minutes of installing; `up` looks again
            checks.require_ports(places)
        _replace(install.install(ROOT, places), places, words)
    from workers.platform.up import up

    return up(places, _in_release(places, words), detach=options.detach, with_demo=not options.no_demo)


def _repair(places: Places, words: list[str]) -> int:
    """In the installed release when there is one; what instances that are gone left needs none."""
    checks.require_root("doctor --repair")
    installed = install.is_release(ROOT) or install.installed(places) is not None
    release = _in_release(places, words) if installed else None
    from workers.platform.repair import repair

    return repair(places, release)


def _in_place(places: Places, release: Path, options: argparse.Namespace) -> int:
    from workers.platform import backup, logs, restore, service, status, stopping, tending, uninstall

    match options.command:
        case "down":
            return stopping.down(places, containers=options.containers)
        case "status":
            return status.status(places, as_json=options.json)
        case "logs":
            return logs.logs(places, options.part, follow=options.follow)
        case "service":
            return service.install(places) if options.act == "install" else service.remove(places)
        case "keeper":
            if options.act == "start":
                tending.start(places, release)
            else:
                stopping.stop_containers(places)
            return 0
        case "backup":
            return backup.backup(places, release, options.output, volumes=options.volumes)
        case "restore":
            return restore.restore(places, release, options.file, force=options.force)
        case "uninstall":
            return uninstall.uninstall(places, agreed=options.yes)
    raise Refusal(f"no command {options.command}")


def _in_release(places: Places, words: list[str]) -> Path:
    """This release, when it is one and its environment runs it; else this process becomes the installed one."""
    if install.is_release(ROOT):
        if sys.prefix != str((ROOT / "venv").resolve()) and sys.prefix != str(ROOT / "venv"):
            _replace(ROOT, places, words)
        return ROOT
    release = install.installed(places)
    if release is None:
        raise Refusal(f"nothing is installed in {places.data}: `sudo ./manage.py up` does it (SLIPWAY_DATA names another place)")
    _replace(release, places, words)
    raise AssertionError("execve returned")


def _replace(release: Path, places: Places, words: list[str]) -> None:
    python = str(release / "venv" / "bin" / "python")
    variables = {**os.environ, **places.variables, **places.own(), "PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, [python, str(release / "manage.py"), *words], variables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="manage.py",
        description="A multi-tenant container platform on one machine.",
        epilog=f"The panel's commands: {', '.join(PANEL_COMMANDS)}; and test, lint, bench. Each explains itself with --help.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    up = command("up", "install what is missing, start everything, serve until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="return when every part answers")
    up.add_argument("--no-demo", action="store_true", help="no demo tenant, image and container")
    down = command("down", "stop web, workers and Redis; containers go on")
    down.add_argument("--containers", action="store_true", help="end the containers and their keeper too")
    status = command("status", "each part, its pid, healthy or why not")
    status.add_argument("--json", action="store_true")
    doctor = command("doctor", "what this kernel and host can do; each missing thing with reason and fix")
    doctor.add_argument("--repair", action="store_true", help="find and remove what crashes left on this machine, naming each thing")
    logs = command("logs", "the parts' own logs")
    logs.add_argument("part", nargs="?")
    logs.add_argument("-f", "--follow", action="store_true")
    service = command("service", "systemd units: platform and containers come back after a reboot")
    service.add_argument("act", choices=("install", "remove"))
    keeper = command("keeper", "start the keeper alone, or end it with all containers (the unit's commands)")
    keeper.add_argument("act", choices=("start", "stop"))
    copy = command("backup", "the panel's own state into one file, while the platform runs; containers and images are not in it")
    copy.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a new file, which holds secrets")
    copy.add_argument("--volumes", action="store_true", help="and what lies in the volumes of all tenants")
    back = command("restore", "what backup wrote, onto a clean platform: all of it or nothing")
    back.add_argument("file", type=Path, metavar="FILE")
    back.add_argument("--force", action="store_true", help="also where there are tenants: all that the panel knows is replaced")
    remove = command("uninstall", "remove everything that was installed and made, after asking")
    remove.add_argument("--yes", action="store_true", help="don't ask")
    release = command("release", "install code and environment into FOLDER/app and start nothing, as images do (docker/Dockerfile)")
    release.add_argument("folder", type=Path, metavar="FOLDER")
    command("assets", "fetch the front-end files into this checkout")
    command("messages", "compile the translations of this checkout")
    return parser
