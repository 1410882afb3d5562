"""A build as REST and the form ask for it, made into a BuildRequest. Bad words are refused by name."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping, Sequence

from controlpanel.tenants.actor import Actor
from engine.errors import InvalidArgument
from engine.model.build import DOCKERFILE, BuildRequest, check_secret
from engine.model.platform import Platform
from engine.model.reference import Reference


def request_of(
    actor: Actor,
    *,
    refs: Sequence[str] = (),
    dockerfile: str = "",
    remote: str = "",
    args: Mapping[str, str | None] | None = None,
    labels: Mapping[str, str] | None = None,
    hidden: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    target: str = "",
    platform: str = "",
    network: str = "",
    no_cache: bool = False,
    pull: bool = False,
) -> BuildRequest:
    """``remote``: "" = the context is uploaded; ``hidden``, ``keys``: of RUN --mount=type=secret and =ssh, by id. InvalidArgument."""
    tenant = actor.tenant
    assert tenant is not None
    if network not in ("", "default", "none"):
        raise InvalidArgument(f"network {network!r} is not for builds: default and none are")
    return BuildRequest(
        id=secrets.token_hex(16),
        secrets=_kept(hidden or {}),
        ssh=_kept(keys or {}),
        tenant=tenant.name,
        tags=tuple(map(_tag, refs)),
        dockerfile=dockerfile or DOCKERFILE,
        remote=remote,
        args=dict(args or {}),
        labels=dict(labels or {}),
        target=target,
        platform=str(Platform.parse(platform)) if platform else "",
        network=network,
        no_cache=no_cache,
        pull=pull,
    )


def _kept(texts: Mapping[str, str]) -> dict[str, str]:
    kept = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    for name, value in kept.items():
        check_secret(name, value)
    return kept


def _tag(name: str) -> str:
    reference = Reference.parse(name)
    if reference.digest:
        raise InvalidArgument("build tag cannot contain a digest")
    return str(reference)


def pairs(words: Sequence[str], what: str) -> dict[str, str]:
    """``NAME=value`` each."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{what}: {word!r} is not NAME=value")
        found[name] = value
    return found


def hidden_of(headers: Mapping[str, str], name: str) -> dict[str, str]:
    """Of a header: base64 (of either alphabet) of JSON, {id: text}. Not a parameter: addresses are logged."""
    header = headers.get(name, "")
    if not header:
        return {}
    try:
        found = json.loads(base64.b64decode(header.replace("-", "+").replace("_", "/") + "==", validate=False))
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidArgument(f"{name} is not base64 of JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgument(f"{name}: {{id: text}} is needed")
    return found


def remote_of(address: str, branch: str, folder: str) -> str:
    """``https://host/name.git`` with a branch and a folder, as the builder reads it."""
    address = address.strip()
    if not address.startswith(("http://", "https://", "git://")):
        raise InvalidArgument("the address of a repository or of a tar begins with https://, http:// or git://")
    if (branch or folder) and "#" in address:
        raise InvalidArgument("branch and folder are in the address already")
    fragment = branch.strip() + (f":{folder.strip()}" if folder.strip() else "")
    return f"{address}#{fragment}" if fragment else address
