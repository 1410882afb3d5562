"""Who asks: a tenant made for it, kept small by quotas, and its doors with their keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

from tests.attack.ground import Browser
from tests.fuzz.docker import Docker
from tests.fuzz.pages import Pages
from tests.fuzz.rest import EACH, Rest
from tests.fuzz.run import TENANT, Source
from tests.fuzz.wire import Door
from tests.support.platform import Platform

KINDS: Final = ("docker", "rest", "pages")
_PERSON: Final = "fuzzer"
# so that nothing which is asked for by chance takes the machine from others
_QUOTA: Final = (
    "--cpus 1 --memory 600m --swap 100m --pids 400 --disk 2g --containers 24 --volumes 24 --networks 12 --published 20 --images 600m "
    "--logs 64m --builds 1 --tokens 100"
)


@contextmanager
def tenant(platform: Platform) -> Iterator[None]:
    """Gone afterwards, with all that it has."""
    platform.tenant(TENANT)
    try:
        platform.manage("tenant", "quota", TENANT, *_QUOTA.split())
        platform.manage("tenant", "policy", TENANT, "--deny", "ports", "--allow", "ports=20000-20999")
        platform.docker("run", "--rm", "busybox", "true", tenant=TENANT)  # makes the tenant's bridge and cgroup, which stay
        yield
    finally:
        platform.manage("tenant", "delete", TENANT, "--now")


def sources(
    platform: Platform, kinds: Sequence[str], *, seed: int, unix: Door, http: Door, clients: int = 1, only: str = "", each: int = EACH
) -> list[Source]:
    """``clients`` of Docker's: the first on the tenant's socket, the second on the panel's port with a token, and so on by turns."""
    found: list[Source] = []
    for number in range(clients if "docker" in kinds else 0):
        door = Door(http.address, f"Authorization: Bearer {_token(platform)}\r\n".encode()) if number % 2 else unix
        found.append(Docker(door, Random(f"{seed} docker {number}"), only=only))
    if "rest" in kinds:
        from controlpanel.api import document

        found.append(Rest(http, Random(f"{seed} rest"), document(), lambda: _token(platform), TENANT, seed=seed, each=each))
    if "pages" in kinds:
        found.append(Pages(http, Random(f"{seed} pages"), lambda: _log_in(platform), TENANT))
    return found


def _token(platform: Platform) -> str:
    return platform.manage("token", "create", "--tenant", TENANT, "--role", "owner").stdout.split()[-1]


def _log_in(platform: Platform) -> Browser:
    made = platform.manage("user", "create", _PERSON, check=False)
    password = (made if made.returncode == 0 else platform.manage("user", "password", _PERSON)).stdout.split()[-1]
    platform.manage("member", "add", TENANT, _PERSON, "--role", "owner")
    return Browser(platform.url, _PERSON, password)
