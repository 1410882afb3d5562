"""Tars, layers and image archives, built in memory; good ones by tarfile, bad ones by changing one thing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.model.platform import host_architecture

OCI = "application/vnd.oci.image"
Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", **attributes: Any) -> Member:
    return _member(name, tarfile.REGTYPE, data, attributes)


def folder(name: str, **attributes: Any) -> Member:
    return _member(name, tarfile.DIRTYPE, b"", {"mode": 0o755, **attributes})


def symlink(name: str, target: str, **attributes: Any) -> Member:
    return _member(name, tarfile.SYMTYPE, b"", {"linkname": target, **attributes})


def hard_link(name: str, target: str) -> Member:
    return _member(name, tarfile.LNKTYPE, b"", {"linkname": target})


def device(name: str, major: int, minor: int, *, kind: bytes = tarfile.CHRTYPE, **attributes: Any) -> Member:
    return _member(name, kind, b"", {"devmajor": major, "devminor": minor, **attributes})


def fifo(name: str) -> Member:
    return _member(name, tarfile.FIFOTYPE, b"", {})


def _member(name: str, kind: bytes, data: bytes, attributes: Mapping[str, Any]) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def tar(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def plain(data: bytes) -> bytes:
    return data


def image_config(layers: Iterable[bytes], **config: Any) -> bytes:
    document = {
        "architecture": host_architecture(),
        "os": "linux",
        "created": "2024-05-06T07:08:09Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps(document).encode()


def docker_archive(layers: list[bytes], names: list[str] | None, compress: Callable[[bytes], bytes] = plain, **config: Any) -> bytes:
    """As docker save wrote it up to version 24, the manifest last."""
    data = image_config(layers, **config)
    files = {f"{number}/layer.tar": compress(layer) for number, layer in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": list(files)}]
    files |= {"config.json": data, "repositories": b"{}", "manifest.json": json.dumps(manifest).encode()}
    return tar(*(file(name, content) for name, content in files.items()))


@dataclass
class Layout:
    """An OCI layout to be filled and then spoiled."""

    files: dict[str, bytes] = field(default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'})
    tops: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.files[f"blobs/sha256/{digest(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def image(self, layers: list[bytes], compress: Callable[[bytes], bytes] = plain, **more: Any) -> dict[str, Any]:
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(image_config(layers), f"{OCI}.config.v1+json"),
            "layers": [self.blob(compress(layer), f"{OCI}.layer.v1.tar") for layer in layers],
        }
        return self.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json", **more)

    def index(self, manifests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
        return self.blob(json.dumps(document).encode(), f"{OCI}.index.v1+json", **more)

    def archive(self, *, layout_first: bool = False) -> bytes:
        index = json.dumps({"schemaVersion": 2, "manifests": self.tops}).encode()
        files = {**self.files, "index.json": index}
        names = sorted(files, reverse=layout_first)
        return tar(*(file(name, files[name]) for name in names))


def named(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name}


class Pipe(io.RawIOBase):
    """A stream as a socket is one: no seek, no length, and odd little pieces."""

    def __init__(self, data: bytes, piece: int = 4093) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(self._piece, size) if size >= 0 else self._piece)
