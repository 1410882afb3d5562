"""What images cost: load, save, a layer of many small files, a list of many, a build, a registry. Archives are made once, in memory."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.bench.client import BenchError, Engine, drain
from tests.support import registry as debian

Sample = dict[str, float | list[float]]
Roots = Callable[[], set[int]]

LOADED: Final = 121_000_000  # bytes of the archive of ``load``: as many as a Debian base image
SMALL: Final = 20_000  # files of one layer
LISTED: Final = 200  # images
TIMES: Final = 20
REGISTRY_PORT: Final = 5055  # of loopback, which an instance must allow (SLIPWAY_REGISTRIES_ALLOWED=127.0.0.1:5055)
STEPS: Final = """FROM busybox
COPY files /app
RUN touch /app/one /app/f1
RUN touch /app/two /app/f2
RUN touch /app/three /app/f3
ENV MODE=bench
CMD ["true"]
"""
_ARCHITECTURE: Final = "amd64"


def _layer(files: Iterator[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _archive(images: dict[str, list[bytes]]) -> bytes:
    """As docker save wrote it up to version 24: every engine reads that."""
    files: dict[str, bytes] = {}
    manifest = []
    for name, layers in images.items():
        diff_ids = [hashlib.sha256(layer).hexdigest() for layer in layers]
        config = json.dumps({
            "architecture": _ARCHITECTURE, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digits}" for digits in diff_ids]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "bench"} for _ in layers],
        }).encode()  # fmt: skip
        files |= {f"{digits}/layer.tar": layer for digits, layer in zip(diff_ids, layers, strict=True)}
        files[f"{hashlib.sha256(config).hexdigest()}.json"] = config
        manifest.append(
            {
                "Config": f"{hashlib.sha256(config).hexdigest()}.json",
                "RepoTags": [name],
                "Layers": [f"{digits}/layer.tar" for digits in diff_ids],
            }
        )
    return _layer(iter([*files.items(), ("manifest.json", json.dumps(manifest).encode())]))


@cache
def _usual() -> bytes:
    """One layer of some thousand files, few of them large, like a distribution's."""
    chance = random.Random(1)
    sizes = [chance.choice((300, 1_500, 4_000, 12_000, 60_000)) for _ in range(7_000)]
    big = (LOADED - sum(sizes)) // 20
    sizes += [big] * 20
    return _archive(
        {"bench:load": [_layer((f"usr/lib/d{number % 300}/f{number}", chance.randbytes(size)) for number, size in enumerate(sizes))]}
    )


@cache
def _many_small() -> bytes:
    chance = random.Random(2)
    names = (f"srv/node_modules/d{number % 400}/f{number}.js" for number in range(SMALL))
    return _archive({"bench:small": [_layer((name, chance.randbytes(chance.randint(100, 3000))) for name in names)]})


@cache
def _two_hundred() -> bytes:
    return _archive({f"bench/listed{number}:1": [_layer(iter([(f"f{number}", b"x")]))] for number in range(LISTED)})


def _seconds(engine: Engine, method: str, path: str, *words: Any, **query: str) -> float:
    """Of a request whose reply tells of its failure in its stream."""
    since = time.perf_counter()
    said = engine.call(method, path, *words, **query)
    took = time.perf_counter() - since
    if b'"error"' in said:
        raise BenchError(f"{engine.name}: {path}: {said[-300:].decode(errors='replace')}")
    return took


def _load(engine: Engine, archive: bytes) -> float:
    return _seconds(engine, "POST", "/images/load", archive, quiet="1")


def _forget(engine: Engine, name: str) -> None:
    try:
        engine.call("DELETE", f"/images/{name}", force="1")
    except BenchError as error:
        if " 404 " not in str(error):
            raise


def load(engine: Engine, _roots: Roots) -> Sample:
    """In, and out again."""
    _forget(engine, "bench:load")
    took = _load(engine, _usual())
    sample: Sample = {"load MB/s": len(_usual()) / 1e6 / took, "load of 121 MB ms": took * 1000}
    since = time.perf_counter()
    saved = drain(*engine.stream("GET", "/images/bench:load/get"))
    sample["save MB/s"] = len(saved) / 1e6 / (time.perf_counter() - since)
    if len(saved) < LOADED:
        raise BenchError(f"{engine.name}: save: {len(saved)} bytes of {LOADED}")
    _forget(engine, "bench:load")
    return sample


def unpack(engine: Engine, _roots: Roots) -> Sample:
    _forget(engine, "bench:small")
    took = _load(engine, _many_small())
    _forget(engine, "bench:small")
    return {f"unpack-20k: a layer of {SMALL} small files s": took, "unpack-20k: files per-s": SMALL / took}


def listing(engine: Engine, _roots: Roots) -> Sample:
    _load(engine, _two_hundred())
    times = []
    for _ in range(TIMES):
        since = time.perf_counter()
        listed = engine.json("GET", "/images/json")
        times.append((time.perf_counter() - since) * 1000)
        if len(listed) < LISTED:
            raise BenchError(f"{engine.name}: lists {len(listed)} images of {LISTED}")
    for number in range(LISTED):
        _forget(engine, f"bench/listed{number}:1")
    return {f"images-list-200: list of {LISTED} images ms": times}


def context() -> bytes:
    """New each time."""
    files = {f"files/f{number}": f"{time.time_ns()} {number} {'x' * 1000}".encode() for number in range(200)}
    return _layer(iter([("Dockerfile", STEPS.encode()), *files.items()]))


def build(engine: Engine, _roots: Roots) -> Sample:
    """Six steps, and the same again. The files of the context are new each time, so nothing behind COPY is in a cache."""
    sent = context()

    def make() -> tuple[float, str]:
        took = _seconds(engine, "POST", "/build", sent, t="bench-build:1", version="1", rm="1", forcerm="1")
        return took, str(engine.json("GET", "/images/bench-build:1/json")["Id"])

    cold, made = make()
    cached, again = make()
    if again != made:
        raise BenchError(f"{engine.name}: the second build made another image")
    _forget(engine, "bench-build:1")
    return {"build of 6 steps, cold s": cold, "build, all cached ms": cached * 1000}


def exchange(engine: Engine, _roots: Roots) -> Sample:
    """To a registry that has nothing yet, and back to an engine that has forgotten it."""
    name, auth = f"127.0.0.1:{REGISTRY_PORT}/bench/load", {"X-Registry-Auth": "e30="}
    _load(engine, _usual())
    with tempfile.TemporaryDirectory() as folder, debian.running(Path(folder), port=REGISTRY_PORT):
        engine.call("POST", "/images/bench:load/tag", repo=name, tag="1")
        pushed = _seconds(engine, "POST", f"/images/{name}/push", None, auth, tag="1")
        for known in ("bench:load", f"{name}:1"):
            _forget(engine, known)
        pulled = _seconds(engine, "POST", "/images/create", None, auth, fromImage=name, tag="1")
        engine.json("GET", f"/images/{name}:1/json")
        _forget(engine, f"{name}:1")
    return {"push of 121 MB s": pushed, "pull of 121 MB s": pulled}
