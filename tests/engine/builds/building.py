"""Builds with an engine of their own: contexts made in memory, and what a build said and left."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import leaving
from engine.builds.builder import Builder
from engine.builds.layertree import LayerTree
from engine.config import EngineConfig
from engine.engine import Engine
from engine.images import demo
from engine.model.build import BuildRequest
from engine.model.image import ImageRecord
from engine.runtime.client import KeeperClient
from tests.support.scratch import open_folder

TENANT = "builder"
Content = str | bytes | tarfile.TarInfo


@dataclass
class Built:
    """What a build said; ``image`` is None when it failed."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    image: ImageRecord | None = None

    @property
    def text(self) -> str:
        return "".join(line.get("stream", "") for line in self.lines)

    @property
    def record(self) -> ImageRecord:
        assert self.image is not None
        return self.image


class Bench:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def build(self, text: str, files: Mapping[str, Content] | None = None, **words: Any) -> Built:
        built = Built()
        request = BuildRequest(id=secrets.token_hex(16), tenant=TENANT, **words)
        image_id = Builder(self.engine, request).build(context(text, files or {}), built.lines.append)
        built.image = self.engine.images.get(image_id)
        return built

    def files(self, image: ImageRecord) -> dict[str, Any]:
        """Path → (mode as text, uid, gid, content or link)."""
        tree = LayerTree([self.engine.config.layers / chain / "diff" for chain in reversed(image.chain_ids)])
        try:
            return dict(_walk(tree, ""))
        finally:
            tree.close()


def _walk(tree: LayerTree, top: str) -> Iterator[tuple[str, Any]]:
    for name in tree.names(top):
        path = f"{top}/{name}" if top else name
        file = tree.find(path)
        assert file is not None
        content = b"".join(tree.read(path)).decode("latin-1") if file.is_regular and file.size < 10_000 else file.link
        yield path, (f"{file.mode:o}", file.uid, file.gid, content)
        if file.is_folder:
            yield from _walk(tree, path)


@contextmanager
def bench(folder: Path | None = None) -> Iterator[Bench]:
    """``folder``: one that is there already."""
    with nullcontext(folder) if folder else open_folder() as folder:
        config = EngineConfig(folder / "data", folder / "run")
        config.run.mkdir()
        engine = Engine(config)
        try:
            engine.keeper.ensure_running()
            demo.load(engine.images)
            yield Bench(engine)
        finally:
            KeeperClient(config).stop(containers=True)
            leaving.remove_all(Engine(config))


def context(dockerfile: str, files: Mapping[str, Content]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {"Dockerfile": dockerfile, **files}.items():
            add(archive, name, content)
    out.seek(0)
    return out


def add(archive: tarfile.TarFile, name: str, content: Content) -> None:
    if isinstance(content, tarfile.TarInfo):
        content.name = name
        archive.addfile(content)
        return
    info = tarfile.TarInfo(name)
    data = content.encode() if isinstance(content, str) else content
    info.mode, info.mtime = 0o644, 1_700_000_000
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
        return
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def link(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def folder_of(bench: Bench) -> Path:
    return bench.engine.config.engine
