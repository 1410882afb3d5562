"""Porter's child that goes into a container's view: stat, archives out and in, export, whether a user is known. See view.py."""

from __future__ import annotations

import base64
import io
import os
import socket
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, ClassVar, Final, cast

from engine import disk, errors
from engine.config import EngineConfig
from engine.files import sinks, view
from engine.files.child import Child
from engine.files.extract import extract
from engine.files.packing import Packer
from engine.files.pathstat import absolute, base_name, explain, follow, path_stat
from engine.files.upload import Upload
from engine.files.view import View
from engine.kernel.paths import open_in_root, text_of
from engine.runtime import users

_BUFFER: Final = 1 << 20
LISTED_MAX: Final = 2_000  # entries of one folder that are told


class Copying(Child):
    def __init__(self, words: dict[str, Any], fds: dict[str, int], parent: int, seen: View, store: int, config: EngineConfig) -> None:
        super().__init__(words, fds, parent)
        self._view, self._store, self._config = seen, store, config
        self._hidden = frozenset(seen.hidden)

    def _enter(self, *, without_mounts: bool = False) -> int:
        if "lock" in self.fds:  # who waits to start the container finds there whom to end
            os.ftruncate(self.fds["lock"], 0)
            os.pwrite(self.fds["lock"], str(os.getpid()).encode(), 0)
        if self._view.kind == view.RUNNING:
            root = view.enter_running(self.fds["pidfd"], without_mounts=without_mounts)
        elif self._view.kind == view.VOLUME:
            root = view.enter_volume(self._view, self._store)
        else:
            root = view.enter_layers(self._view, self._store, self._config)
        self.end_with_parent()
        return root

    # -- ops -------------------------------------------------------------------------------------

    def _stat(self) -> None:
        self.say({"ok": {"stat": self._look(self._enter(), self.path)}})

    def _get(self) -> None:
        root = self._enter()
        path = absolute(self.path)
        said = self._look(root, path)
        packer = Packer(hidden=self._hidden)
        if said["mode"] >> 31:
            pieces = packer.folder(open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY), self.words.get("base") or base_name(path))
        else:
            above, _slash, base = path.rpartition("/")
            parent = open_in_root(root, above or "/", os.O_PATH | os.O_DIRECTORY)
            pieces = packer.file(parent, base, os.fsencode(base), os.stat(base, dir_fd=parent, follow_symlinks=False))
        self.say({"ok": {"stat": said}})
        sinks.to_socket(pieces, self.client)

    def _export(self) -> None:
        top = open_in_root(self._enter(without_mounts=True), "/", os.O_RDONLY | os.O_DIRECTORY)
        self.say({"ok": {}})
        sinks.to_socket(Packer().folder(top, "", itself=False), self.client)

    def _put(self) -> None:
        root = self._enter()
        try:
            fd = open_in_root(root, self.path, os.O_PATH)
        except OSError as error:
            raise explain(error, "lstat", self.path, self.container) from error
        status = os.fstat(fd)
        self._check_is_file_of_it(status)
        if not stat.S_ISDIR(status.st_mode):
            raise errors.InvalidArgument("extraction point is not a directory")
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY or (self.words["read_only"] and self._view.kind != view.RUNNING):
            raise errors.InvalidArgument("container rootfs is marked read-only")
        owner = self._owner(root) if self.words["copy_owner"] else None
        self.say({"ok": {}})
        upload = Upload(base64.b64decode(self.words["early"]), self.client)
        extract(
            cast(BinaryIO, io.BufferedReader(upload, _BUFFER)),
            root,
            follow(root, self.path),
            container=self.container,
            no_overwrite=bool(self.words["no_overwrite"]),
            owner=owner,
        )
        os.close(self.fds["lock"])  # the answer is no part of the copy
        self.say({"done": {}})

    def _user(self) -> None:
        _find_user(self._enter(), str(self.words["user"]))
        self.say({"ok": {}})

    def _list(self) -> None:
        """What is in a folder, by name."""
        root = self._enter()
        try:
            folder = open_in_root(root, self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise explain(error, "lstat", self.path, self.container) from error
        names = sorted(os.listdir(folder), key=os.fsencode)
        self.say({"ok": {"entries": [entry for name in names[:LISTED_MAX] if (entry := _entry(folder, name))], "count": len(names)}})

    def _remove(self) -> None:
        """A file, or a folder with all that is in it; the root itself stays."""
        root = self._enter()
        above, _slash, base = absolute(self.path).rpartition("/")
        if base in ("", ".", ".."):
            raise errors.InvalidArgument("the whole of it is not removed so")
        try:
            parent = open_in_root(root, above or "/", os.O_RDONLY | os.O_DIRECTORY)
            if stat.S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode):
                disk.remove_tree(base, dir_fd=parent)
            else:
                os.unlink(base, dir_fd=parent)
        except OSError as error:
            raise explain(error, "remove", self.path, self.container) from error
        self.say({"ok": {}})

    ops: ClassVar[Mapping[str, Callable[[Any], None]]] = {
        "stat": _stat, "get": _get, "export": _export, "put": _put, "user": _user, "list": _list, "remove": _remove,
    }  # fmt: skip

    def refused(self) -> None:
        """Of a copy in, what the client still sends is read, so that it gets to read the error. The lock is free by then."""
        if "lock" not in self.fds:
            return
        os.close(self.fds["lock"])
        sock = socket.socket(fileno=os.dup(self.client))
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(_BUFFER):
            pass

    # -- inside ----------------------------------------------------------------------------------

    def _look(self, root: int, path: str) -> dict[str, Any]:
        try:
            fd = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            raise explain(error, "lstat", self.path, self.container) from error
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        self._check_is_file_of_it(status)
        said = path_stat(path, status, follow(root, path) if stat.S_ISLNK(status.st_mode) else "")
        return {**said, "name": self.words.get("base") or said["name"]}

    def _check_is_file_of_it(self, status: os.stat_result) -> None:
        """What the kernel makes up (proc, sys) and the devices are no files of the container."""
        if status.st_dev in self._hidden:
            raise errors.NotFound(f"Could not find the file {self.path} in container {self.container}")

    def _owner(self, root: int) -> tuple[int, int] | None:
        """The container's own user, by its own passwd: what ``docker cp -a`` gives the files to."""
        words = str(self.words["user"])
        if not words:
            return None
        user = _find_user(root, words)
        return user.uid, user.gid


def _entry(folder: int, name: str) -> dict[str, Any] | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else ""
    except OSError:
        return None  # gone meanwhile
    shown = path_stat(os.fsencode(name).decode(errors="replace"), status, os.fsencode(target).decode(errors="replace"))
    return {**shown, "uid": status.st_uid, "gid": status.st_gid}


def _find_user(root: int, words: str) -> users.User:
    return users.find(words, partial(_read, root))


def _read(root: int, path: str) -> str:
    """Empty when there is no such file."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    return text_of(fd, users.DATABASE_MAX)
