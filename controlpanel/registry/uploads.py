"""Blobs on their way in. Bytes go from the client's request to storage, a piece at a time, and are hashed as they pass.

    begin      a row and an empty file                                     POST   → Location
    append     bytes behind those that are there; the row says how many    PATCH  → Range
    finish     the digest is compared, the file becomes a blob             PUT    → 201
    cancel

What the row's ``offset`` says has been acknowledged and is in the file; what the file has beyond it was being written when somebody
was killed, and is cut off. So an upload goes on after a restart of the panel. The digest so far is in memory; lost, it is taken anew
from the file. A client that leaves in the middle of a request finds what had arrived until then when it asks again.

A quota is asked when it is known how much comes, and again when it has come (charged.py).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final, NoReturn, TypeVar

from django.utils import timezone

from controlpanel.base import database
from controlpanel.registry import charged, links, services
from controlpanel.registry.errors import Refused
from controlpanel.registry.models import Blob, Upload, new_key
from controlpanel.registry.names import CANONICAL
from controlpanel.registry.storage import Writer, storage
from controlpanel.tenants.actor import Actor
from engine.errors import QuotaExceeded, Unavailable

T = TypeVar("T")
Chunks = AsyncIterator[bytes]

PIECE: Final = 512 << 10  # bytes that are written at once: an upload holds two of these in memory
OPEN_MAX: Final = 1_000  # uploads of a tenant: each is a row and a file, and costs who begins it nothing
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_HASHES_MAX: Final = 4_096

_threads = ThreadPoolExecutor(8, thread_name_prefix="registry")
_hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()  # key → bytes, and the hash of them


async def in_thread(function: Callable[..., T], *words: Any) -> T:
    """For what waits for a disk."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *words)


async def begin(actor: Actor, name: str, *, algorithm: str = CANONICAL) -> str:
    """Its key."""
    key = new_key()
    await in_thread(storage().begin, key)
    try:
        await database.run(_begin, actor, name, key, algorithm)
    except BaseException:
        storage().drop_upload(key)
        raise
    _hashes[key] = (0, hashlib.new(algorithm))
    return key


def _begin(actor: Actor, name: str, key: str, algorithm: str) -> None:
    if Upload.everywhere.filter(tenant_id=actor.tenant_number).count() >= OPEN_MAX:
        raise Refused(
            "TOOMANYREQUESTS", f"{OPEN_MAX} uploads are open: finish or cancel some; after a day they go", headers={"Retry-After": "60"}
        )
    charged.admit(actor.tenant_number, 1)  # who has no room for a byte needs not begin
    words = {"tenant_id": actor.tenant_number, "started_by": actor.label[:200]}
    Upload.everywhere.create(repository=services.to_push(actor, name), key=key, algorithm=algorithm, **words)


async def status(name: str, key: str) -> int:
    """Bytes that have been acknowledged."""
    return (await database.read(_row, name, key)).offset


async def append(name: str, key: str, chunks: Chunks, *, start: int | None, length: int | None) -> int:
    """``start``: where the client believes to be; ``length``: bytes that it announces. Bytes that are there now."""
    async with _opened(name, key) as upload:
        await upload.write(chunks, start=start, length=length)
        await upload.acknowledge()
        return upload.size


async def finish(actor: Actor, name: str, key: str, digest: str, chunks: Chunks, *, start: int | None, length: int | None) -> None:
    """With the rest, if any. An upload whose bytes are others than ``digest`` says is gone afterwards."""
    async with _opened(name, key) as upload:
        await upload.write(chunks, start=start, length=length)
        await upload.become(actor, digest)


async def cancel(name: str, key: str, *, missing_ok: bool = False) -> None:
    try:
        async with _opened(name, key) as upload:
            await upload.drop()
    except Refused:
        if not missing_ok:
            raise


def _row(name: str, key: str) -> Upload:
    row = Upload.everywhere.filter(key=key, repository__name=name).first() if _KEY.fullmatch(key) else None
    if row is None:
        _unknown(key)
    return row


def _unknown(key: str) -> NoReturn:
    raise Refused("BLOB_UPLOAD_UNKNOWN", upload=key[:64])


@asynccontextmanager
async def _opened(name: str, key: str) -> AsyncIterator[_Open]:
    """The lock first, then the row: nobody can move it any more."""
    if not _KEY.fullmatch(key):
        _unknown(key)
    try:
        writer = await in_thread(storage().open_upload, key)
    except FileNotFoundError:
        _unknown(key)
    except BlockingIOError:
        raise Refused("BLOB_UPLOAD_INVALID", "another request is sending to this upload", status=409) from None
    try:
        with ExitStack() as announced:
            yield _Open(await database.read(_row, name, key), writer, announced)
    finally:
        writer.close()


class _Open:
    """One upload in one request. ``size``: bytes that are in the file."""

    def __init__(self, row: Upload, writer: Writer, announced: ExitStack) -> None:
        self._row, self._writer, self._announced = row, writer, announced
        self._hash: Any = None
        self.size = row.offset

    async def write(self, chunks: Chunks, *, start: int | None, length: int | None) -> None:
        if start is not None and start != self._row.offset:
            raise Refused(
                "BLOB_UPLOAD_INVALID", f"the next byte is number {self._row.offset}", status=416, headers=range_of(self._row.offset)
            )
        room = await database.run(self._announce, length)
        try:
            await in_thread(self._prepare)
            await self._pump(chunks, length, room)
        except (ConnectionResetError, asyncio.CancelledError):  # the client has left, or this process is ending
            await self.acknowledge()
            raise
        except EOFError:
            _unknown(self._row.key)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable("the registry's disk is full: an operator of the platform can make room") from error
            raise

    def _announce(self, length: int | None) -> int | None:
        """How many bytes may come; None: as many as there are."""
        if length is None:
            return charged.left(self._row.tenant_id)
        charged.admit(self._row.tenant_id, length)
        self._announced.enter_context(charged.announced(self._row.tenant_id, length))
        return length

    def _prepare(self) -> None:
        self._writer.go_on(self._row.offset)
        known = _hashes.pop(self._row.key, None)
        if known is not None and known[0] == self._row.offset:
            self._hash = known[1]
        else:
            self._hash = self._hashed(self._row.algorithm)

    def _hashed(self, algorithm: str) -> Any:
        """Of the bytes that are in the file."""
        digest, at = hashlib.new(algorithm), 0
        while at < self.size:
            data = self._writer.read(at, min(PIECE, self.size - at))
            if not data:
                raise EOFError
            digest.update(data)
            at += len(data)
        return digest

    async def _pump(self, chunks: Chunks, length: int | None, room: int | None) -> None:
        """One piece is written while the next one comes."""
        came, writing = 0, None
        try:
            async for piece in _pieces(chunks):
                came += len(piece)
                if length is not None and came > length:
                    raise Refused("SIZE_INVALID", f"more than the {length} bytes came that were announced")
                if room is not None and came > room:
                    await database.run(charged.admit, self._row.tenant_id, came)  # raises, with the figures
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(in_thread(self._take, piece))
        finally:
            if writing is not None:
                await asyncio.shield(writing)
        if length is not None and came < length:
            raise Refused("SIZE_INVALID", f"{came} bytes came, {length} were announced")

    def _take(self, piece: bytes) -> None:
        self._writer.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    async def acknowledge(self) -> None:
        """The row says what the file has."""
        await database.run(self._advance)
        _remember(self._row.key, self.size, self._hash)

    def _advance(self) -> None:
        self._announced.close()
        charged.admit(self._row.tenant_id, self.size - self._row.offset)
        rows = Upload.everywhere.filter(pk=self._row.pk)
        if not rows.update(offset=self.size, touched_at=timezone.now()):
            _unknown(self._row.key)

    async def become(self, actor: Actor, digest: str) -> None:
        algorithm, _colon, digits = digest.partition(":")
        taken = self._hash if algorithm == self._row.algorithm else await in_thread(self._hashed, algorithm)
        if taken.hexdigest() != digits:
            await self.drop()
            raise Refused("DIGEST_INVALID", digest=digest, content=f"{algorithm}:{taken.hexdigest()}")
        file = await in_thread(storage().keep, self._row.key, digest)
        try:
            is_ours = await database.run(self._commit, actor, digest, file)
        except (QuotaExceeded, Refused):
            await in_thread(storage().drop_blob, file)
            await self.drop()
            raise
        if is_ours:
            await in_thread(storage().settle, self._row.key, file)
        else:
            await in_thread(storage().drop_blob, file)
            await in_thread(storage().drop_upload, self._row.key)

    def _commit(self, actor: Actor, digest: str, file: str) -> bool:
        """Whether the file is the blob's: somebody may have brought the same bytes before, and they may be as good as ever."""
        self._announced.close()
        if not Upload.everywhere.filter(pk=self._row.pk).delete()[0]:
            _unknown(self._row.key)
        blob = Blob.objects.select_for_update().filter(digest=digest).first()
        is_ours = blob is None or blob.is_rotten
        if blob is None:
            blob = Blob.objects.create(digest=digest, size_bytes=self.size, file=file)
        elif blob.is_rotten:
            links.after_commit(storage().drop_blob, blob.file)
            blob.file, blob.is_rotten, blob.checked_at = file, False, timezone.now()
            blob.save(update_fields=["file", "is_rotten", "checked_at"])
        links.hold(actor, self._row.repository, blob)
        return is_ours

    async def drop(self) -> None:
        await database.run(lambda: Upload.everywhere.filter(pk=self._row.pk).delete())
        _hashes.pop(self._row.key, None)
        await in_thread(storage().drop_upload, self._row.key)


async def _pieces(chunks: Chunks) -> AsyncIterator[bytes]:
    """Of a client that leaves, what came before that, too."""
    parts, size, left = [], 0, None
    try:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= PIECE:
                yield b"".join(parts)
                parts, size = [], 0
    except ConnectionResetError as error:
        left = error
    if parts:
        yield b"".join(parts)
    if left is not None:
        raise left


def _remember(key: str, size: int, digest: Any) -> None:
    _hashes[key] = (size, digest)
    while len(_hashes) > _HASHES_MAX:
        _hashes.popitem(last=False)


def range_of(offset: int) -> dict[str, str]:
    """What has come, as the specification tells it: inclusive, and of nothing the same as of one byte."""
    return {"Range": f"0-{max(0, offset - 1)}"}
