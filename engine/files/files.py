"""What can be asked about a container's files; the room's door. Each question becomes a job for porter, and its words are checked here.

job = files.get(tenant, container_id, "/etc", shown="web")
report = desk.hand_over(job.words, {"client": socket, **job.fds})     porter's child answers on the client's socket
job.close()
"""

from __future__ import annotations

import base64
import fcntl
import os
import posixpath
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine import disk
from engine.errors import FailedPrecondition, InvalidArgument, NotFound
from engine.files import view
from engine.files.pathstat import absolute, base_name
from engine.files.view import View
from engine.images import commit as committing
from engine.images.commit import Commit
from engine.kernel import cgroups
from engine.model.codec import to_json
from engine.model.container import ContainerSpec, Status
from engine.model.resources import Resources
from engine.model.tenant import IDS_PER_TENANT
from engine.model.volume import VOLUME, MountSpec
from engine.runtime import client, layers
from engine.volumes.store import DATA, DISK, IMAGE, check_own_files

if TYPE_CHECKING:
    from engine.engine import Engine

START_WAITS_S: Final = 5.0  # for a copy into the container; then the copy is ended
_POLL_S: Final = 0.01
_STILL: Final = "still.json"
_OF_MOUNTS: Final = ("stat", "get", "put")
# What the kernel makes up, or what is devices: no files of the container
_NOT_FILES: Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs", "tracefs", "bpf"})


@dataclass(slots=True)
class Job:
    """``fds`` beside the client's socket: pidfd or lock."""

    words: dict[str, Any]
    fds: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Our copies; whoever works has its own."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


@dataclass(frozen=True, slots=True)
class Side:
    """One of two to be compared: ``kind`` container or image, ``id`` its whole id."""

    kind: str
    id: str


class Files:
    """Methods raise engine.errors; NotFound also for what another tenant has."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._making_cgroup = threading.Lock()

    # -- merged view -----------------------------------------------------------------------------

    def stat(self, tenant: str, container_id: str, path: str, *, shown: str) -> Job:
        """``shown``: the container as the caller named it, for the sentences."""
        return self._view_job("stat", tenant, container_id, path=_path(path), shown=shown)

    def get(self, tenant: str, container_id: str, path: str, *, shown: str) -> Job:
        return self._view_job("get", tenant, container_id, path=_path(path), shown=shown)

    def export(self, tenant: str, container_id: str) -> Job:
        return self._view_job("export", tenant, container_id, path="/", shown=container_id)

    def user(self, tenant: str, container_id: str, user: str) -> Job:
        """Whether ``user`` is known there; InvalidArgument with moby's sentence when not."""
        return self._view_job("user", tenant, container_id, path="/etc/passwd", shown=container_id, user=user)

    def put(
        self, tenant: str, container_id: str, path: str, *, shown: str, no_overwrite: bool, copy_owner: bool, early: bytes = b""
    ) -> Job | None:
        """None while another copy goes into the container. A launch of it that was made ahead ends: it holds these files open."""
        with self._engine.locked(container_id):  # nobody starts it between our look and our lock
            spec = self._engine.records.spec(container_id, tenant=tenant)
            lock = _try_lock(self._lock_path(container_id))
            if lock < 0:
                return None
            try:
                client.discard(self._engine.config, container_id)  # what was made ahead of a start has the layer mounted, too
                job = self._view_job(
                    "put",
                    tenant,
                    container_id,
                    path=_path(path),
                    shown=shown,
                    no_overwrite=no_overwrite,
                    copy_owner=copy_owner,
                    user=spec.user,
                    read_only=spec.read_only_rootfs,
                    early=base64.b64encode(early).decode(),
                )
            except BaseException:
                os.close(lock)
                raise
            job.fds["lock"] = lock
            return job

    def _view_job(self, op: str, tenant: str, container_id: str, **words: Any) -> Job:
        spec, state = self._engine.records.spec(container_id, tenant=tenant), self._engine.records.state(container_id)
        pidfd = -1
        hidden: tuple[int, ...] = ()
        if state.status in (Status.RUNNING, Status.PAUSED):
            with suppress(NotFound):  # it has just ended
                pidfd = self._engine.keeper.fds(container_id, ["pidfd"])["pidfd"]
                hidden = _hidden(state.pid)
        if pidfd < 0 and op in _OF_MOUNTS and (mount := _mount_of(spec, words["path"])) is not None:
            return self._mounted_job(op, spec, mount, **words)
        upper, work = layers.upper_and_work(self._engine.config, container_id)
        kind = view.RUNNING if pidfd >= 0 else view.STOPPED if op == "put" else view.SEALED
        seen = View(
            kind=kind,
            tenant=tenant,
            uid_start=self._engine.tenants.get(tenant).uid_start,
            ids=IDS_PER_TENANT,
            lower=tuple(self._engine.images.lower_dirs(self._engine.images.get(spec.image_id))),
            upper=upper,
            work=work,
            hidden=hidden,
        )
        return self._job(op, tenant, {"pidfd": pidfd} if pidfd >= 0 else {}, view=to_json(seen), **words)

    def _mounted_job(self, op: str, spec: ContainerSpec, mount: MountSpec, **words: Any) -> Job:
        """Of a path that a volume covers while the container runs: there the files belong."""
        if mount.type != VOLUME:
            raise FailedPrecondition(f"{mount.target} is mounted only while container {spec.name} runs: start it first")
        if op == "put" and mount.read_only:
            raise InvalidArgument("mounted volume is marked read-only")
        path = absolute(words.pop("path"))
        below = path[len(mount.target) :].lstrip("/")
        inside = "/" + posixpath.join(mount.subpath, below)
        if op == "put" and not words["user"].replace(":", "").isdecimal():
            words["user"] = ""  # names are the image's
        return self.of_volume(op, spec.tenant, mount.source, inside, base=base_name(path), **words)

    # -- volumes ---------------------------------------------------------------------------------

    def of_volume(self, op: str, tenant: str, name: str, path: str, **words: Any) -> Job:
        """``op`` (stat, get, export, list, remove, put) on the files of a volume, whoever else has it mounted."""
        volume = self._engine.volumes.get(tenant, name)
        check_own_files(volume)
        folder = self._engine.volumes.folder(tenant, name)
        seen = View(
            kind=view.VOLUME,
            tenant=tenant,
            uid_start=self._engine.tenants.get(tenant).uid_start,
            ids=IDS_PER_TENANT,
            lower=(),
            upper=f"{folder.relative_to(self._engine.config.engine)}/{DATA}",
            work="",
            image=str(folder / IMAGE) if volume.limit == DISK else "",
        )
        fds: dict[str, int] = {}
        if op == "put":
            fds["lock"] = os.memfd_create("no-lock")  # where a copy into a container says who it is
            words = {"no_overwrite": False, "copy_owner": False, "user": "", "read_only": False, **words}
        return self._job(op, tenant, fds, view=to_json(seen), path=_path(path), **{"shown": name, **words})

    # -- layers ----------------------------------------------------------------------------------

    def changes(self, tenant: str, container_id: str) -> Job:
        """Against its image: what ``docker diff`` tells."""
        spec = self._engine.records.spec(container_id, tenant=tenant)
        return self._job("changes", tenant, old=self._layers_of_image(spec.image_id), new=self._layers_of_container(spec))

    def diff(self, tenant: str, old: Side, new: Side) -> Job:
        return self._job("diff", tenant, old=self._layers(tenant, old), new=self._layers(tenant, new))

    def text(self, tenant: str, old: Side, new: Side, path: str) -> Job:
        return self._job("text", tenant, old=self._layers(tenant, old), new=self._layers(tenant, new), path=_path(path))

    def commit(self, tenant: str, commit: Commit) -> Job:
        """Words only: ``held_still`` around it is what a pause means."""
        committing.check(commit)
        spec = self._engine.records.spec(commit.container_id, tenant=tenant)
        upper, _work = layers.upper_and_work(self._engine.config, spec.id)
        return self._job("commit", tenant, tenant=tenant, image=spec.image_id, upper=upper, commit=to_json(commit))

    @contextmanager
    def held_still(self, tenant: str, container_id: str) -> Iterator[None]:
        """Its processes don't run meanwhile. Should we die in here, ``recover`` lets them go on."""
        spec, state = self._engine.records.spec(container_id, tenant=tenant), self._engine.records.state(container_id)
        if state.status is not Status.RUNNING:
            yield
            return
        disk.write_json(self._engine.config.container(container_id) / _STILL, {"run": state.run})
        try:
            cgroups.freeze(self._engine.cgroup(spec))
        except FileNotFoundError:
            pass  # it ended meanwhile
        except OSError as error:
            self.let_go(spec)
            raise FailedPrecondition(f"cannot pause container {container_id}: {error.strerror}") from error
        try:
            yield
        finally:
            self.let_go(spec)

    def let_go(self, spec: ContainerSpec) -> None:
        """After a commit, or one that was killed: what only it held still goes on. Idempotent."""
        marker = self._engine.config.container(spec.id) / _STILL
        if not marker.exists():
            return
        if self._engine.records.state(spec.id).status is not Status.PAUSED:
            with suppress(FileNotFoundError):
                cgroups.thaw(self._engine.cgroup(spec))
        marker.unlink(missing_ok=True)

    # -- jobs ------------------------------------------------------------------------------------

    def _job(self, op: str, of: str, fds: dict[str, int] | None = None, **words: Any) -> Job:
        """``of``: the tenant whose work it is."""
        return Job({"op": op, "cgroup": self.work_cgroup(of), **words}, fds or {})

    def work_cgroup(self, tenant: str) -> str:
        """Beside the tenant's containers; made when it is missing."""
        path = self._engine.files_cgroup(tenant)
        with self._making_cgroup:  # on version 1 it is there only when it is there in every tree
            if not cgroups.exists(path):
                cgroups.ensure(self._engine.tenant_cgroup(tenant), self._engine.tenants.get(tenant).limits)
                cgroups.ensure(path, Resources())
        return path

    def _layers(self, tenant: str, side: Side) -> list[str]:
        if side.kind == "container":
            return self._layers_of_container(self._engine.records.spec(side.id, tenant=tenant))
        if side.kind == "image":
            return list(self._engine.images.lower_dirs(self._engine.images.resolve(tenant, side.id)))
        raise InvalidArgument(f"{side.kind!r} is neither container nor image")

    def _layers_of_container(self, spec: ContainerSpec) -> list[str]:
        return [layers.upper_and_work(self._engine.config, spec.id)[0], *self._layers_of_image(spec.image_id)]

    def _layers_of_image(self, image_id: str) -> Sequence[str]:
        return list(self._engine.images.lower_dirs(self._engine.images.get(image_id)))

    # -- copies and starts -----------------------------------------------------------------------

    @contextmanager
    def no_copying(self, container_id: str) -> Iterator[None]:
        """For a start: two overlays must not write to the same layer. A copy that goes on for START_WAITS_S is ended."""
        deadline = time.monotonic() + START_WAITS_S
        path = self._lock_path(container_id)
        while (lock := _try_lock(path)) < 0:
            if time.monotonic() > deadline:
                _end_holder(path)
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            os.close(lock)

    def _lock_path(self, container_id: str) -> Path:
        return self._engine.records.folder(container_id) / "files.lock"


def _mount_of(spec: ContainerSpec, path: str) -> MountSpec | None:
    """The innermost that ``path`` is in."""
    place = absolute(path)
    found = [mount for mount in spec.mounts if place == mount.target or place.startswith(f"{mount.target}/")]
    return max(found, key=lambda mount: len(mount.target)) if found else None


def _path(path: str) -> str:
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")  # moby's words, to the letter
    if "\0" in path:
        raise InvalidArgument("a path holds a zero byte")
    return path


def _try_lock(path: Path) -> int:
    """A descriptor that holds it (and whoever inherits that does), or -1."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    except BaseException:
        os.close(fd)
        raise
    return fd


def _end_holder(path: Path) -> None:
    """SIGKILL to the copy that wrote its pid there. Only while it holds the lock, so that no other process of that number is met."""
    try:
        pidfd = os.pidfd_open(int(path.read_text()))
    except (ValueError, OSError):
        return
    try:
        lock = _try_lock(path)
        if lock >= 0:
            os.close(lock)
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _hidden(pid: int) -> tuple[int, ...]:
    """st_dev of what a running container sees at /dev and of all that the kernel makes up."""
    found = set()
    try:
        with open(f"/proc/{pid}/mountinfo") as lines:
            for line in lines:
                left, _dash, right = line.partition(" - ")
                words = left.split()
                if right.split()[0] in _NOT_FILES or words[4] == "/dev":
                    major, _colon, minor = words[2].partition(":")
                    found.add(os.makedev(int(major), int(minor)))
    except OSError:
        pass  # it has just ended
    return tuple(sorted(found))


def commit_from(words: Mapping[str, Any]) -> Commit:
    """Of a message; InvalidArgument for words of the wrong kind."""
    config, container_config, changes = words.get("config"), words.get("container_config") or {}, words.get("changes") or []
    if not isinstance(container_config, dict) or not (config is None or isinstance(config, dict)):
        raise InvalidArgument("config and container_config must be objects")
    if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
        raise InvalidArgument("changes must be a list of strings")
    texts = {name: words.get(name) or "" for name in ("ref", "author", "comment")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidArgument("ref, author and comment are strings")
    return Commit(container_id=str(words["id"]), container_config=container_config, config=config, changes=tuple(changes), **texts)
