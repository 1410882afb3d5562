"""Push and management: uploads, mounts, manifests and tags put; everything deleted."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from controlpanel.base import database
from controlpanel.registry import door, manifests, services, uploads
from controlpanel.registry.call import Call
from controlpanel.registry.door import DELETE, PUSH
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import SIZE_MAX
from controlpanel.registry.names import CANONICAL, DIGITS, is_digest, is_name, is_tag
from controlpanel.registry.uploads import in_thread, range_of
from controlpanel.tenants.actor import Actor

_RANGE: Final = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
_TAGS_MAX: Final = 10  # of one request


# -- blobs -------------------------------------------------------------------------------------------


async def begin(call: Call) -> None:
    """POST: a session; or the whole blob, with its digest; or one that another repository has."""
    name = call.params["name"]
    actor = await door.admit(call, name, PUSH)
    if call.values("mount"):
        digest, source = _digest(call.text("mount")), call.text("from")
        if is_name(source) and await _mount(call, actor, name, digest, source):
            await call.reply(201, headers=_blob(name, digest))
            return
    digest = _digest(call.text("digest")) if call.values("digest") else ""
    key = await uploads.begin(actor, name, algorithm=_algorithm(call, digest))
    if not digest:
        await call.reply(202, headers=_session(name, key, 0))
        return
    try:
        await uploads.finish(actor, name, key, digest, call.body(), start=None, length=call.length)
    except BaseException:
        await uploads.cancel(name, key, missing_ok=True)  # its Location was told to nobody
        raise
    await call.reply(201, headers=_blob(name, digest))


async def _mount(call: Call, actor: Actor, name: str, digest: str, source: str) -> bool:
    public_only = await door.mounts_public_only(call, source)
    return await database.run(lambda: services.mount(actor, name, digest, source, public_only=public_only))


def _algorithm(call: Call, digest: str) -> str:
    """In which the digest is taken while the bytes come; another one would take a second reading at the end."""
    algorithm = digest.partition(":")[0] or call.text("digest-algorithm") or CANONICAL
    if algorithm not in DIGITS:
        raise Refused("DIGEST_INVALID", f"digests are of {' or '.join(DIGITS)}")
    return algorithm


async def append(call: Call) -> None:
    """PATCH."""
    name, key = call.params["name"], call.params["key"]
    await door.admit(call, name, PUSH)
    start, length = _content_range(call)
    size = await uploads.append(name, key, call.body(), start=start, length=length)
    await call.reply(202, headers=_session(name, key, size))


async def finish(call: Call) -> None:
    """PUT, with the last chunk or nothing."""
    name, key = call.params["name"], call.params["key"]
    actor = await door.admit(call, name, PUSH)
    digest = _digest(call.text("digest"))
    start, length = _content_range(call)
    await uploads.finish(actor, name, key, digest, call.body(), start=start, length=length)
    await call.reply(201, headers=_blob(name, digest))


async def status(call: Call) -> None:
    name, key = call.params["name"], call.params["key"]
    await door.admit(call, name, PUSH)
    await call.reply(204, headers=_session(name, key, await uploads.status(name, key)))


async def cancel(call: Call) -> None:
    name, key = call.params["name"], call.params["key"]
    await door.admit(call, name, PUSH)
    await uploads.cancel(name, key)
    await call.reply(204)


async def delete_blob(call: Call) -> None:
    name = call.params["name"]
    actor = await door.admit(call, name, DELETE)
    await database.run(services.delete_blob, actor, name, _digest(call.params["digest"]))
    await call.reply(202)


def _content_range(call: Call) -> tuple[int | None, int | None]:
    """Where the chunk begins, and how many bytes it has; None: the request does not say."""
    words, length = call.header(b"content-range"), call.length
    if not words:
        return None, length
    found = _RANGE.fullmatch(words.removeprefix("bytes ").partition("/")[0])
    if found is None or int(found[2]) < int(found[1]):
        raise Refused("BLOB_UPLOAD_INVALID", "Content-Range must be FIRST-LAST, in bytes", status=416)
    start, size = int(found[1]), int(found[2]) - int(found[1]) + 1
    if length not in (None, size):
        raise Refused("SIZE_INVALID", f"Content-Range tells of {size} bytes, Content-Length of {length}")
    return start, size


def _digest(words: str) -> str:
    if not is_digest(words):
        raise Refused("DIGEST_INVALID", "a digest of sha256 or sha512 is needed", digest=words[:200])
    return words


def _session(name: str, key: str, size: int) -> dict[str, str]:
    return {"Location": f"/v2/{name}/blobs/uploads/{key}", "Docker-Upload-UUID": key, **range_of(size)}


def _blob(name: str, digest: str) -> dict[str, str]:
    return {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}


# -- manifests ---------------------------------------------------------------------------------------


async def put_manifest(call: Call) -> None:
    """By a tag; or by its digest, with the tags that it shall have (``?tag=``)."""
    name, reference = call.params["name"], call.params["reference"]
    actor = await door.admit(call, name, PUSH)
    by_digest = is_digest(reference)
    if not by_digest and ":" in reference:
        raise Refused("DIGEST_INVALID", "neither a tag nor a digest of sha256 or sha512", reference=reference[:200])
    tags = call.values("tag") if by_digest else [reference]
    if len(tags) > _TAGS_MAX or not all(map(is_tag, tags)):
        raise Refused("MANIFEST_INVALID", f"a tag is of 1 to 128 letters, digits and . _ - ; {_TAGS_MAX} at once are enough")
    body = await call.read_body(SIZE_MAX)
    algorithm = reference.partition(":")[0] if by_digest else CANONICAL
    digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
    if by_digest and digest != reference:
        raise Refused("DIGEST_INVALID", digest=reference, content=digest)
    parsed = await in_thread(manifests.read, body, call.header(b"content-type"))
    await database.run(services.put_manifest, actor, name, digest, parsed, body, tags)
    headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if parsed.subject:
        headers["OCI-Subject"] = parsed.subject
    if by_digest and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    await call.reply(201, headers=headers)


async def delete_manifest(call: Call) -> None:
    name, reference = call.params["name"], call.params["reference"]
    actor = await door.admit(call, name, DELETE)
    if ":" in reference:
        _digest(reference)
    await database.run(services.delete_manifest, actor, name, reference)
    await call.reply(202)
