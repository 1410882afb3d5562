"""``up``: prepare, start the supervisor, wait until every part answers, say where everything is.

In the foreground this process *becomes* the supervisor (Ctrl-C and systemd reach it under the pid they know) and a short-lived
child does the waiting and printing; with --detach it is the other way round.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

from engine.errors import EngineError
from workers.platform import checks, demo, health, logfiles, parts, prepare, restore, sockets, stopping, tending
from workers.platform.places import DEMO_TENANT, Places
from workers.platform.say import Refusal, line, step

READY_WITHIN_S: Final = 120.0  # an emulated guest is fifty times slower than the machines we know
_ASK_EVERY_S: Final = 0.05


def up(places: Places, release: Path, *, detach: bool, with_demo: bool) -> int:
    """The exit code; in the foreground it does not return."""
    with_demo = with_demo and places.panel_here
    running = health.supervisor_parts(places)
    if running is not None:
        if running["release"] == release.name and (running["http"], running.get("tls", "")) == (places.http, places.tls):
            return _announce(places, release, with_demo=with_demo)
        step(f"replacing the running platform of release {running['release']} at {running['http']}; containers go on")
        stopping.stop_supervisor(places)
    checks.require_kernel(places)
    checks.require_redis(places)
    if places.panel_here:
        checks.require_ports(places)
    restore.undo_unfinished(places, release)
    prepare.prepare(places, release)
    tending.tend(places, release, renew=True)
    pid = os.fork()
    if detach == (pid == 0):
        _become_supervisor(places, release, detach=detach)
    code = _announce(places, release, with_demo=with_demo)
    if detach:
        return code
    os._exit(code)


def _become_supervisor(places: Places, release: Path, *, detach: bool) -> None:
    if detach:
        os.setsid()
        null, log = (os.open("/dev/null", os.O_RDONLY), logfiles.open_log(places.log, "supervisor"))
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
    python = str(release / "venv" / "bin" / "python")
    os.chdir(release)
    variables = {
        **places.variables,
        **places.own(),
        "PYTHONPATH": str(release),
        "PATH": os.environ.get("PATH", ""),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    os.execve(python, [python, "-m", "workers.platform.supervisor"], variables)


def _announce(places: Places, release: Path, *, with_demo: bool) -> int:
    if not wait_until_healthy(places):
        for part in health.check(places):
            if not part.healthy:
                print(f"slipway: {part.name}: {part.detail}", file=sys.stderr)
        print(f"slipway: not every part answers yet; they are tried again; logs are in {places.log}", file=sys.stderr, flush=True)
        return 1
    login = demo.first_login(places, release)
    try:
        if with_demo:
            demo.first_container(places, release)
    except (Refusal, EngineError, OSError) as failure:
        print(f"slipway: no demo container: {failure}", file=sys.stderr, flush=True)
        return 1
    finally:
        say_where(places, login)  # whatever happened: the password must not be lost
    return 0


def wait_until_healthy(places: Places) -> bool:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if all(part.healthy or part.name in parts.elsewhere(places) for part in health.check(places, patience_s=2.0)):
            return True
        time.sleep(_ASK_EVERY_S)
    return False


def say_where(places: Places, login: demo.Login | None) -> None:
    line()
    line(f"Dashboard   http://{places.http}/")
    if places.tls and places.panel_here:
        name, port = (places.tls_folder / "names").read_text().split()[0], sockets.split(places.tls)[1]
        line(f"TLS         https://{f'[{name}]' if ':' in name else name}:{port}/   (who vouches for it: {places.tls_folder}/ca.pem)")
    if login is not None:
        line(f"Login       {login.user}  password  {login.password}   (printed once; ./manage.py user password {login.user} sets another)")
    if places.panel_here:
        line()
        line(f"export DOCKER_HOST={places.docker_host(DEMO_TENANT)}")
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        host, port = sockets.split(places.http)
        user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
        line()
        line("From your own machine, then open http://localhost:8000/ there:")
        line(f"ssh -L 8000:{host or '127.0.0.1'}:{port} {user}@{_own_address()}")
    sys.stdout.flush()


def _own_address() -> str:
    """Where ssh reached us, else where the default route leaves from, else our name."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        return connection[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: a route is looked up, nothing is sent
            return str(sock.getsockname()[0])
        except OSError:
            return socket.gethostname()
