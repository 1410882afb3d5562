"""What is taken from the network for a tenant: ADD of an address, a context or an import that is one. The fetching is fetch.py's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from engine.builds.context import Context, fill_from
from engine.builds.dockerfile.model import Add
from engine.builds.dockerfile.remote import is_git
from engine.builds.files import File, clean
from engine.builds.output import Output
from engine.builds.running import Containers
from engine.builds.transfer import Item, items_of
from engine.errors import EngineError, InvalidArgument, Unavailable, Unsupported
from engine.files import sinks
from engine.files.packing import Packer
from engine.images.streams import CHUNK, Chunks
from engine.model.build import DOCKERFILE
from engine.model.container import ContainerSpec
from engine.networks import resolve
from engine.runtime.code import HOME

if TYPE_CHECKING:
    from engine.engine import Engine

UNNAMED: Final = "__unnamed__"
_HOSTS: Final = ("github.com/",)  # moby takes these words without a scheme as a repository
_REF: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


@dataclass(frozen=True, slots=True)
class Repository:
    """``https://host/name.git#ref:folder``."""

    remote: str
    ref: str
    folder: str


class Fetcher:
    """``containers``: whose cancelling ends a fetch; ``network`` none: nothing is fetched."""

    def __init__(self, engine: Engine, tenant: str, containers: Containers | None = None, *, network: str = "") -> None:
        self._engine, self._tenant, self._containers, self._network = engine, tenant, containers, network

    # -- ADD -------------------------------------------------------------------------------------

    def items(self, words: Add, source: str, folder: Path, output: Output, stack: ExitStack) -> list[Item]:
        """The file that the address means, or the files of the repository."""
        if is_git(source):
            return self._repository_items(words, source, folder, stack)
        context = Context(folder)
        stack.callback(context.close)
        name = self._download(source, context, words.target, folder)
        output.text("\n")
        if words.checksum:
            _check_sum(words.checksum, context, name, source)
        shown = "" if name == UNNAMED else name
        return [Item(tree=context, path=name, name=shown or name, digest=f"file:{context.digest(name)}", unpacks=words.unpacks is True)]

    def _download(self, url: str, context: Context, target: str, folder: Path) -> str:
        with self.opened(url, folder) as (said, pieces):
            name = said["name"]
            if not name and target.endswith("/"):
                raise InvalidArgument(f"cannot determine filename for source {url}")
            file = File(mode=0o100600, mtime_ns=int(said["mtime_s"]) * 10**9)
            context.add_file(name or UNNAMED, pieces, file)
        return name or UNNAMED

    def _repository_items(self, words: Add, source: str, folder: Path, stack: ExitStack) -> list[Item]:
        repository = repository_of(source)
        context = Context(folder)
        stack.callback(context.close)
        commit = self._clone(repository, context, folder, keeps_git=bool(words.keeps_git_dir))
        if words.checksum and not commit.startswith(words.checksum.lower()):
            raise InvalidArgument(f"expected checksum to match {words.checksum}, got {commit}")
        return items_of(context, repository.folder or ".", from_image=True)

    # -- the context -----------------------------------------------------------------------------

    def context(self, remote: str, folder: Path, dockerfile: str) -> tuple[Context, str]:
        """And the Dockerfile's path in it."""
        context = Context(folder)
        try:
            if is_git(remote) or remote.startswith(_HOSTS):
                repository = repository_of(remote)
                self._clone(repository, context, folder, keeps_git=False)
                if repository.folder:
                    context.descend(clean(repository.folder))
                return context, dockerfile or DOCKERFILE
            if not remote.startswith(("http://", "https://")):
                raise InvalidArgument(f"remoteURL ({remote}) could not be recognized as URL")
            with self.opened(remote, folder) as (_said, pieces):
                is_alone = fill_from(context, pieces, self._engine.images.limits)
            return context, DOCKERFILE if is_alone else dockerfile or DOCKERFILE
        except BaseException:
            context.close()
            raise

    @contextmanager
    def opened(self, url: str, folder: Path) -> Iterator[tuple[dict[str, Any], Chunks]]:
        """What fetch.py says of it, and its bytes. ``folder``: of root's, for as long as it lasts. InvalidArgument: it cannot be had."""
        asked = {"what": "url", "url": url, "limit_bytes": self._engine.images.limits.archive_bytes}
        with self._process(asked, folder) as (said, pipe):
            yield said, _pieces(pipe, url)

    # -- the other process -----------------------------------------------------------------------

    def _clone(self, repository: Repository, context: Context, folder: Path, *, keeps_git: bool) -> str:
        """The commit. The files belong to root, as everything of a context."""
        uid = self._engine.tenants.get(self._tenant).uid_start
        checkout = folder / f"git{secrets.token_hex(4)}"
        checkout.mkdir(mode=0o700)
        os.chown(checkout, uid, uid)
        asked = {"what": "git", "folder": str(checkout), "remote": repository.remote, "ref": repository.ref}
        with self._process(asked, folder) as (said, _pipe):
            pass
        top = os.open(checkout, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            context.fill(sinks.to_chunks(Packer().folder(top, "", itself=False), CHUNK), self._engine.images.limits)
        finally:
            os.close(top)
        if not keeps_git:
            context.drop(".git")
        return str(said["commit"])

    @contextmanager
    def _process(self, asked: dict[str, Any], folder: Path) -> Iterator[tuple[dict[str, Any], IO[bytes]]]:
        """What it said, and its pipe. It has an address of the tenant's network as long as it lives."""
        engine, tenant = self._engine, self._engine.tenants.get(self._tenant)
        self._check()
        fetch_id = secrets.token_hex(32)
        resolv_conf = folder / f"resolv{fetch_id[:8]}"
        resolv_conf.write_text(resolve.resolv_conf(_spec(fetch_id, self._tenant), resolve.host_resolv_conf()))
        resolv_conf.chmod(0o644)
        environment = {"PYTHONPATH": str(HOME), "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "engine.builds.fetch"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd="/",
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        if self._containers is not None:
            self._containers.also_kill(process)
        try:
            _line(process.stdout)
            if self._network != "none":
                engine.networks.attach(tenant, engine.networks.reserve(tenant, fetch_id), process.pid)
            asked = {**asked, "uid": tenant.uid_start, "resolv_conf": str(resolv_conf)}
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.close()
            said = _line(process.stdout)
            if "error" in said:
                raise InvalidArgument(said["error"])
            yield said["ok"], process.stdout
        except OSError as error:
            self._check()
            raise Unavailable(f"the host cannot fetch anything just now: {error}") from error
        except EngineError:
            self._check()
            raise
        finally:
            if self._containers is not None:
                self._containers.ended(process)
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(OSError):
                process.stdin.close()
            engine.networks.release(fetch_id)
            resolv_conf.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._containers is not None:
            self._containers.check()


def _spec(fetch_id: str, tenant: str) -> ContainerSpec:
    """For the text of resolv.conf."""
    return ContainerSpec(id=fetch_id, tenant=tenant, name="fetch", image_id="", image="", args=("fetch",))


def _line(pipe: IO[bytes]) -> dict[str, Any]:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise OSError("the fetching process ended")
    said: dict[str, Any] = json.loads(line)
    return said


def _pieces(pipe: IO[bytes], url: str) -> Iterator[bytes]:
    while True:
        head = pipe.readline()
        if not head:
            raise InvalidArgument(f"failed to GET {url}: it was cut short, or is larger than the limit of this host")
        size = int(head)
        if size == 0:
            return
        yield pipe.read(size)


def repository_of(words: str) -> Repository:
    """InvalidArgument for what git must not be told; Unsupported for ssh, which needs a key."""
    if words.startswith(_HOSTS):
        words = f"https://{words}"
    remote, _hash, fragment = words.partition("#")
    ref, _colon, folder = fragment.partition(":")
    if remote.startswith(("git@", "ssh://")):
        raise Unsupported(f"{remote}: git over ssh needs a key, which a build has not: use https")
    if not remote.startswith(("git://", "http://", "https://")) or any(char < "!" for char in remote):
        raise InvalidArgument(f"{remote!r} is no address of a git repository")
    if ref and not _REF.fullmatch(ref):
        raise InvalidArgument(f"invalid refspec: {ref}")
    return Repository(remote, ref, folder)


def _check_sum(wanted: str, context: Context, name: str, url: str) -> None:
    algorithm, _colon, digits = wanted.partition(":")
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise InvalidArgument(f"unsupported checksum algorithm {algorithm!r}: sha256, sha384 and sha512 are known")
    digest = hashlib.new(algorithm)
    for chunk in context.read(name):
        digest.update(chunk)
    if digest.hexdigest() != digits.lower():
        raise InvalidArgument(f"digest mismatch {wanted}: {algorithm}:{digest.hexdigest()} of {url}")
