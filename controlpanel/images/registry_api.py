"""REST: images from registries and to them. Progress comes as JSON lines, in Docker's words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import orjson
from django.http import HttpRequest, HttpResponseBase
from ninja import Router, Schema
from pydantic import Field

from controlpanel.base import rest
from controlpanel.base.rest import Asked
from controlpanel.images import pulling
from controlpanel.images.pulling import Credentials, Lines
from controlpanel.tenants.rest import actor
from engine.errors import EngineError
from engine.model.reference import Reference

router = Router()
_HERE = "/tenants/{tenant}/"


class _WithRegistry(Asked):
    """``username`` and ``password`` of the registry; they are kept nowhere."""

    ref: str = Field(min_length=1, max_length=400, description="HOST[:PORT]/PATH[:TAG][@DIGEST]", examples=["registry.lan:5000/team/web:2"])
    username: str = Field("", max_length=400)
    password: str = Field("", max_length=20_000, description="Or a token that is used like one.")

    def credentials(self) -> Credentials:
        return Credentials(username=self.username, password=self.password)


class PullIn(_WithRegistry):
    platform: str = Field("", max_length=100, description="Empty: the host's.", examples=["linux/arm64"])
    all_tags: bool = False


class PushIn(_WithRegistry):
    all_tags: bool = Field(False, description="All tags that the repository has here.")


class PlatformOut(Schema):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class ThereOut(Schema):
    """``platforms``: for which there is an image under this name."""

    media_type: str
    digest: str
    size: int
    platforms: list[PlatformOut]


@router.post(_HERE + "image-pull", summary="Pull an image from a registry; progress as JSON lines")
async def pull_image(request: HttpRequest, tenant: str, payload: PullIn) -> HttpResponseBase:
    who = await actor(request, tenant, "image.pull")
    reference, credentials = Reference.parse(payload.ref), payload.credentials()
    pull = pulling.pull(who, reference, platform=payload.platform, credentials=credentials, every_tag=payload.all_tags)
    return await _relay(pull)


@router.post(_HERE + "image-push", summary="Push an image to the registry that its name says; progress as JSON lines")
async def push_image(request: HttpRequest, tenant: str, payload: PushIn) -> HttpResponseBase:
    who = await actor(request, tenant, "image.push")
    return await _relay(pulling.push(who, Reference.parse(payload.ref), credentials=payload.credentials(), every_tag=payload.all_tags))


@router.post(_HERE + "image-there", response=ThereOut, summary="What a registry has under a name, without pulling it")
async def look_at_registry(request: HttpRequest, tenant: str, payload: _WithRegistry) -> dict[str, object]:
    who = await actor(request, tenant, "image.pull")
    found = await pulling.inspect(who, Reference.parse(payload.ref), payload.credentials())
    descriptor = found["Descriptor"]
    return {
        "media_type": descriptor["mediaType"],
        "digest": descriptor["digest"],
        "size": descriptor["size"],
        "platforms": found["Platforms"],
    }


async def _relay(transfer: AbstractAsyncContextManager[Lines]) -> HttpResponseBase:
    """Refusals before the first line have their status; later ones are the last line: {"error": {…}}."""
    stack = AsyncExitStack()
    try:
        lines = await stack.enter_async_context(transfer)
        first = await anext(lines)
    except StopAsyncIteration:
        await stack.aclose()
        return rest.lines(_nothing())
    except BaseException:
        await stack.aclose()
        raise
    return rest.lines(_told(stack, first, lines))


async def _told(stack: AsyncExitStack, first: dict[str, object], lines: Lines) -> AsyncIterator[bytes]:
    async with stack:
        try:
            yield orjson.dumps(first, option=orjson.OPT_APPEND_NEWLINE)
            async for line in lines:
                yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        except EngineError as error:
            yield orjson.dumps({"error": error.to_json()}, option=orjson.OPT_APPEND_NEWLINE)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
