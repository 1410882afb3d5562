"""``up`` and its family as users type them, on a platform of their own."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from tests.support import leftovers, machine
from tests.support import platform as platforms
from tests.support.platform import PYTHON, ROOT, Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft"), pytest.mark.timeout(1800)]

PARTS = ["redis", "web", "panel-worker", "host-worker", "keeper", "launcher", "logger", "netd", "agent"]
KILLED_FOR_S = 15.0  # the promise: healthy again by then


def ask(platform: Platform, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """The Docker API of the demo tenant."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(platform.socket("demo")))
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, f"/v1.44{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def demo_pid(platform: Platform) -> int:
    status, said = ask(platform, "GET", "/containers/demo/json")
    assert status == 200, said
    return int(json.loads(said)["State"]["Pid"])


def demo_lines(platform: Platform) -> list[int]:
    """The numbers in the demo container's log since its last start: other tests of this platform stop all containers."""
    status, said = ask(platform, "GET", "/containers/demo/logs?stdout=1&tail=all")
    assert status == 200, said
    numbers = [int(number) for number in re.findall(rb"line (\d+)", said)]
    return numbers[len(numbers) - numbers[::-1].index(1) - 1 :] if numbers else []


def wait_for_line(platform: Platform, number: int, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s * machine.slowness()
    while max(demo_lines(platform), default=0) < number:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.guest
def test_every_part_answers_after_up(platform: Platform) -> None:
    done = platform.manage("status", "--json")
    status = json.loads(done.stdout)
    assert status["healthy"] is True
    assert [part["name"] for part in status["parts"]] == PARTS
    assert all(part["pid"] and Path(f"/proc/{part['pid']}").exists() for part in status["parts"])


@pytest.mark.guest
def test_up_says_where_everything_is(platform: Platform) -> None:
    said = platform.said.splitlines()
    assert f"Dashboard   http://{platform.http}/" in said
    assert f"export DOCKER_HOST=unix://{platform.socket('demo')}" in said
    assert any(row.startswith("ssh -L") for row in said) or os.environ.get("DISPLAY")
    assert platform.manage("tenant", "endpoint", "demo").stdout == f"unix://{platform.socket('demo')}\n"


@pytest.mark.guest
def test_the_printed_password_logs_in(platform: Platform) -> None:
    user, password = platform.login()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar := CookieJar()))
    page = opener.open(f"{platform.url}/", timeout=60)
    assert "login" in page.geturl()
    token = next(re.finditer(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode()))[1]
    form = urllib.parse.urlencode({"login": user, "password": password, "csrfmiddlewaretoken": token}).encode()
    answer = opener.open(urllib.request.Request(page.geturl(), form, {"Referer": page.geturl()}), timeout=60)
    assert "login" not in answer.geturl()
    assert any(cookie.name == "slipway_session" for cookie in jar)


@pytest.mark.guest
def test_the_demo_container_prints(platform: Platform) -> None:
    wait_for_line(platform, 3)
    lines = demo_lines(platform)
    assert lines == list(range(1, len(lines) + 1))


@pytest.mark.guest
def test_web_and_the_panels_worker_have_no_privilege(platform: Platform) -> None:
    panel = pwd.getpwnam("slipway").pw_uid
    for name in ("web", "panel-worker"):
        words = dict(row.split(":", 1) for row in Path(f"/proc/{platform.part(name)['pid']}/status").read_text().splitlines())
        assert words["Uid"].split() == [str(panel)] * 4
        assert [int(words[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0, 0, 0, 0]
        assert words["NoNewPrivs"].strip() == "1"


def test_root_runs_only_what_root_may_write(platform: Platform) -> None:
    app = platform.data / "app"
    found = subprocess.run(
        ["find", app, "(", "-not", "-user", "root", "-o", "-not", "-type", "l", "-perm", "/022", ")"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == ""
    for name in PARTS[1:]:
        assert Path(f"/proc/{platform.part(name)['pid']}/cmdline").read_bytes().startswith(f"{app}/releases/".encode())


@pytest.mark.guest
def test_secrets_stay_with_their_owners(platform: Platform) -> None:
    def mode(path: Path) -> tuple[str, int]:
        found = path.stat()
        return pwd.getpwuid(found.st_uid).pw_name, found.st_mode & 0o777

    assert mode(platform.data / "engine") == ("root", 0o700)
    assert mode(platform.data / "panel") == ("slipway", 0o700)
    assert mode(platform.data / "redis") == ("redis", 0o700)
    assert mode(platform.data / "etc" / "redis.key") == ("root", 0o600)
    environment = Path(f"/proc/{platform.part('host-worker')['pid']}/environ").read_bytes()
    assert b"DATABASE_URL" not in environment and b"SECRET_KEY" not in environment and b"DJANGO" not in environment


def test_a_second_up_installs_nothing_and_answers_at_once(platform: Platform) -> None:
    began = time.monotonic()
    done = platform.manage("up", "--detach")
    took_s = time.monotonic() - began
    assert "install" not in done.stderr
    assert "Login" not in done.stdout and f"export DOCKER_HOST=unix://{platform.socket('demo')}" in done.stdout
    assert took_s < 5 * machine.slowness()


def test_an_up_at_another_address_moves_there(platform: Platform) -> None:
    pid = demo_pid(platform)
    moved = Platform(platform.data, platform.run, f"127.0.0.1:{platforms.free_port()}")
    try:
        assert f"Dashboard   http://{moved.http}/" in moved.up()
        with urllib.request.urlopen(f"{moved.url}/_ping", timeout=60) as answer:
            assert answer.status == 200
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{platform.url}/_ping", timeout=60)
    finally:
        platform.up()
    assert demo_pid(platform) == pid


@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_is_back_and_the_container_never_noticed(platform: Platform, name: str) -> None:
    pid, before = demo_pid(platform), platform.part(name)["pid"]
    os.kill(before, signal.SIGKILL)
    platform.wait_healthy(KILLED_FOR_S * machine.slowness())
    assert platform.part(name)["pid"] != before
    assert demo_pid(platform) == pid
    wait_for_line(platform, max(demo_lines(platform)) + 2)
    lines = demo_lines(platform)
    assert lines == list(range(1, len(lines) + 1))


def test_down_leaves_containers_and_the_next_up_takes_them_over(platform: Platform) -> None:
    pid, last = demo_pid(platform), max(demo_lines(platform))
    platform.manage("down")
    try:
        done = platform.manage("status", "--json", check=False)
        status = json.loads(done.stdout)
        assert done.returncode == 1 and status["healthy"] is False
        healthy = {part["name"]: part["healthy"] for part in status["parts"]}
        assert [name for name in PARTS if healthy[name]] == ["keeper", "launcher", "logger", "netd", "agent"]
        assert Path(f"/proc/{pid}").exists()
        time.sleep(3)
    finally:
        began = time.monotonic()
        platform.up()
        took_s = time.monotonic() - began
    assert demo_pid(platform) == pid
    lines = demo_lines(platform)
    assert lines == list(range(1, len(lines) + 1)) and lines[-1] >= last + 3
    assert took_s < 5 * machine.slowness()


def test_ctrl_c_stops_the_platform_and_leaves_containers(platform: Platform) -> None:
    pid = demo_pid(platform)
    platform.manage("down")
    foreground = subprocess.Popen(
        [PYTHON, ROOT / "manage.py", "up"], env=platform.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert foreground.stdout is not None
        for row in foreground.stdout:
            if row.startswith("export DOCKER_HOST="):
                break
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(60) == 0
        assert Path(f"/proc/{pid}").exists()
    finally:
        if foreground.poll() is None:
            foreground.kill()
        foreground.communicate()
        platform.up()
    assert demo_pid(platform) == pid


@pytest.mark.guest
def test_logs_are_there_for_every_part(platform: Platform) -> None:
    assert "host-worker |" in platform.manage("logs").stdout or (platform.data / "log" / "host-worker.log").stat().st_size == 0
    assert "ready to accept connections" in platform.manage("logs", "redis").stdout.lower()
    unknown = platform.manage("logs", "cellar", check=False)
    assert unknown.returncode == 1 and "redis" in unknown.stderr


@pytest.fixture
def second(open_folder: Path) -> Iterator[Platform]:
    with platforms.running(open_folder) as instance:
        yield instance


def test_two_platforms_live_side_by_side_and_one_goes_without_a_trace(platform: Platform, second: Platform) -> None:
    wait_for_line(second, 2)
    assert platform.status()["healthy"] and second.status()["healthy"]
    assert demo_pid(platform) != demo_pid(second)
    instance = (second.data / "engine" / "instance").read_text().strip()
    assert instance != (platform.data / "engine" / "instance").read_text().strip()
    assert any(instance in row for row in leftovers.found())
    second.manage("uninstall", "--yes")
    assert not second.data.exists() and not second.run.exists()
    assert [row for row in leftovers.found() if instance in row or str(second.data) in row] == []
    assert instance not in Path("/etc/subuid").read_text()
    assert platform.status()["healthy"]


def test_after_a_power_cut_containers_have_exited_and_start_again(second: Platform) -> None:
    """Every process of the platform dies at once, the container's too, and the run folder is empty, as after a reboot."""
    wait_for_line(second, 1)
    pids = [part["pid"] for part in second.status()["parts"]] + [demo_pid(second)]
    second.manage("down")  # the supervisor; what it ran is gone, too
    foster = int(Path(f"/proc/{pids[PARTS.index('keeper')]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    dying = [foster, *pids[len(PARTS) - 5 :]]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none sees another die
        for pid in dying:
            os.kill(pid, number)
    shutil.rmtree(second.run)
    second.up()
    status, said = ask(second, "GET", "/containers/demo/json")
    assert status == 200
    state = json.loads(said)["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 137, False)
    assert ask(second, "POST", "/containers/demo/start")[0] == 204
    assert demo_pid(second) > 0


def test_a_taken_port_is_said_in_one_line(platform: Platform, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        platform.manage("down")
        try:
            other = Platform(platform.data, platform.run, address)
            done = other.manage("up", "--detach", check=False)
        finally:
            platform.up()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"slipway: {address} is taken")


@pytest.mark.guest
def test_uninstall_asks_first(platform: Platform) -> None:
    done = platform.manage("uninstall", check=False)
    assert done.returncode == 1 and "--yes" in done.stderr
    assert platform.status()["healthy"]
