"""How much one upload may cost this host before anybody looks at it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings of one ``load`` or ``import``. Crossing one ends it with InvalidArgument and leaves nothing."""

    archive_bytes: int = 64 << 30  # of the stream, after its outer compression
    archive_entries: int = 100_000  # files of the archive itself
    layer_bytes: int = 64 << 30  # of one layer, uncompressed: what stops a decompression bomb
    layer_entries: int = 2_000_000  # files of one layer
    layers: int = 500  # of one image: overlayfs takes no more
    images: int = 1_000  # of one archive
    document_bytes: int = 4 << 20  # a manifest, an index: they are read into memory; what registries must take (distribution-spec)
    documents_bytes: int = 32 << 20  # of all documents that one archive makes us read, each as often as it does
    documents_values: int = 500_000  # in all of them: a megabyte of "[]," becomes thirty of lists


DEFAULT = Limits()
