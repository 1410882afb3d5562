"""What a build has made, as lines of text that two builders can be compared by: the tree of files, layers, config and history.

Read from what ``docker save`` writes. Of the tree only what the test image does not have already; of times only whether a file
is of this very build (``now``).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_DIGEST = re.compile(r"\b(file|dir|multi):[0-9a-f]{64}")
_RECENT_S = 2 * 86400


@dataclass(slots=True)
class Node:
    """One inode; hard links share it."""

    kind: str
    mode: int
    owner: str
    mtime: str
    more: str  # content, target or device
    names: set[str] = field(default_factory=set)

    def told(self) -> str:
        linked = f" = {' = '.join(sorted(self.names))}" if len(self.names) > 1 else ""
        return f"{self.kind} {self.mode:04o} {self.owner} {self.mtime} {self.more}{linked}".replace("  ", " ").rstrip()


Tree = dict[str, Node]


@dataclass(slots=True)
class Image:
    tree: Tree
    layers: list[list[str]]  # the names in each, folders left out
    diff_ids: list[str]
    config: dict[str, Any]


def read(archive: Path) -> Image:
    with tarfile.open(archive) as tar:
        manifest = json.load(_file(tar, "manifest.json"))[0]
        config = json.load(_file(tar, manifest["Config"]))
        image = Image({}, [], config["rootfs"]["diff_ids"] or [], config)
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(_file(tar, name).read())) as layer:
                image.layers.append(_applied(layer, image.tree))
    return image


def _file(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    assert found is not None, name
    return found


def _applied(layer: tarfile.TarFile, tree: Tree) -> list[str]:
    names: list[str] = []
    for entry in layer:
        path = "/" + "/".join(part for part in entry.name.split("/") if part not in ("", "."))
        if not entry.isdir():
            names.append(path)
        folder, _slash, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _remove(tree, folder, itself=False, but=set(names))
        elif name.startswith(".wh."):
            _remove(tree, f"{folder}/{name[4:]}")
        elif entry.islnk():
            target = "/" + "/".join(part for part in entry.linkname.split("/") if part not in ("", "."))
            _put(tree, path, tree[target])
        else:
            old = tree.get(path)
            if old is not None and (old.kind != "folder" or not entry.isdir()):
                _remove(tree, path)
            _put(tree, path, _node(layer, entry))
    return sorted(names)


def _put(tree: Tree, path: str, node: Node) -> None:
    old = tree.get(path)
    if old is not None:
        old.names.discard(path)
    tree[path] = node
    node.names.add(path)


def _remove(tree: Tree, path: str, *, itself: bool = True, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    for each in [known for known in tree if (itself and known == path) or known.startswith(f"{path}/")]:
        if each not in but:
            tree.pop(each).names.discard(each)


def _node(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> Node:
    owner, more, kind = f"{entry.uid}:{entry.gid}", "", "other"
    mtime = "now" if entry.mtime > time.time() - _RECENT_S else str(int(entry.mtime))
    if entry.isdir():
        kind, mtime = "folder", ""
    elif entry.issym():
        kind, mtime, more = "link", "", f"-> {entry.linkname}"
    elif entry.isreg():
        kind = "file"
        data = _file(layer, entry.name).read() if entry.name else b""
        more = f"{len(data)} {hashlib.sha256(data).hexdigest()[:12]}"
    elif entry.isfifo():
        kind = "pipe"
    elif entry.ischr() or entry.isblk():
        kind, more = "device", f"{entry.devmajor}:{entry.devminor}"
    xattrs = {name[13:]: value for name, value in entry.pax_headers.items() if name.startswith("SCHILY.xattr.")}
    more += "".join(f" {name}={value!r}" for name, value in sorted(xattrs.items()))
    return Node(kind, entry.mode if kind != "link" else 0o777, owner, mtime, more)


def facts(image: Image, base: Image, *, exactly: bool) -> list[str]:
    """``exactly``: history and config as the classic builder writes them; else what any builder of the same file agrees about."""
    shared = len(base.diff_ids) if image.diff_ids[: len(base.diff_ids)] == base.diff_ids else 0
    known = base.tree if shared else {}
    lines = [
        f"tree {path} {node.told()}" for path, node in sorted(image.tree.items()) if path not in known or known[path].told() != node.told()
    ]
    lines += [f"tree {path} is gone" for path in sorted(set(known) - set(image.tree))]
    lines += [f"layer {number} {' '.join(names)}".rstrip() for number, names in enumerate(image.layers[shared:], 1)]
    config = {name: value for name, value in (image.config.get("config") or {}).items() if value not in (None, "", False, {}, [])}
    for name in ("Image", "Hostname", *(() if exactly else ("ArgsEscaped",))):
        config.pop(name, None)
    if not exactly and config.get("WorkingDir") == "/":
        del config["WorkingDir"]
    lines += [f"config {name} {json.dumps(value, sort_keys=True, ensure_ascii=False)}" for name, value in sorted(config.items())]
    lines += [f"image {name} {image.config[name]}" for name in ("architecture", "os", "variant", "author") if image.config.get(name)]
    history = (image.config.get("history") or [])[len(base.config["history"]) if shared else 0 :]
    if exactly:
        return lines + [f"history {_entry(each)}" for each in history]
    return lines + [f"history {_keyword(each['created_by'])}" for each in history if not each.get("empty_layer")]


def _entry(entry: dict[str, Any]) -> str:
    marks = "".join(f" ({name}: {entry[name]})" for name in ("empty_layer", "author", "comment") if entry.get(name))
    return json.dumps(_DIGEST.sub(r"\1:<digest>", entry.get("created_by", "")), ensure_ascii=False) + marks


def _keyword(line: str) -> str:
    found = re.search(r"#\(nop\) +(\w+)", line)
    if found:
        return found[1]
    word = line.split(" ", 1)[0]
    return word if word in ("RUN", "COPY", "ADD", "WORKDIR") else "RUN"
