"""A platform is backed up while it runs and restored onto another: people, tokens, tenants, a volume's files, the audit chain."""

from __future__ import annotations

import http.client
import json
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import scratch
from tests.support.platform import Platform, running

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker"), pytest.mark.timeout(900)]
PATH = "/api/v1/tenants/attic"


@pytest.fixture(scope="module")
def fresh() -> Iterator[Platform]:
    """A second platform beside the session's, with nothing in it."""
    with scratch.open_folder() as folder, running(folder, "--no-demo") as second:
        yield second


def get(platform: Platform, path: str, token: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(platform.http, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def logs_in(platform: Platform, user: str, password: str) -> bool:
    connection = http.client.HTTPConnection(platform.http, timeout=30)
    connection.request("GET", "/accounts/login/")
    page = connection.getresponse()
    cookie = (page.getheader("Set-Cookie") or "").partition(";")[0]
    found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
    assert found
    words = urllib.parse.urlencode({"csrfmiddlewaretoken": found[1], "login": user, "password": password})
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/accounts/login/", words, headers)
    return connection.getresponse().status == 302


def test_a_restore_gives_back_what_the_panel_knew(platform: Platform, fresh: Platform, tmp_path: Path) -> None:
    platform.tenant("attic")
    password = platform.manage("user", "create", "ada").stdout.strip()
    platform.manage("member", "add", "attic", "ada", "--role", "admin")
    token = platform.manage("token", "create", "--tenant", "attic", "--role", "admin").stdout.strip()
    platform.docker("volume", "create", "data", tenant="attic")
    script = "echo kept > /v/file; mkdir /v/sub; echo x > /v/sub/own; chown 7:8 /v/sub/own; ln -s file /v/link"
    platform.docker("run", "--name", "web", "-e", "A=b", "-v", "data:/v", "busybox", "sh", "-c", script, tenant="attic")
    file = tmp_path / "state.slipway"
    said = platform.manage("backup", "-o", str(file), "--volumes").stderr
    assert "It holds secrets" in said and file.stat().st_mode & 0o777 == 0o600
    assert platform.manage("backup", "-o", str(file), check=False).returncode == 1  # never over another file

    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:-100])
    refused = fresh.manage("restore", str(damaged), check=False)
    assert refused.returncode == 1 and refused.stderr.startswith("slipway: ")

    fresh.manage("restore", str(file))
    fresh.wait_healthy()
    try:
        assert "attic" in fresh.manage("tenant", "list").stdout.split()
        assert logs_in(fresh, "ada", password) and not logs_in(fresh, "ada", "not this one")
        assert [row["user"] for row in get(fresh, f"{PATH}/members", token)[1]] == ["ada"]
        assert fresh.manage("member", "list", "attic").stdout == "ada\tadmin\n"
        fresh.docker("run", "--rm", "-v", "data:/v", *_busybox(platform, fresh), tenant="attic")
        looked = "cat /v/file /v/link; stat -c %u:%g /v/sub/own"
        assert fresh.docker("run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", looked, tenant="attic").stdout == "kept\nkept\n7:8\n"
        verified = fresh.manage("audit", "verify")
        assert "tenant attic: " in verified.stdout and "BROKEN" not in verified.stdout
        verbs = [row["verb"] for row in get(fresh, f"{PATH}/audit?limit=1000", token)[1]]
        assert {"tenant.create", "volume.create", "container.start", "member.add"} <= set(verbs)
        told = json.loads((fresh.data / "restored" / "attic.json").read_text())
        assert "A=b" in told["containers"][0]["create"]["Env"]

        again = fresh.manage("restore", str(file), check=False)
        assert again.returncode == 1 and "tenant attic" in again.stderr and "--force" in again.stderr
    finally:
        for container in fresh.docker("ps", "-aq", tenant="attic").stdout.split():
            fresh.docker("rm", "-f", container, tenant="attic")


def _busybox(platform: Platform, fresh: Platform) -> list[str]:
    """Images are not in a backup: this one goes by save and load."""
    saved = platform.data / "busybox.tar"
    platform.docker("save", "-o", str(saved), "busybox")
    fresh.docker("load", "-i", str(saved), tenant="attic")
    saved.unlink()
    return ["busybox", "true"]


def test_a_restore_that_fails_in_the_middle_undoes_itself(platform: Platform, fresh: Platform, tmp_path: Path) -> None:
    """Its volume is there already, which shows last of all."""
    file = tmp_path / "state.slipway"
    platform.manage("backup", "-o", str(file), "--volumes")
    fresh.manage("tenant", "create", "mine")
    before = _tenants(fresh)
    failed = fresh.manage("restore", str(file), "--force", check=False)
    assert failed.returncode == 1 and "has a volume data here" in failed.stderr
    fresh.wait_healthy()
    assert _tenants(fresh) == before and "mine" in before
    assert not list(fresh.data.glob("before-restore-*")) and not (fresh.data / "etc" / "restoring.json").exists()
    assert fresh.manage("audit", "verify").returncode == 0


def _tenants(platform: Platform) -> list[str]:
    with sqlite3.connect(platform.data / "panel" / "slipway.sqlite3") as database:
        return [name for (name,) in database.execute("SELECT name FROM tenants_tenant ORDER BY name")]
