"""``python3 -m engine`` on a machine where nothing of the panel runs, typed with Debian's own python3."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import leaving
from engine.config import EngineConfig
from engine.engine import Engine
from engine.runtime.client import KeeperClient
from tests.support.scratch import open_folder

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    """Runs one command in folders of its own; everything it made goes at the end."""
    with open_folder() as folder:
        config = EngineConfig(folder / "data", folder / "run")
        config.run.mkdir()
        environment = {**os.environ, "SLIPWAY_DATA": str(config.data), "SLIPWAY_RUN": str(config.run)}

        def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            command = [PYTHON, "-m", "engine", *words]
            return subprocess.run(command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False)

        try:
            yield run
        finally:
            KeeperClient(config).stop(containers=True)
            leaving.remove_all(Engine(config))


@pytest.mark.guest
def test_output_and_exit_code(cli: Cli) -> None:
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo hi; echo oh >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("hi\n", "oh\n", 3)
    assert len(cli("ps", "-a").stdout.splitlines()) == 1


def test_a_limit_that_nothing_starts_with_is_refused_as_docker_does(cli: Cli) -> None:
    done = cli("run", "--rm", "--memory", "1", "busybox", "true")
    assert (done.returncode, done.stderr) == (125, "engine: Minimum memory limit allowed is 6MB\n")
    assert len(cli("ps", "-a").stdout.splitlines()) == 1


@pytest.mark.guest
def test_an_ordinary_user_is_told_in_one_line() -> None:
    """Also where the environment beside the checkout is one that he may not look into."""
    with open_folder() as folder:
        shutil.copytree(ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / ".venv").mkdir(mode=0o700)
        folder.chmod(0o755)  # a module is looked for by reading its folder
        words = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [PYTHON, "-m", "engine", "ps"], cwd=folder, env=words, user=65534, group=65534, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("engine: ") and done.stderr.count("\n") == 1


@pytest.mark.guest
def test_input_and_its_end(cli: Cli) -> None:
    assert cli("run", "--rm", "-i", "busybox", "wc", "-c", stdin="x" * 100_000).stdout.strip() == "100000"


def test_exec_in_a_container_that_runs(cli: Cli) -> None:
    container = cli("run", "-d", "--network", "none", "busybox", "sleep", "600").stdout.strip()
    try:
        done = cli(
            "exec", "-i", "-e", "A=b", "-w", "/tmp", "-u", "1", container, "sh", "-c", "cat; echo $A >&2; pwd; id -u; exit 3", stdin="x\n"
        )
        assert (done.stdout, done.stderr, done.returncode) == ("x\n/tmp\n1\n", "b\n", 3)
        assert len(cli("exec", "-i", container, "cat", stdin="x" * 1_000_000).stdout) == 1_000_000
        done = cli("exec", container, "no-such-command")
        assert done.returncode == 127 and "executable file not found in $PATH" in done.stderr
        assert cli("exec", "-t", container, "tty").stdout == "/dev/pts/0\n"
        assert (cli("exec", "-d", container, "sleep", "500").returncode, cli("exec", "nowhere", "true").returncode) == (0, 1)
    finally:
        cli("rm", "-f", container)


@pytest.mark.guest
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("busybox", "no-such-command"), 127, "executable file not found in $PATH"),
        (("busybox", "/etc/passwd"), 126, "permission denied"),
        (("127.0.0.1:9/nowhere", "true"), 125, "Unable to find image '127.0.0.1:9/nowhere:latest' locally\nengine: "),
        (("--name", "..", "busybox", "true"), 125, "Invalid container name"),
    ],
)
def test_a_start_that_fails_leaves_nothing(cli: Cli, words: tuple[str, ...], code: int, says: str) -> None:
    done = cli("run", "--rm", *words)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(cli("ps", "-a").stdout.splitlines()) == 1


def test_a_detached_one_is_listed_logged_stopped_and_removed(cli: Cli) -> None:
    started = cli("run", "-d", "--name", "worker", "busybox", "sh", "-c", "echo begun; exec sleep 600")
    assert started.returncode == 0
    assert "worker" in cli("ps").stdout
    assert cli("logs", "worker").stdout == "begun\n"
    assert "container is running" in cli("rm", "worker").stderr
    assert cli("stop", "-t", "0", "worker").returncode == 0
    assert "exited (137)" in cli("ps", "-a").stdout
    assert cli("rm", "worker").returncode == 0


@pytest.mark.guest
def test_a_terminal_is_a_terminal(cli: Cli) -> None:
    assert cli("run", "--rm", "-t", "busybox", "tty").stdout == "/dev/pts/0\n"  # text mode takes the \r away


def test_what_root_grants_and_takes_back(cli: Cli) -> None:
    cli("run", "--rm", "--network", "none", "busybox", "true")  # the tenant has its ids
    done = cli("ceiling", "--nfs", "localhost:/srv/a/:ro", "--nfs", "127.0.0.2:/srv/b:port=20049")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("NFS exports: "))
    assert re.fullmatch(
        r"NFS exports: localhost:/srv/a:ro at (127\.0\.0\.1|::1), 127\.0\.0\.2:/srv/b:port=20049"
        r" \(there the root of its containers is uid and gid \d+, 1 the next, and so on\)",
        line,
    )
    assert "NFS exports: none\n" in cli("ceiling", "--no-nfs", "LOCALHOST:/srv/a", "--no-nfs", "127.0.0.2:/srv/b").stdout
    refused = cli("ceiling", "--nfs", "localhost")
    assert refused.returncode == 1 and "invalid export 'localhost': use SERVER:/PATH" in refused.stderr
