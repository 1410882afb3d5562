"""RUN --mount: folders that are there while a step runs and are in no layer.

    bind    a copy of files of the context, a stage or an image; what the step writes into it is thrown away with it
    cache   a folder of the tenant's that stays from build to build: <engine>/builds/cache/<tenant>/mounts/<digest of its id>/data
    tmpfs   memory
    secret  a file of the request's, in a folder of root's that goes with the build; or a variable. One that was not given and is not
            required is not there
    ssh     a socket that answers for a key of the request's (engine.builds.sshagent); SSH_AUTH_SOCK names the first

The script of a heredoc (``RUN <<EOF`` that begins with ``#!``) comes the same way, as one file that is read only.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import posixpath
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.builds import sshagent, transfer
from engine.builds.dockerfile.model import Mount
from engine.builds.documents import Document
from engine.builds.files import FileTree, clean, follow
from engine.builds.layout import Layout, gathered
from engine.errors import InvalidArgument
from engine.images import held
from engine.images.streams import drain
from engine.images.unpack import unpack
from engine.model.build import check_secret
from engine.model.tenant import IDS_PER_TENANT

if TYPE_CHECKING:
    from engine.builds.dockerfile import model
    from engine.builds.runconfig import Config
    from engine.builds.stage import Shop, StageRun

_POLL_S: Final = 0.1
_CACHE_MODE: Final = 0o755
_SSH_SOCKET: Final = "/run/buildkit/ssh_agent.{}"  # where BuildKit puts it, which Dockerfiles name
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class _Secret:
    mount: Mount
    target: str  # "" = a variable only
    content: bytes


@dataclass(frozen=True, slots=True)
class _Key:
    mount: Mount
    target: str
    name: str
    content: bytes


class Mounts:
    """Of one RUN. What it prepares lasts as long as ``stack``."""

    def __init__(self, shop: Shop, stage: StageRun, words: model.Run, config: Config, stack: ExitStack) -> None:
        self._shop, self._stack = shop, stack
        cwd = posixpath.join("/", config["WorkingDir"] or "/")
        given = [mount for mount in words.mounts if mount.type not in ("secret", "ssh")]
        self._mounts = [(mount, posixpath.join(cwd, mount.target)) for mount in given]
        self._secrets = [found for mount in words.mounts if (found := self._secret(mount, cwd)) is not None]
        self._keys = self._ssh([mount for mount in words.mounts if mount.type == "ssh"], cwd)
        self._sources: dict[int, tuple[FileTree, transfer.Item]] = {}
        for number, (mount, _target) in enumerate(self._mounts):
            if mount.type == "bind" or (mount.type == "cache" and mount.from_):
                self._sources[number] = self._source(stage, mount, words.first_line)
        self._places: list[str] = [target for _mount, target in self._mounts] + [secret.target for secret in self._secrets if secret.target]
        self._places += [key.target for key in self._keys]

    def _source(self, stage: StageRun, mount: Mount, line: int) -> tuple[FileTree, transfer.Item]:
        tree: FileTree | None
        if mount.from_:
            tree = self._stack.enter_context(stage.tree_of(stage.step_of(mount.from_, line)))
        else:
            tree = self._shop.context
        if tree is None:
            raise InvalidArgument("missing build context")
        path = follow(tree, clean(mount.source or "/"))
        if tree.find(path) is None:
            raise InvalidArgument(f'failed to calculate checksum of ref: "/{path}": not found')
        (item,) = transfer.items_of(tree, "/" + path if path else ".", from_image=bool(mount.from_))
        return tree, item

    def _secret(self, mount: Mount, cwd: str) -> _Secret | None:
        if mount.type != "secret":
            return None
        name = mount.id or mount.source or posixpath.basename(mount.target)
        value = self._shop.request.secrets.get(name)
        if value is None:
            if mount.is_required:
                raise InvalidArgument(f"secret {name}: not found")
            return None
        target = posixpath.join(cwd, mount.target) if mount.target else "" if mount.env else f"/run/secrets/{name}"
        return _Secret(mount, target, check_secret(name, value))

    def _ssh(self, mounts: list[Mount], cwd: str) -> list[_Key]:
        found: list[_Key] = []
        for mount in mounts:
            name = mount.id or "default"
            value = self._shop.request.ssh.get(name)
            if value is not None:
                target = posixpath.join(cwd, mount.target) if mount.target else _SSH_SOCKET.format(len(found))
                found.append(_Key(mount, target, name, check_secret(name, value)))
            elif mount.is_required:
                raise InvalidArgument(f"unset ssh forward key {name}")
        return found

    def env(self) -> list[str]:
        """``NAME=value`` of the secrets that are variables, and of the first key's socket: for the step alone."""
        named = [(secret.mount.env, secret.content.decode("utf-8", "replace")) for secret in self._secrets if secret.mount.env]
        if any("\0" in value for _name, value in named):
            raise InvalidArgument("a secret with a zero byte cannot be a variable")
        return [f"{name}={value}" for name, value in named] + [f"SSH_AUTH_SOCK={key.target}" for key in self._keys[:1]]

    def key(self) -> list[Any]:
        """What of them counts for the cache: the content of binds, and where things are."""
        found: list[Any] = []
        for number, (mount, target) in enumerate(self._mounts):
            source = self._sources.get(number)
            found.append([mount.type, target, source[1].digest if source and mount.type == "bind" else ""])
        found += [["secret", secret.target, secret.mount.env] for secret in self._secrets]
        return found + [["ssh", key.target] for key in self._keys]

    def places(self) -> list[str]:
        return self._places

    def prepare(self, script: tuple[str, bytes] | None) -> Iterator[dict[str, Any]]:
        """The OCI config's mounts."""
        for number, (mount, target) in enumerate(self._mounts):
            if mount.type == "bind":
                yield _bind(self._copy(number), target, read_only=mount.is_read_only)
            elif mount.type == "cache":
                yield _bind(self._cache_folder(number, mount, target), target, read_only=mount.is_read_only)
            else:
                options = ["nosuid", "nodev", *([f"size={mount.size_bytes}"] if mount.size_bytes else [])]
                yield {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
        for secret in self._secrets:
            if secret.target:
                owner, mode = (
                    (secret.mount.uid or 0, secret.mount.gid or 0),
                    0o400 if secret.mount.mode is None else secret.mount.mode & 0o777,
                )
                file = self._file("secret", secret.content, mode, owner)
                self._stack.callback(file.unlink, missing_ok=True)  # with the step, not with the build
                yield _bind(file, secret.target, read_only=True)
        for key in self._keys:
            yield _bind(self._agent(key), key.target, read_only=True)
        if script is not None:
            path, content = script
            yield _bind(self._file(posixpath.basename(path), content, 0o755, (0, 0)), path, read_only=True)

    # -- inside ----------------------------------------------------------------------------------

    def _folder(self, mode: int) -> Path:
        """Of this mount alone, gone with the build."""
        folder = self._shop.workshop.folder / f"mount{next(_numbers)}"
        folder.mkdir(mode=mode)
        return folder

    def _agent(self, key: _Key) -> Path:
        start = self._shop.engine.tenants.get(self._shop.request.tenant).uid_start
        uid, gid = key.mount.uid or 0, key.mount.gid or 0
        if max(uid, gid) >= IDS_PER_TENANT:
            raise InvalidArgument(f"ssh mount: a container has no user {max(uid, gid)}: its ids end at {IDS_PER_TENANT - 1}")
        folder = self._folder(0o700)
        mode = 0o600 if key.mount.mode is None else key.mount.mode & 0o777
        outside = (start + uid, start + gid)
        return sshagent.begin(folder, key.name, key.content, outside=outside, inside=(uid, gid), mode=mode, stack=self._stack)

    def _copy(self, number: int) -> Path:
        tree, item = self._sources[number]
        folder = self._folder(0o755)
        owner = None if self._mounts[number][0].from_ else (0, 0)
        file = tree.find(item.path)
        assert file is not None
        self._fill(folder, [item], owner)
        return folder if file.is_folder else folder / item.name

    def _fill(self, folder: Path, items: list[transfer.Item], owner: tuple[int, int] | None) -> None:
        layout = Layout(_Empty(), now_s=int(time.time()))
        source = gathered(transfer.pieces(layout, items, "/", transfer.Manner(owner=owner)))
        unpack(source, folder, self._shop.workshop.limits)
        drain(source)

    def _file(self, name: str, content: bytes, mode: int, owner: tuple[int, int]) -> Path:
        folder = self._folder(0o755)
        tree = Document(name, content, mode=mode)
        self._fill(folder, [transfer.Item(tree=tree, path=name, name=name, digest="")], owner)
        return folder / name

    def _cache_folder(self, number: int, mount: Mount, target: str) -> Path:
        """Made when it is missing, with what ``from`` names in it."""
        name = hashlib.sha256((mount.id or target).encode("utf-8", "surrogateescape")).hexdigest()
        above = held.folder_of(self._shop.engine.config, self._shop.request.tenant) / "mounts"
        folder = self._locked(above, name, mount.sharing)
        data = folder / "data"
        if not data.is_dir():
            fresh = folder / f"new{os.urandom(4).hex()}"
            fresh.mkdir(mode=0o755)
            if number in self._sources:
                self._fill(fresh, [self._sources[number][1]], None)
            os.chown(fresh, mount.uid or 0, mount.gid or 0)
            fresh.chmod(_CACHE_MODE if mount.mode is None else mount.mode & 0o7777)
            try:
                fresh.rename(data)
            except OSError:  # another build was first
                fresh.rmdir()
        return data

    def _locked(self, above: Path, name: str, sharing: str) -> Path:
        """``shared``: with all others. ``locked``: one after the other. ``private``: another folder while this one is in use."""
        for number in itertools.count():
            folder = above / (f"{name}.{number}" if number else name)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._stack.callback(os.close, fd)
            if sharing in ("", "shared"):
                return folder
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return folder
                except BlockingIOError:
                    if sharing == "private":
                        break
                    self._shop.containers.check()
                    time.sleep(_POLL_S)
        raise AssertionError("itertools.count ends never")


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "bind",
        "source": str(source),
        "options": ["bind", "nosuid", "nodev", *(["ro"] if read_only else [])],
    }


class _Empty:
    """A FileTree with nothing in it."""

    def find(self, path: str) -> None:
        return None

    def names(self, path: str) -> list[str]:
        return []

    def read(self, path: str) -> Iterator[bytes]:
        return iter(())

    def digest(self, path: str) -> str:
        return ""
