"""Where it happens: a platform with two tenants. *mallory* attacks with full rights in her tenant; *alice* has what she wants.

What alice has carries ``mark`` in its name or its content, so one word shows whether anything of it came through.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import ceilings
from engine.config import EngineConfig
from engine.engine import Engine
from tests.attack import image
from tests.attack.attempt import Nothing
from tests.support import raw
from tests.support.platform import Platform

API = "/v1.47"
IMAGE = "prober"
_NAMESPACES = {"mount": "mnt", "uts": "uts", "ipc": "ipc", "net": "net", "pid": "pid", "cgroup": "cgroup"}
_EVERYTHING = tuple(word for item in ("privileged", "host_network", "seccomp", "capabilities", "devices") for word in ("--allow", item))
Answer = tuple[int, bytes]


@dataclass
class Tenant:
    """All doors of one tenant, opened with its owner's rights."""

    platform: Platform
    name: str

    def ask(self, method: str, target: str, body: Any = None, **words: Any) -> Answer:
        """Docker's API through its socket."""
        return raw.ask(self.platform.socket(self.name), method, API + target, body, **words)

    def json(self, target: str) -> Any:
        return json.loads(self.ask("GET", target)[1])

    def docker(self, *words: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.platform.docker(*words, tenant=self.name, check=check, **more)

    def say(self, *words: str) -> str:
        return self.docker(*words).stdout.strip()

    @cached_property
    def token(self) -> str:
        return self.platform.manage("token", "create", "--tenant", self.name, "--role", "owner").stdout.split()[-1]

    def rest(self, method: str, where: str, body: Any = None, *, kind: str = raw.JSON) -> Answer:
        """``where``: below /api/v1/."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {self.token}", **({"Content-Type": kind} if data is not None else {})}
        return _sent(urllib.request.build_opener(), urllib.request.Request(f"{self.platform.url}{where}", data, head, method=method))

    @cached_property
    def browser(self) -> Browser:
        person = f"owner-of-{self.name}"
        made = self.platform.manage("user", "create", person, check=False)
        password = (made if made.returncode == 0 else self.platform.manage("user", "password", person)).stdout.split()[-1]
        self.platform.manage("member", "add", self.name, person, "--role", "owner")
        return Browser(self.platform.url, person, password)


class Browser:
    """A logged-in session, without the browser."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self.jar = url, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self.get("/accounts/login/")
        status, said = self.post("/accounts/login/", login=user, password=password)
        assert status == 200 and user.encode() in said, f"{user} can't log in: {status}"

    @property
    def cookies(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.jar)

    def get(self, path: str) -> Answer:
        return _sent(self._opener, urllib.request.Request(self.url + path))

    def post(self, path: str, **fields: str) -> Answer:
        token = next((str(cookie.value) for cookie in self.jar if "csrf" in cookie.name), "")
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **fields}).encode()
        return _sent(self._opener, urllib.request.Request(self.url + path, data, {"Referer": self.url, "Origin": self.url}))


def _sent(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> Answer:
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


@dataclass
class Ground:
    """``folder``: scratch, readable by all. What is entered into ``stack`` is undone at the end, newest first."""

    platform: Platform
    folder: Path
    stack: ExitStack
    mark: str = field(default_factory=lambda: f"mark{secrets.token_hex(4)}")
    _tenants: dict[str, Tenant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outside = self.folder / "outside" / self.mark  # a file of the host's, of no worth to anybody else
        self.outside.parent.mkdir(exist_ok=True)
        self.secret = f"secret{secrets.token_hex(8)}"  # what it says
        self.outside.write_text(self.secret)

    @cached_property
    def mallory(self) -> Tenant:
        return self.tenant("mallory")

    @cached_property
    def engine(self) -> Engine:
        """The host's, from the outside: files only."""
        return Engine(EngineConfig(self.platform.data, self.platform.run))

    def tenant(self, name: str, *quota: str, policy: Sequence[str] = ()) -> Tenant:
        """With the attacker's image, made when first asked for. At the end it goes with all it has. Its policy allows everything but what
        is tried: what then holds is the host's."""
        if name not in self._tenants:
            self.platform.tenant(name)
            if quota:
                self.platform.manage("tenant", "quota", name, *quota)
            self.platform.manage("tenant", "policy", name, *_EVERYTHING, *policy)
            made = self._tenants[name] = Tenant(self.platform, name)
            _empty(made)  # of what a run left that was killed
            self.stack.callback(self._clear, made)
            status, said = made.ask("POST", f"/images/create?fromSrc=-&repo={IMAGE}", image.archive(), kind=raw.TAR)
            assert status == 200 and b'"error"' not in said, said
        return self._tenants[name]

    def _clear(self, tenant: Tenant) -> None:
        _empty(tenant)
        done = self.platform.manage("tenant", "delete", tenant.name, "--now", check=False)
        if done.returncode:
            print(f"tenant {tenant.name} is left: {done.stderr.strip()}", file=sys.stderr)

    @cached_property
    def alice(self) -> Tenant:
        """With a container, an image, a volume and a network of her own; each of them named ``…-<mark>``."""
        alice = self.tenant("alice")
        alice.docker("volume", "create", f"volume-{self.mark}")
        alice.docker("network", "create", f"net-{self.mark}")
        keep = (IMAGE, *image.COMMAND, "keep", self.mark)
        alice.docker("run", "-d", "--name", f"box-{self.mark}", "-e", f"SECRET={self.mark}", "-v", f"volume-{self.mark}:/v", *keep)
        alice.docker("run", "-d", "--name", f"member-{self.mark}", "--network", f"net-{self.mark}", *keep)
        alice.docker("exec", f"box-{self.mark}", "sh", "-c", f"echo {self.mark} > /v/{self.mark}")
        alice.docker("commit", f"box-{self.mark}", f"image-{self.mark}")
        _until(lambda: "ready" in alice.docker("logs", f"box-{self.mark}").stdout)
        return alice

    @cached_property
    def box(self) -> str:
        """The id of alice's container."""
        return self.alice.say("inspect", "-f", "{{.Id}}", f"box-{self.mark}")

    @cached_property
    def address(self) -> str:
        return self.alice.say("inspect", "-f", "{{.NetworkSettings.IPAddress}}", f"box-{self.mark}")

    @cached_property
    def box_pid(self) -> int:
        return int(self.alice.say("inspect", "-f", "{{.State.Pid}}", f"box-{self.mark}"))

    # -- root in a container ---------------------------------------------------------------------

    @cached_property
    def cage(self) -> str:
        """Mallory's container, with every capability that there is to be had."""
        return self.mallory.say("run", "-d", "--name", "cage", "--cap-add", "ALL", IMAGE, "sleep", "1000000")

    @cached_property
    def cage_pid(self) -> int:
        return int(self.mallory.say("inspect", "-f", "{{.State.Pid}}", self.cage))

    @cached_property
    def uid_start(self) -> int:
        return self.engine.tenants.get("mallory").uid_start

    def probe(self, walled: bool, act: str, *words: object, without: tuple[str, ...] = (), ids: bool = False, **more: Any) -> str:
        """What the probe got in mallory's cage.

        The control is the same probe in the same container's namespaces, but those of ``without``: "pid" leaves the host's in its place,
        "pid=alice" puts alice's there. It is the host's root without a filter, or with ``ids`` the container's root as others see it.
        """
        asked = [act, *map(str, words)]
        if walled:
            done = self.mallory.docker("exec", self.cage, *image.COMMAND, *asked, check=False)
            return got(done.stdout, done.stderr)
        joined = {kind: f"/proc/{self.cage_pid}/ns/{file}" for kind, file in _NAMESPACES.items() if kind not in without}
        for each in without:
            kind, _, tenant = each.partition("=")
            if tenant:
                joined[kind] = f"/proc/{self.box_pid}/ns/{_NAMESPACES[kind]}"
        command = list(image.COMMAND) if "mount" in joined else [*image.COMMAND[:-1], str(image.PROBE)]
        if ids:
            command += ["--as", str(self.uid_start)]
        enter = ["nsenter", *(f"--{kind}={path}" for kind, path in joined.items())]
        done = subprocess.run([*enter, *command, *asked], capture_output=True, text=True, timeout=120, check=False, **more)
        return got(done.stdout, done.stderr)

    # -- what root of the host grants ------------------------------------------------------------

    def grant(self, tenant: str, **words: Any) -> None:
        """A ceiling of the tenant's, as root of the machine gives it (engine.ceilings). Nothing is taken back: the tenant is ours."""
        ceilings.change(self.engine.config, tenant, **words)


def _empty(tenant: Tenant) -> None:
    for kind, all_of_them, how in (("container", "-aq", ("-fv",)), ("volume", "-q", ()), ("network", "-qf=type=custom", ())):
        if found := tenant.docker(kind, "ls", all_of_them, check=False).stdout.split():
            tenant.docker(kind, "rm", *how, *found, check=False)


def got(said: str, fault: str = "") -> str:
    """The evidence, or Nothing when the probe says that something kept it out. AssertionError when it says neither."""
    found = re.search(r"^(got|kept): ?(.*)", said, re.MULTILINE)
    assert found, f"the probe broke: {said[-300:]}{fault[-300:]}"
    return found[2] if found[1] == "got" else Nothing(found[2])


def _until(true: Any, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
