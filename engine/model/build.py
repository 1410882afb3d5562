"""A build as it travels from whoever asks to the host: what ``docker build`` was told, in the engine's words."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from engine.errors import InvalidArgument
from engine.model.container import Ulimit
from engine.model.resources import Resources
from engine.model.tenant import check_tenant_name

DOCKERFILE = "Dockerfile"
_ID = re.compile(r"[0-9a-f]{32}")
MAX_SECRET = 500 * 1024  # bytes; BuildKit's limit
MAX_WORDS = 128 << 10  # bytes of all arguments and labels together: they travel in one line of at most a MiB
MAX_TEXT = 800 << 10  # bytes of all secrets and keys together
NETWORKS = ("", "default", "bridge", "none")
_USER = re.compile(r"(?<=://)[^/\s@?#]+@")
_QUERY = re.compile(r"(://[^\s?#]+\?)[^\s#]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """``remote``: "" = the context comes as a tar after the question; else an address that the host fetches it from."""

    id: str  # 32 hex digits, chosen by whoever asks
    tenant: str
    tags: tuple[str, ...] = ()
    dockerfile: str = DOCKERFILE  # path in the context
    remote: str = ""
    args: dict[str, str | None] = field(default_factory=dict)  # None: the Dockerfile's own default
    labels: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)  # of RUN --mount=type=secret, by id: base64; in no history, layer or cache
    ssh: dict[str, str] = field(default_factory=dict)  # private keys of RUN --mount=type=ssh, by id: base64, as secret
    target: str = ""
    platform: str = ""
    network: str = ""  # of RUN: "" and default = the tenant's bridge
    resources: Resources = field(default_factory=Resources)
    shm_size_bytes: int = 64 << 20
    ulimits: tuple[Ulimit, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    cgroup_parent: str = ""
    no_cache: bool = False
    pull: bool = False
    cache_from: tuple[str, ...] = ()
    squash: bool = False
    quiet: bool = False
    remove: bool = True  # tell of each container that was removed (they always are)
    force_remove: bool = False  # tell of it also after a failure
    time_limit_s: int = 0  # 0 = the host's


def without_secrets(text: str) -> str:
    """An address, or a sentence with some, as it may be kept and shown: without who asks, with which password, token or signature."""
    return _QUERY.sub(r"\1…", _USER.sub("…@", text))


def check_request(request: BuildRequest) -> None:
    """What the engine does not take on trust from a message."""
    check_tenant_name(request.tenant)
    if not is_build_id(request.id):
        raise InvalidArgument(f"invalid build id {request.id!r}: 32 hex digits are needed")
    if request.network not in NETWORKS:
        raise InvalidArgument(f"network {request.network!r} is not for builds: default and none are")
    texts = [request.dockerfile, request.remote, request.target, *request.tags]
    texts += [text for name, value in request.args.items() for text in (name, value or "")]
    texts += [text for pair in request.labels.items() for text in pair]
    if any("\0" in text for text in texts):
        raise InvalidArgument("a word of the build holds a zero byte")
    if len(json.dumps([request.args, request.labels])) > MAX_WORDS:
        raise InvalidArgument(f"arguments and labels of a build are larger than {MAX_WORDS} bytes, the limit of this host")
    for name, value in (*request.secrets.items(), *request.ssh.items()):
        check_secret(name, value)
    if sum(map(len, (*request.secrets.values(), *request.ssh.values()))) > MAX_TEXT:
        raise InvalidArgument(f"secrets and keys of a build are larger than {MAX_TEXT} bytes, the limit of this host")


def check_secret(name: str, value: str) -> bytes:
    """What a secret holds, of its base64."""
    try:
        content = base64.b64decode(value, validate=True)
    except ValueError:
        raise InvalidArgument(f"secret {name!r} is not base64") from None
    if len(content) > MAX_SECRET:
        raise InvalidArgument(f"secret {name!r} is too big, the maximum size is {MAX_SECRET // 1024}KiB")
    return content


def is_build_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
