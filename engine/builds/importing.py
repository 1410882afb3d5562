"""``docker import ADDRESS``: a root file system that the host fetches, with what the tenant's own containers reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.builds.fetching import Fetcher
from engine.errors import InvalidArgument
from engine.images.staging import Staging
from engine.images.streams import Chunks

if TYPE_CHECKING:
    from engine.engine import Engine


def import_from(engine: Engine, tenant: str, address: str, **words: Any) -> Iterator[dict[str, Any]]:
    """The lines of ``Engine.import_rootfs``, whose ``words`` these are, after one that says where from. No scheme: http, as moby has it."""
    url = address if "://" in address else f"http://{address}"
    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f'Get "{url}": unsupported protocol scheme "{url.partition(":")[0]}"')
    engine.ensure_tenant(tenant)
    with engine.images.lock():
        staging = Staging(engine.config)
    with staging, Fetcher(engine, tenant).opened(url, staging.folder) as (_said, pieces):
        yield {"status": f"Downloading from {url}"}
        yield from engine.import_rootfs(tenant, _Body(pieces), **words)


class _Body:
    """Pieces as a file that is read."""

    def __init__(self, pieces: Chunks) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, and fewer when the piece ends; -1: the piece."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data
