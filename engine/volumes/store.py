"""What volumes there are, in files; whose they are, and who uses them.

    <engine>/volumes/<tenant>/.lock           held by whoever makes, takes or removes one, in any process
                             /<name>/volume.json   VolumeSpec
                                    /disk.img      of one with a size: the file system that has its files (engine.volumes.disks)
                                    /_data         its files, with the ids that containers see
                                    /project       of one with a size, where the disk has quotas: its number (engine.volumes.projects)
                                    /users/<id>    an empty file for each container that mounts it, from before its record to after it
                                    /.filling.lock held by whoever fills, copies or replaces its files
                                    /filling       complete content of the image's on its way into _data (engine.filling)

A volume is made beside and renamed into its place, and removed by a rename into the trash: of both, one killed in the midst has done
nothing. A mark in ``users`` whose container has no record is of a create under way, or after a minute, and locked by nobody, of one that
was killed.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from engine.images.trash import sweep_soon
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec, is_container_id
from engine.model.tenant import check_tenant_name
from engine.model.volume import VOLUME, MountSpec, VolumeSpec, check_volume, check_volume_name, parse_size
from engine.records import Records
from engine.volumes import disks, layers, projects

log = logging.getLogger(__name__)

UNFINISHED_S: Final = 60.0
DATA: Final = "_data"
IMAGE: Final = "disk.img"
DISK: Final = "disk"  # a VolumeSpec's ``limit``; the next one too
PROJECT: Final = "project"
FILES_LOCK: Final = ".filling.lock"
_NEW: Final = ".new."
_Specs = list[VolumeSpec]  # inside the class ``list`` is the method
_Names = list[str]


class Volumes:
    """Another tenant's volume is none."""

    def __init__(self, config: EngineConfig, records: Records) -> None:
        self._config, self._records = config, records
        self._damaged: set[Path] = set()  # of what was said in the log already

    def folder(self, tenant: str, name: str) -> Path:
        return self._config.volumes / check_tenant_name(tenant) / check_volume_name(name)

    def create(self, spec: VolumeSpec) -> VolumeSpec:
        """The one of that name that is there already, whatever else was asked of it, as in moby."""
        check_volume(spec)
        with self._locked(spec.tenant):
            return self._create(spec)

    def _create(self, spec: VolumeSpec) -> VolumeSpec:
        known = self._read(spec.tenant, spec.name)
        if known is not None:
            return known
        with self._making(spec) as (fresh, made):
            return self._put(fresh, made)

    def create_filled(self, spec: VolumeSpec, fill: Callable[[Path], None]) -> VolumeSpec:
        """A new one, which is there when ``fill`` has put into the folder given what it shall hold. AlreadyExists."""
        check_volume(spec)
        self._check_free(spec)
        with self._locked(spec.tenant):
            pass  # the tenant's folder is there
        with self._making(spec) as (fresh, made):
            with _files(fresh, made) as folder:
                (folder / DATA).rmdir()
                fill(folder / DATA)
                if _is_over(fresh, made):
                    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            with self._locked(spec.tenant):
                self._check_free(spec)
                return self._put(fresh, made)

    def _check_free(self, spec: VolumeSpec) -> None:
        if self._read(spec.tenant, spec.name) is not None:
            raise AlreadyExists(f"a volume with the name {spec.name} already exists")

    @contextmanager
    def _making(self, spec: VolumeSpec) -> Iterator[tuple[Path, VolumeSpec]]:
        """In a folder that nobody takes for a volume, locked by its maker: a free lock means a dead one. Gone at the end, if not put."""
        if spec.size_bytes:
            disks.check_size(self._config.volumes, spec.size_bytes)
        kind = (PROJECT if projects.hold(self._config.volumes) else DISK) if spec.size_bytes else ""
        made = dataclasses.replace(spec, created_ns=spec.created_ns or time.time_ns(), limit=kind)
        fresh = self._config.volumes / spec.tenant / f"{_NEW}{os.urandom(6).hex()}"
        fresh.mkdir(mode=0o700)
        lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if made.limit == PROJECT:
                projects.begin(fresh, made.size_bytes)
            (fresh / "users").mkdir(mode=0o700)
            if made.limit == DISK:
                disks.make(fresh / IMAGE, made.size_bytes, DATA)
            else:
                (fresh / DATA).mkdir()
            with _files(fresh, made) as folder:
                (folder / DATA).chmod(0o755)
            yield fresh, made
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FailedPrecondition(f"volume {spec.name}: there is no room for it") from error
        finally:
            os.close(lock)
            if fresh.exists():
                disk.remove_tree(fresh)

    def _put(self, fresh: Path, made: VolumeSpec) -> VolumeSpec:
        place = self.folder(made.tenant, made.name)
        disk.to_trash(place, self._config.trash, name="volume")  # a record that a power loss emptied: it was never told
        disk.write_json(fresh / "volume.json", to_json(made))
        fresh.rename(place)
        return made

    def rename(self, tenant: str, name: str, new_name: str) -> VolumeSpec:
        """FailedPrecondition while a container names it. What it is called is the name of its folder."""
        check_volume_name(new_name)
        with self.alone(tenant, name), self._locked(tenant):
            spec = self.get(tenant, name)
            renamed = dataclasses.replace(spec, name=new_name)
            self._check_free(renamed)
            self._check_unused(tenant, name, "rename")
            disk.to_trash(self.folder(tenant, new_name), self._config.trash, name="volume")
            self.folder(tenant, name).rename(self.folder(tenant, new_name))
            return renamed

    def files(self, spec: VolumeSpec) -> AbstractContextManager[Path]:
        """The folder that has its ``_data``, as long as the block lasts. FailedPrecondition for another name of a folder of the host."""
        check_own_files(spec)
        return _files(self.folder(spec.tenant, spec.name), spec)

    @contextmanager
    def alone(self, tenant: str, name: str) -> Iterator[None]:
        """Nobody else fills, copies, renames or replaces it, as long as the block lasts. NotFound, also when it went away meanwhile.

        Taken before the tenant's lock, never under it: a copy takes its time.
        """
        with ExitStack() as held:
            while True:
                found = self.get(tenant, name)
                try:
                    held.enter_context(disk.locked(self.folder(tenant, name) / FILES_LOCK))
                except FileNotFoundError:
                    continue  # just gone
                if self.get(tenant, name).created_ns == found.created_ns:
                    break
                held.close()  # it went to the trash while we waited for it
            yield

    def is_over(self, spec: VolumeSpec) -> bool:
        """Whether root of the host, whom limits do not hold, has put more into it than its size."""
        return _is_over(self.folder(spec.tenant, spec.name), spec)

    def resize(self, tenant: str, name: str, size: str) -> VolumeSpec:
        """Also while containers run with it, as far as the host can. FailedPrecondition for one that was made without a size."""
        wanted = parse_size(size)
        with self._locked(tenant):
            spec = self.get(tenant, name)
            changed = dataclasses.replace(spec, options={**spec.options, "size": size})
            check_volume(changed)
            folder = self.folder(tenant, name)
            disks.check_size(self._config.volumes, wanted)  # not the folder: a project shows its own limit there
            if spec.limit == DISK:
                disks.resize(folder / IMAGE, spec.size_bytes, wanted)
            elif spec.limit == PROJECT:
                projects.resize(folder, wanted)
            else:
                raise FailedPrecondition(f"volume {name} was made without a size: make one that has a size, and copy")
            disk.write_json(self.folder(tenant, name) / "volume.json", to_json(changed))
            return changed

    def get(self, tenant: str, name: str) -> VolumeSpec:
        """NotFound with moby's sentence."""
        with suppress(InvalidArgument):
            if (found := self._read(tenant, name)) is not None:
                return found
        raise NotFound(f"get {name}: no such volume")

    def list(self, tenant: str | None = None) -> _Specs:
        """Of one tenant, or of every tenant; by name."""
        tenants = [tenant] if tenant is not None else self.tenants()
        return [spec for each in tenants for name in self.names(each) if (spec := self._read(each, name)) is not None]

    def tenants(self) -> _Names:
        """Who has, or once had, any."""
        return sorted(_names(self._config.volumes))

    def names(self, tenant: str) -> _Names:
        return sorted(_names(self._config.volumes / check_tenant_name(tenant)))

    @contextmanager
    def kept_users(self, tenant: str, name: str) -> Iterator[_Names]:
        """``users``, as they are and stay as long as the block lasts. For who must not wait for anybody in it."""
        with self._locked(tenant):
            yield self.users(tenant, name)

    def users(self, tenant: str, name: str) -> _Names:
        """Ids of the containers that mount it, also of those that are just being made."""
        newest = time.time() - UNFINISHED_S
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder(tenant, name) / "users"):
                if is_container_id(entry.name) and (
                    entry.stat().st_mtime > newest or self._records.is_recorded(entry.name) or not _is_dead(entry.path)
                ):
                    found.append(entry.name)
        return sorted(found)

    def remove(self, tenant: str, name: str) -> None:
        """FailedPrecondition while a container mounts it, running or not."""
        self._check_here(tenant, name)
        with self._locked(tenant):
            self._check_here(tenant, name)
            self._check_unused(tenant, name, "remove")
            self._discard(tenant, name)

    def _check_here(self, tenant: str, name: str) -> None:
        """NotFound. One whose record cannot be read is here to be removed, and for nothing else."""
        if name not in self.names(tenant):
            self.get(tenant, name)

    def _check_unused(self, tenant: str, name: str, what: str) -> None:
        if users := self.users(tenant, name):
            raise FailedPrecondition(f"{what} {name}: volume is in use - [{', '.join(users)}]")

    def _discard(self, tenant: str, name: str) -> None:
        with suppress(OSError):
            projects.end(self.folder(tenant, name))
        disk.to_trash(self.folder(tenant, name), self._config.trash, name="volume")
        sweep_soon(self._config.trash)

    def prune(self, tenant: str, names: Sequence[str]) -> tuple[_Specs, int]:
        """Those of ``names`` that nobody mounted, which are gone, and how many bytes they held."""
        removed, freed = [], 0
        for name in names:
            size = self.size(tenant, name)  # outside of the lock: it is a walk
            with self._locked(tenant):
                spec = self._read(tenant, name)
                if spec is not None and not self.users(tenant, name):
                    self._discard(tenant, name)
                    removed.append(spec)
                    freed += size
        return removed, freed

    def usage(self, tenant: str) -> dict[str, int]:
        """Name → bytes of its files."""
        return {name: self.size(tenant, name) for name in self.names(tenant)}

    def size(self, tenant: str, name: str) -> int:
        """Counted by its own file system where it has one; else by a walk."""
        spec, folder = self._read(tenant, name), self.folder(tenant, name)
        if spec is None:
            return 0
        try:
            if spec.limit == PROJECT:
                return projects.used(folder)
            return disks.used(folder / IMAGE, spec.size_bytes) if spec.limit == DISK else layers.tree_bytes(folder, DATA)
        except FileNotFoundError:  # removed meanwhile
            return 0

    # -- containers ------------------------------------------------------------------------------

    def take(self, spec: ContainerSpec) -> _Specs:
        """For a container that is about to be made: what is missing is made, all of it is in use. Those that were made."""
        wanted = [mount for mount in spec.mounts if mount.type == VOLUME]
        if not wanted:
            return []
        made = []
        with self._locked(spec.tenant):
            for mount in wanted:
                asked = _asked(spec.tenant, mount)
                check_volume(asked)
                if self._read(spec.tenant, mount.source) is None:
                    made.append(self._create(asked))
                self._mark(spec, mount.source).touch(mode=0o600)
        return made

    @contextmanager
    def held(self, spec: ContainerSpec) -> Iterator[None]:
        """What was taken stays in use as long as the block lasts, however long: a fill may copy gigabytes."""
        with ExitStack() as marks:
            for mark in self._marks(spec).values():
                fd = os.open(mark, os.O_RDONLY | os.O_CLOEXEC)
                marks.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_SH)
            yield

    @contextmanager
    def kept(self, spec: ContainerSpec) -> Iterator[None]:
        """Nobody removes what was taken as long as the block lasts, in which the container gets its record. FailedPrecondition."""
        marks = self._marks(spec)
        if not marks:
            yield
            return
        with self._locked(spec.tenant):
            for name, mark in marks.items():
                if not mark.exists() or self._read(spec.tenant, name) is None:
                    raise FailedPrecondition(f"volume {name} was removed while the container was being made: try again")
            yield

    def _marks(self, spec: ContainerSpec) -> dict[str, Path]:
        """By volume."""
        return {mount.source: self._mark(spec, mount.source) for mount in spec.mounts if mount.type == VOLUME}

    def _mark(self, spec: ContainerSpec, name: str) -> Path:
        return self.folder(spec.tenant, name) / "users" / spec.id

    def of(self, spec: ContainerSpec) -> _Specs:
        """What a container mounts."""
        names = dict.fromkeys(mount.source for mount in spec.mounts if mount.type == VOLUME)
        return [found for name in names if (found := self._read(spec.tenant, name)) is not None]

    def leave(self, spec: ContainerSpec, *, remove: bool) -> _Names:
        """The container goes. With ``remove`` the nameless that nobody else mounts go with it: their names, also of those gone already."""
        wanted = [mount for mount in spec.mounts if mount.type == VOLUME]
        removed: _Names = []
        if not wanted:
            return removed
        with self._locked(spec.tenant):
            for mount in wanted:
                self._mark(spec, mount.source).unlink(missing_ok=True)
                if remove and mount.anonymous and mount.source not in removed and not self.users(spec.tenant, mount.source):
                    self._discard(spec.tenant, mount.source)  # gone already is fine
                    removed.append(mount.source)
        return removed

    # -- tidying up ------------------------------------------------------------------------------

    def recover(self) -> None:
        """What was half made by processes that were killed, and marks of containers that never came to be."""
        for tenant in _names(self._config.volumes):
            with self._locked(tenant):
                for entry in os.scandir(self._config.volumes / tenant):
                    if entry.name.startswith(_NEW) and _is_dead(entry.path):
                        disk.to_trash(Path(entry.path), self._config.trash, name="volume")
                for name in self.names(tenant):
                    kept = set(self.users(tenant, name))
                    marks = self.folder(tenant, name) / "users"
                    for mark in set(_names(marks)) - kept:
                        (marks / mark).unlink(missing_ok=True)

    def forget_tenant(self, tenant: str) -> None:
        """The caller asserts that it has no container."""
        with self._locked(tenant):
            for name in self.names(tenant):
                self._discard(tenant, name)
        disk.to_trash(self._config.volumes / tenant, self._config.trash, name="volume")

    # -- inside ----------------------------------------------------------------------------------

    def _read(self, tenant: str, name: str) -> VolumeSpec | None:
        """None also for one whose record cannot be read: another's, or the next of that name, shall not suffer for it."""
        path = self.folder(tenant, name) / "volume.json"
        try:
            record = disk.read_json(path)
            found = None if record is None else dataclasses.replace(from_json(VolumeSpec, record), name=name)
        except ValueError as error:  # no JSON, or not what a volume's is
            if path not in self._damaged:
                self._damaged.add(path)
                log.error("volume %s of tenant %s counts as absent, its record %s cannot be read: %s", name, tenant, path, error)
            return None
        self._damaged.discard(path)
        return found

    @contextmanager
    def _locked(self, tenant: str) -> Iterator[None]:
        folder = self._config.volumes / check_tenant_name(tenant)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk.locked(folder / ".lock"):
            yield


def check_own_files(spec: VolumeSpec) -> None:
    if spec.folder:
        raise FailedPrecondition(f"the files of volume {spec.name} are the host's: it is another name of {spec.folder}")
    if spec.in_memory:
        raise FailedPrecondition(f"the files of volume {spec.name} are in memory, and there only in containers that run with it")
    if (share := spec.share) is not None:
        raise FailedPrecondition(
            f"the files of volume {spec.name} are the NFS server's: {share} is there only in containers that run with it"
        )


@contextmanager
def _files(folder: Path, spec: VolumeSpec) -> Iterator[Path]:
    if spec.limit != DISK:
        yield folder
        return
    with disks.opened(folder / IMAGE) as root:
        yield Path(f"/proc/self/fd/{root}")


def _is_over(folder: Path, spec: VolumeSpec) -> bool:
    if spec.limit == PROJECT:
        return projects.is_over(folder)
    if spec.limit != DISK:
        return False
    with disks.opened(folder / IMAGE) as root:
        return disks.is_over(root)


def _is_dead(path: str) -> bool:
    """Whether nobody holds the lock that its maker holds."""
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _asked(tenant: str, mount: MountSpec) -> VolumeSpec:
    return VolumeSpec(tenant=tenant, name=mount.source, options=mount.options, labels=mount.labels, anonymous=mount.anonymous)


def _names(folder: Path) -> _Names:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
