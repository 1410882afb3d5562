"""Where one host's engine keeps its things. Read once per process; everything else receives values.

<data>/                       SLIPWAY_DATA, /var/lib/slipway
  engine/                     root 0700: a tenant's setuid file in here is a real one on the host
    instance                  4 hex digits, claimed host-wide: prefix of links, cgroups, the nft table
    tenants/<tenant>.json     TenantHost: id range, subnet, bridge number, ceiling
    refs/<tenant>.json        what a tenant has: {"names": {"busybox:latest": "sha256:…"}, "images": ["sha256:…"]}; "public" is everybody's
    incoming/<random>/        one load under way, locked by its process; a free lock means a dead process
    images/<hex>.json         ImageRecord by image id
    layers/<chainID hex>/diff unpacked once, shared by all tenants through id-mapped mounts
    containers/<id>/          spec.json config.json start.json exit.json stop.json hosts hostname resolv.conf log/
    traffic.json              what each container and tenant has sent and received (engine/traffic.py)
    names/<tenant>/<name>     the id of the container of that name; made with O_EXCL
    rootfs/<id>/{upper,work}  what a container wrote
    volumes/<tenant>/<name>/_data  (engine/volumes/store.py)
    ceilings/<tenant>.json    what root lets it have beyond what all may (engine/ceilings.py)
    builds/cache/<tenant>/    steps of its builds, by the digest of what went into them (engine/builds/cache.py)
    builds/running/<build>/   the containers of one under way
    builds/said/<tenant>/     lines of builds whose asker may go (workers/agent/detached.py)
    t/<tenant>                this store, id-mapped for one tenant; a mount in the keeper's private mount namespace
    trash/                    renamed here, removed later; emptied at start
  etc/certs.d/<registry>/     its authorities and our certificate for it (engine/registries/settings.py)
  content/blobs/sha256/<hex>  root:slipway 0750: immutable, written by rename
  panel/                      slipway 0700: database, keys
    registry/                 what was pushed to us (controlpanel/registry/storage.py)
  log/                        the parts' own logs
<run>/                        SLIPWAY_RUN, /run/slipway
  keeper.sock launcher.sock logger.sock netd.sock   root only
  agent.sock                  root:slipway 0660
  era                         the agent's: this machine's boot and this keeper's family have had their start of containers
  tenants/<tenant>/docker.sock
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DATA_DEFAULT = "/var/lib/slipway"
RUN_DEFAULT = "/run/slipway"
PUBLIC_TENANT = "public"
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
REGISTRY_VARIABLES = (  # all that RegistryConfig reads
    *("SLIPWAY_REGISTRY_MIRRORS", "SLIPWAY_INSECURE_REGISTRIES", "SLIPWAY_REGISTRIES_ALLOWED", "SLIPWAY_REGISTRY_SILENCE"),
    *("SLIPWAY_HTTP", "SLIPWAY_TLS"),
    *_PROXIES,
    *map(str.lower, _PROXIES),
)


@dataclass(frozen=True)
class EngineConfig:
    """Every path of one engine, joined once: that was a third of what a start costs. Two instances differ in ``data`` and ``run``."""

    data: Path
    run: Path

    @classmethod
    def from_environment(cls) -> EngineConfig:
        return cls(Path(os.environ.get("SLIPWAY_DATA", DATA_DEFAULT)), Path(os.environ.get("SLIPWAY_RUN", RUN_DEFAULT)))

    @cached_property
    def engine(self) -> Path:
        return self.data / "engine"

    @cached_property
    def blobs(self) -> Path:
        return self.data / "content" / "blobs" / "sha256"

    @cached_property
    def layers(self) -> Path:
        return self.engine / "layers"

    @cached_property
    def images(self) -> Path:
        return self.engine / "images"

    @cached_property
    def refs(self) -> Path:
        return self.engine / "refs"

    @cached_property
    def tenants(self) -> Path:
        return self.engine / "tenants"

    @cached_property
    def containers(self) -> Path:
        return self.engine / "containers"

    @cached_property
    def names(self) -> Path:
        return self.engine / "names"

    @cached_property
    def rootfs(self) -> Path:
        return self.engine / "rootfs"

    @cached_property
    def volumes(self) -> Path:
        return self.engine / "volumes"

    @cached_property
    def ceilings(self) -> Path:
        return self.engine / "ceilings"

    @cached_property
    def builds(self) -> Path:
        return self.engine / "builds"

    @cached_property
    def mapped(self) -> Path:
        return self.engine / "t"

    @cached_property
    def trash(self) -> Path:
        return self.engine / "trash"

    @cached_property
    def registry_certificates(self) -> Path:
        return self.data / "etc" / "certs.d"

    @cached_property
    def keeper_socket(self) -> Path:
        return self.run / "keeper.sock"

    @cached_property
    def launcher_socket(self) -> Path:
        return self.run / "launcher.sock"

    @cached_property
    def logger_socket(self) -> Path:
        return self.run / "logger.sock"

    @cached_property
    def netd_socket(self) -> Path:
        return self.run / "netd.sock"

    @cached_property
    def era(self) -> Path:
        return self.run / "era"

    @cached_property
    def agent_socket(self) -> Path:
        return self.run / "agent.sock"

    def container(self, container_id: str) -> Path:
        return self.containers / container_id


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """What the operator says of registries. Each word is host[:port] or a network (10.0.0.0/8); a mirror is a URL."""

    mirrors: tuple[str, ...] = ()  # asked first for images of the default registry
    insecure: tuple[str, ...] = ()  # without TLS, or with a certificate that nobody vouches for
    allowed: tuple[str, ...] = ()  # may be reached although they are this machine or in a closed network; the panel's own registry is
    silence_s: float = 30.0  # without a byte, and a connection counts as broken
    https_proxy: str = ""  # URLs (engine.registries.wayout)
    http_proxy: str = ""
    no_proxy: tuple[str, ...] = ()  # where no proxy leads

    @classmethod
    def from_environment(cls) -> RegistryConfig:
        """Raises ValueError for a mirror that is no URL, a silence that is no number."""
        allowed = tuple(word for name in ("SLIPWAY_REGISTRIES_ALLOWED", "SLIPWAY_HTTP", "SLIPWAY_TLS") for word in _words(name))
        words = (_words("SLIPWAY_REGISTRY_MIRRORS"), _words("SLIPWAY_INSECURE_REGISTRIES"), allowed)
        proxies = (_either_case("HTTPS_PROXY"), _either_case("HTTP_PROXY"), _listed(_either_case("NO_PROXY")))
        found = cls(*words, float(os.environ.get("SLIPWAY_REGISTRY_SILENCE") or 30), *proxies)
        for mirror in found.mirrors:
            if not mirror.startswith(("http://", "https://")):
                raise ValueError(f"SLIPWAY_REGISTRY_MIRRORS: {mirror} does not begin with http:// or https://")
        return found


def tenants_subnets() -> tuple[str, ...]:
    """What the operator lets tenants choose from for networks of their own; () = private ones (engine.networks.defined)."""
    return _words("SLIPWAY_SUBNETS")


def _words(name: str) -> tuple[str, ...]:
    return _listed(os.environ.get(name, ""))


def _listed(text: str) -> tuple[str, ...]:
    """Lower case, separated by commas."""
    return tuple(word.strip().rstrip("/").lower() for word in text.split(",") if word.strip())


def _either_case(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")
