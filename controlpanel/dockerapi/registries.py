"""What goes to registries: pull, push, a look at an image there, ``docker login``."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from controlpanel.dockerapi.exchange import Exchange
from controlpanel.images import pulling
from controlpanel.images.pulling import Credentials, Lines
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, InvalidArgument
from engine.model.reference import Reference

_MAX_AUTH = 64 << 10


async def pull(exchange: Exchange, platform: str) -> None:
    """Of ``POST /images/create?fromImage=…``. Without a tag, all of them (``docker pull --all-tags``)."""
    require(exchange.actor, "image.pull")
    await exchange.read_body()
    name, tag = exchange.text("fromImage").removesuffix(":"), exchange.text("tag")
    reference = Reference.parse(name)
    every_tag = not tag and not reference.digest and ":" not in name.rpartition("/")[2]
    if tag:
        bare = reference.name
        reference = Reference.parse(f"{bare}@{tag}" if ":" in tag else f"{bare}:{tag}")
    credentials = from_header(exchange)
    async with pulling.pull(exchange.actor, reference, platform=platform, credentials=credentials, every_tag=every_tag) as lines:
        await exchange.while_connected(_relay(exchange, lines))


async def push(exchange: Exchange) -> None:
    """Without a tag, all of them, as the API has it; the command line always names one."""
    require(exchange.actor, "image.push")
    body = await exchange.read_body()
    name, tag = exchange.params["name"], exchange.text("tag")
    reference = Reference.parse(f"{name}:{tag}" if tag else name)
    every_tag = not tag and ":" not in name.rpartition("/")[2]
    credentials = from_header(exchange) or (_credentials(body) if body else pulling.NOBODY)
    async with pulling.push(exchange.actor, reference, credentials=credentials, every_tag=every_tag) as lines:
        await exchange.while_connected(_relay(exchange, lines))


async def distribution(exchange: Exchange) -> None:
    require(exchange.actor, "image.pull")
    await exchange.read_body()
    looked = pulling.inspect(exchange.actor, Reference.parse(exchange.params["name"]), from_header(exchange))
    found = await exchange.while_connected(looked)
    if found is not None:
        await exchange.reply_json(found)


async def auth(exchange: Exchange) -> None:
    require(exchange.actor, "image.pull")
    body = await exchange.read_json()
    given = _object(body)
    domain = pulling.domain_of(str(given.get("serveraddress") or ""))
    token = await exchange.while_connected(pulling.login(exchange.actor, domain, _credentials(body)))
    if token is not None:
        await exchange.reply_json({"Status": "Login Succeeded", "IdentityToken": token})


async def _relay(exchange: Exchange, lines: Lines) -> None:
    """The head goes out with the first line; what goes wrong before it has its own status, later it is a line."""
    try:
        async for line in lines:
            if not exchange.replied:
                await exchange.begin()
            await exchange.write_json(line)
    except EngineError as error:
        if not exchange.replied:
            raise
        await exchange.write_json({"errorDetail": {"message": error.message}, "error": error.message})
    if not exchange.replied:
        await exchange.begin()
    await exchange.end()


def from_header(exchange: Exchange) -> Credentials:
    """``X-Registry-Auth``: JSON in base64, of URLs or of mails, padded or not. As moby: what can't be read is nobody's."""
    text = exchange.header(b"x-registry-auth").strip()
    if not text or len(text) > _MAX_AUTH:
        return pulling.NOBODY
    try:
        return _credentials(_unbase(text))
    except (InvalidArgument, ValueError):
        return pulling.NOBODY


def all_from_header(exchange: Exchange) -> dict[str, Credentials]:
    """``X-Registry-Config`` of a build: {host: AuthConfig}. What can't be read is nobody's."""
    text = exchange.header(b"x-registry-config").strip()
    if not text or len(text) > _MAX_AUTH:
        return {}
    found = {}
    try:
        for host, given in _object(_unbase(text)).items():
            found[host.lower()] = _credentials(orjson.dumps(given))
    except (InvalidArgument, ValueError):
        return {}
    return found


def _credentials(data: bytes) -> Credentials:
    """Docker's AuthConfig. InvalidArgument for what is none."""
    given = _object(data)
    username, password = str(given.get("username") or ""), str(given.get("password") or "")
    if not username and given.get("auth"):
        try:
            username, _colon, password = _unbase(str(given["auth"])).decode().partition(":")
        except ValueError:
            raise InvalidArgument("invalid auth configuration: auth is no base64") from None
    return Credentials(
        username=username,
        password=password,
        identity_token=str(given.get("identitytoken") or ""),
        registry_token=str(given.get("registrytoken") or ""),
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        given = orjson.loads(data)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("invalid auth configuration: a JSON object is needed")
    return given


def _unbase(text: str) -> bytes:
    """ValueError for what is no base64."""
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
