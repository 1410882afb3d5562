"""Pull: manifests and blobs, looked at (HEAD) and fetched (GET)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from controlpanel.registry import door, pulls, queries
from controlpanel.registry.call import Call
from controlpanel.registry.errors import Refused
from controlpanel.registry.names import is_digest, is_tag
from controlpanel.registry.queries import FoundBlob
from controlpanel.registry.storage import Reader, storage
from controlpanel.registry.uploads import in_thread

PIECE: Final = 256 << 10  # bytes that are read and sent at once
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_OCTETS: Final = "application/octet-stream"


async def manifest(call: Call) -> None:
    reference = call.params["reference"]
    if ":" in reference and not is_digest(reference):
        raise Refused("DIGEST_INVALID", "neither a tag nor a digest of sha256 or sha512", reference=reference[:200])
    if ":" not in reference and not is_tag(reference):
        await door.read(call, call.params["name"], queries.repository)
        raise Refused("MANIFEST_UNKNOWN", reference=reference[:200])
    found = await door.read(call, call.params["name"], queries.manifest, reference)
    headers = _named(found.digest)
    if call.header(b"if-none-match") == headers["ETag"]:
        await call.reply(304, headers=headers)
        return
    if call.method == "GET":
        pulls.count(found.id, found.tag_id)
    await call.reply(200, found.body, headers, found.media_type)


async def blob(call: Call) -> None:
    digest = call.params["digest"]
    if not is_digest(digest):
        raise Refused("DIGEST_INVALID", "no digest of sha256 or sha512", digest=digest[:200])
    found = await door.read(call, call.params["name"], queries.blob, digest)
    headers = {**_named(found.digest), "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    if call.header(b"if-none-match") == headers["ETag"]:
        await call.reply(304, headers=headers)
        return
    part, status = _Part(0, found.size_bytes), 200
    if asked := call.header(b"range"):
        part, status = _part(asked, found), 206 if _RANGE.fullmatch(asked) else 200
    if status == 206:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{found.size_bytes}"
    if call.method == "HEAD":
        await call.begin(status, part.end - part.start, {"Content-Type": _OCTETS, **headers})
        await call.write(b"", more=False)
        return
    try:
        reader = storage().open_blob(found.file)
    except FileNotFoundError:  # removed since its row was read
        raise Refused("BLOB_UNKNOWN", digest=digest) from None
    try:
        await call.begin(status, part.end - part.start, {"Content-Type": _OCTETS, **headers})
        await _send(call, reader, part)
    finally:
        reader.close()


async def _send(call: Call, reader: Reader, part: _Part) -> None:
    at = part.start
    while at < part.end:
        size = min(PIECE, part.end - at)
        data = reader.read_now(at, size) or await in_thread(reader.read, at, size)
        at += len(data)
        await call.write(data, more=at < part.end)
    if part.start == part.end:
        await call.write(b"", more=False)


class _Part(NamedTuple):
    start: int
    end: int  # behind the last byte


def _part(asked: str, blob: FoundBlob) -> _Part:
    """RFC 9110, section 14.2. One range, or all: what can't be read is as if it were not there."""
    size, found = blob.size_bytes, _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return _Part(0, size)
    if not found[1]:
        part = _Part(max(0, size - int(found[2])), size)
    else:
        part = _Part(int(found[1]), min(size, int(found[2]) + 1) if found[2] else size)
    if part.start >= part.end:
        raise Refused("SIZE_INVALID", "the range is beyond the blob", status=416, headers={"Content-Range": f"bytes */{size}"})
    return part


def _named(digest: str) -> dict[str, str]:
    return {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
