"""Where one platform lives and who runs it: the environment, read once. Paths of the engine itself: engine/config.py.

<data>/app/venvs/<hash>/        one per lock file and interpreter; root's
<data>/app/releases/<hash>/     code, messages, collected static files; ``venv`` links to its environment
<data>/app/assets/<hash>/       front-end files of one package-lock.json
<data>/app/current              the release in use
<data>/redis/                   redis 0700: append-only file, ACL users
<data>/redis.key                root 0600: the ACL users' passwords
<data>/etc/tls/                 the server's certificates (workers/platform/certificates.py)
<data>/log/<part>.log
<run>/redis.sock → redis/redis.sock     in a folder of its own, for Redis makes its socket itself
<run>/supervisor.sock notify.sock
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import DATA_DEFAULT, RUN_DEFAULT, EngineConfig

HTTP_DEFAULT: Final = "127.0.0.1:8000"
TLS_DEFAULT: Final = ":2376"  # when SLIPWAY_TLS says on: the port that dockerd speaks TLS on
HOST_DEFAULT: Final = "local"
USER: Final = "slipway"
REDIS_USER: Final = "redis"
DEMO_TENANT: Final = "demo"

# What a part may learn from the caller's environment, beside SLIPWAY_*: nothing else of root's shell goes into a daemon.
_COMMON: Final = ("LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PANEL_ONLY: Final = ("DATABASE_URL", "DATABASE_URL_FILE", "SECRET_KEY", "SECRET_KEY_FILE", "SEAL_KEY", "SEAL_KEY_FILE")
SETTINGS: Final = ("REDIS_URL", "REDIS_URL_FILE", *_PANEL_ONLY)
ELSEWHERE: Final = "elsewhere"


@dataclass(frozen=True, slots=True)
class Places:
    """One platform. Two on a machine differ in ``data``, ``run`` and ``http``."""

    data: Path
    run: Path
    http: str
    host: str
    variables: Mapping[str, str]  # the rest of what was set: SLIPWAY_*, DATABASE_URL, …

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Places:
        given = os.environ if environment is None else environment
        kept = {name: value for name, value in given.items() if name.startswith("SLIPWAY_") or name in SETTINGS or name in _COMMON}
        return cls(
            data=Path(os.path.abspath(given.get("SLIPWAY_DATA") or DATA_DEFAULT)),
            run=Path(os.path.abspath(given.get("SLIPWAY_RUN") or RUN_DEFAULT)),
            http=given.get("SLIPWAY_HTTP") or HTTP_DEFAULT,
            host=given.get("SLIPWAY_HOST") or HOST_DEFAULT,
            variables=kept,
        )

    @property
    def engine(self) -> EngineConfig:
        return EngineConfig(self.data, self.run)

    @property
    def app(self) -> Path:
        return self.data / "app"

    @property
    def current(self) -> Path:
        return self.app / "current"

    @property
    def panel(self) -> Path:
        return self.data / "panel"

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def redis_folder(self) -> Path:
        return self.data / "redis"

    @property
    def etc(self) -> Path:
        return self.data / "etc"

    @property
    def packages_note(self) -> Path:
        """Debian packages that were not there before the first ``up``."""
        return self.etc / "packages.json"

    @property
    def redis_conf(self) -> Path:
        return self.etc / "redis.conf"

    @property
    def redis_key(self) -> Path:
        return self.etc / "redis.key"

    @property
    def redis_socket(self) -> Path:
        return self.run / "redis.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def notify_socket(self) -> Path:
        return self.run / "notify.sock"

    @property
    def private_redis(self) -> bool:
        """Ours, unless the operator names one."""
        return not (self.variables.get("REDIS_URL") or self.variables.get("REDIS_URL_FILE"))

    @property
    def embedded_database(self) -> bool:
        return not (self.variables.get("DATABASE_URL") or self.variables.get("DATABASE_URL_FILE"))

    @property
    def panel_here(self) -> bool:
        """Ours to run. Else web and the panel's worker run in containers (docker/compose.yml), or under another supervisor."""
        return self.variables.get("SLIPWAY_PANEL") != ELSEWHERE

    def tenant_socket(self, tenant: str) -> Path:
        return self.run / "tenants" / tenant / "docker.sock"

    def docker_host(self, tenant: str) -> str:
        return f"unix://{self.tenant_socket(tenant)}"

    def redis_url(self, user: str) -> str:
        """``user``: panel, host or admin. Its password is in redis.key, which only root reads."""
        if path := self.variables.get("REDIS_URL_FILE"):
            return Path(path).read_text().strip()
        if url := self.variables.get("REDIS_URL"):
            return url
        password = json.loads(self.redis_key.read_bytes())[user]
        return f"unix://{user}:{password}@{self.redis_socket}?db=0"

    @property
    def tls(self) -> str:
        """HOST:PORT, or "" when there is no such door."""
        given = self.variables.get("SLIPWAY_TLS", "").strip()
        if given.lower() in ("", "off", "no", "false", "0"):
            return ""
        return TLS_DEFAULT if given.lower() in ("on", "yes", "true", "1") else given

    @property
    def tls_folder(self) -> Path:
        return self.etc / "tls"

    def own(self) -> dict[str, str]:
        """The variables that name this platform, also where they were defaults."""
        return {
            "SLIPWAY_DATA": str(self.data),
            "SLIPWAY_RUN": str(self.run),
            "SLIPWAY_HTTP": self.http,
            "SLIPWAY_TLS": self.tls,
            "SLIPWAY_HOST": self.host,
        }

    def part_environment(self, release: Path) -> dict[str, str]:
        """What every part gets. No part sees another's credentials."""
        kept = {name: value for name, value in self.variables.items() if name.startswith("SLIPWAY_") or name in _COMMON}
        return {
            **kept,
            **self.own(),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": kept.get("LANG", "C.UTF-8"),
            "PYTHONPATH": str(release),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def panel_environment(self, release: Path) -> dict[str, str]:
        """Of web, the panel's worker and the management commands."""
        secrets = {name: self.variables[name] for name in _PANEL_ONLY if name in self.variables}
        return {
            **self.part_environment(release),
            **secrets,
            "HOME": str(self.panel),
            "DJANGO_SETTINGS_MODULE": "controlpanel.settings",
            "REDIS_URL": self.redis_url("panel"),
        }

    def host_environment(self, release: Path) -> dict[str, str]:
        """Of the host worker and the agent: never the database's address."""
        return {**self.part_environment(release), "HOME": "/root", "REDIS_URL": self.redis_url("host")}


def load_env_file(path: Path, environment: dict[str, str]) -> None:
    """``NAME=value`` lines of a .env file for names that are not set yet. ``#`` begins a comment line; no shell syntax."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return
    for row in text.splitlines():
        name, equals, value = row.strip().partition("=")
        if equals and not name.startswith("#"):
            environment.setdefault(name.strip(), value.strip().strip("'\""))
