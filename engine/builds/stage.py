"""One stage of a build: instruction after instruction, each found in the cache or done, in moby's words and with moby's outcome."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine import errors
from engine.builds import documents, mounting, packing, runconfig, transfer
from engine.builds.cache import Step, StepCache, key_of
from engine.builds.cachefrom import Foreign
from engine.builds.context import Context
from engine.builds.dockerfile import model, stages
from engine.builds.dockerfile.expansion import expanded
from engine.builds.dockerfile.remote import is_git, is_url
from engine.builds.dockerfile.scopes import GlobalScope, StageScope
from engine.builds.dockerfile.script import run_script
from engine.builds.dockerfile.triggers import parse_triggers
from engine.builds.files import FileTree, follow
from engine.builds.ignore import Matcher
from engine.builds.layertree import LayerTree
from engine.builds.layout import Layout, Owner, Repeated, gathered
from engine.builds.output import Output, short
from engine.builds.running import Containers, Run, new_container_id, upper_of
from engine.builds.workshop import Workshop
from engine.errors import FailedPrecondition, InvalidArgument
from engine.model.build import BuildRequest
from engine.model.image import ImageRecord
from engine.runtime import users

if TYPE_CHECKING:
    from engine.builds.fetching import Fetcher
    from engine.engine import Engine

SCRATCH: Final = "scratch"


class CommandFailed(FailedPrecondition):
    """A RUN ended with another code than 0, which is ``detail["exit_code"]``."""


@dataclass(slots=True, kw_only=True)
class Shop:
    """What all stages of a build share."""

    engine: Engine
    request: BuildRequest
    dockerfile: model.Dockerfile
    context: Context | None
    workshop: Workshop
    cache: StepCache
    foreign: Foreign
    containers: Containers
    fetcher: Fetcher
    scope: GlobalScope
    epoch_s: int | None  # SOURCE_DATE_EPOCH
    bases: Callable[[str, str, Output], ImageRecord]  # name, platform
    done: Callable[[int], StageResult]  # waits for an earlier stage

    @property
    def escape(self) -> str:
        return self.dockerfile.directives.escape


@dataclass(frozen=True, slots=True)
class StageResult:
    step: Step
    config: runconfig.Config
    scope: StageScope
    base: Step  # what FROM gave


class StageRun:
    def __init__(
        self, shop: Shop, stage: model.Stage, output: Output, *, number: int, count: int, more: Sequence[model.Instruction]
    ) -> None:
        """``number``: of its FROM among all steps; ``more``: instructions behind the stage's own (--label)."""
        self._shop, self._stage, self._output = shop, stage, output
        self._number, self._count = number, count
        self._instructions = (*stage.instructions, *more)
        self._step = self._base = Step()
        self._config: runconfig.Config = {}
        self._author = ""
        self._cmd_is_set = False
        self._scope = shop.scope.stage()

    def run(self) -> StageResult:
        output = self._output
        output.step(self._number, self._count, self._stage.base.text)
        self._begin()
        output.image(self._step.image_id)
        for number, instruction in enumerate(self._instructions, self._number + 1):
            self._shop.containers.check()
            output.step(number, self._count, instruction.text)
            self._do(instruction)
            output.image(self._step.image_id)
        if self._step.image_id:
            output.say({"aux": {"ID": self._step.image_id}})
        return StageResult(self._step, self._config, self._scope, self._base)

    def end(self) -> None:
        """Its words are all said."""
        self._output.end()

    # -- FROM ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        shop, base = self._shop, expanded(self._stage.base, self._shop.scope.env(), self._shop.escape)
        earlier = stages.base_of(shop.dockerfile, self._stage.index, base.image)
        if earlier is not None:
            result = shop.done(earlier)
            self._step = result.step
            self._scope = shop.scope.stage(result.scope)
            self._config = runconfig.begin(result.config)
        elif base.image == SCRATCH:
            self._config = runconfig.begin(None)
        else:
            record = shop.bases(base.image, base.platform or shop.request.platform, self._output)
            self._step = shop.workshop.base(record)
            self._config = runconfig.begin(record.config.get("config"))
        self._base = self._step
        self._config["Image"] = self._step.image_id
        triggers, self._config["OnBuild"] = self._config["OnBuild"] or [], None
        if triggers:
            self._output.text(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}")
            self._output.text("\n")
            for instruction in parse_triggers(triggers):
                self._do(instruction)

    # -- one instruction -------------------------------------------------------------------------

    def _do(self, instruction: model.Instruction) -> None:
        env = self._scope.env(self._config["Env"] or [])
        if isinstance(instruction, model.Arg):
            words: model.Instruction = self._scope.declare(instruction, self._config["Env"] or [])
        else:
            words = expanded(instruction, env, self._shop.escape)
        if isinstance(words, model.Run):
            self._run(words)
        elif isinstance(words, model.Transfer):
            self._transfer(words)
        elif isinstance(words, model.Workdir):
            self._workdir(words)
        else:
            self._metadata(words)
        self._config["Image"] = self._step.image_id

    def _metadata(self, words: model.Instruction) -> None:
        if isinstance(words, model.Maintainer):
            self._author = words.name
        if isinstance(words, model.Healthcheck):
            old = (self._config.get("Healthcheck") or {}).get("Test") or []
            if old and old[0] != "NONE":
                self._output.text(f"Note: overriding previous HEALTHCHECK: [{' '.join(old)}]\n")
        comment = runconfig.apply(self._config, words, cmd_is_set=self._cmd_is_set)
        if isinstance(words, model.Cmd) and words.command.words:
            self._cmd_is_set = True
        command = runconfig.nop(self._config, comment)
        self._cached(command, lambda: self._without_layer(command, words.text))

    def _without_layer(self, command: list[str], text: str) -> Step:
        container = self._announce_container()
        step = self._shop.workshop.plain(self._step, self._child(command, "", container=container, hostname=container[:12]), text)
        self._withdraw_container(container)
        return step

    # -- WORKDIR ---------------------------------------------------------------------------------

    def _workdir(self, words: model.Workdir) -> None:
        comment = runconfig.workdir(self._config, words.path)
        command = runconfig.nop(self._config, comment, one_word=True)

        def make() -> Step:
            container = self._announce_container()
            with self.tree_of(self._step) as tree:
                layout = self._layout(tree)
                pieces = layout.put_folder(layout.resolve(self._config["WorkingDir"]))
                step = self._layered(gathered(pieces), command, words.text, container=container)
            self._withdraw_container(container)
            return step

        self._cached(command, make)

    # -- COPY, ADD -------------------------------------------------------------------------------

    def _transfer(self, words: model.Transfer) -> None:
        with ExitStack() as stack:
            tree, from_image = self._source(words, stack)
            excluded = Matcher(words.excludes).excludes if words.excludes else None
            try:
                items = self._items(words, tree, from_image, excluded, stack)
            except InvalidArgument as error:
                raise InvalidArgument(f"{words.keyword} failed: {error.message}") from error
            if len(items) > 1 and not words.target.endswith(("/", "/.")) and words.target != ".":
                raise InvalidArgument(
                    f"When using {words.keyword} with more than one source file, the destination must be a directory and end with a /"
                )
            command = runconfig.nop(self._config, _comment(words, transfer.digest_of(items)), one_word=True)
            self._cached(command, lambda: self._copy(words, items, from_image, excluded, command))

    def _items(
        self, words: model.Transfer, tree: FileTree | None, from_image: bool, excluded: transfer.Excluded | None, stack: ExitStack
    ) -> list[transfer.Item]:
        items: list[transfer.Item] = []
        is_add = isinstance(words, model.Add)
        for source in words.sources:
            if is_add and (is_url(source) or is_git(source)):
                assert isinstance(words, model.Add)
                items += self._shop.fetcher.items(words, source, self._shop.workshop.folder, self._output, stack)
                continue
            if tree is None:
                raise InvalidArgument("missing build context")
            unpacks = isinstance(words, model.Add) and words.unpacks is not False
            keeps = isinstance(words, model.Copy) and words.keeps_parents
            items += transfer.items_of(tree, source, from_image=from_image, unpacks=unpacks, keeps_parents=keeps, excluded=excluded)
        items += documents.items(words.documents)
        if not items:
            raise InvalidArgument("no source files were specified")
        return items

    def _source(self, words: model.Transfer, stack: ExitStack) -> tuple[FileTree | None, bool]:
        """And whether it is another image, whose owners are kept."""
        if isinstance(words, model.Copy) and words.from_:
            return stack.enter_context(self.tree_of(self.step_of(words.from_, words.first_line))), True
        return self._shop.context, False

    def step_of(self, name: str, line: int) -> Step:
        """What ``--from=name`` means: an earlier stage, or an image."""
        index = stages.source_of(self._shop.dockerfile, self._stage.index, name, line)
        if index is not None:
            return self._shop.done(index).step
        try:
            record = self._shop.bases(name, self._shop.request.platform, self._output)
        except errors.EngineError as error:
            raise type(error)(f"invalid from flag value {name}: {error.message}", **error.detail) from error
        return self._shop.workshop.base(record)

    def _copy(
        self, words: model.Transfer, items: list[transfer.Item], from_image: bool, excluded: transfer.Excluded | None, command: list[str]
    ) -> Step:
        with self.tree_of(self._step) as below:
            owner: Owner | None = None if from_image else (0, 0)
            if words.owner:
                try:
                    owner = self._owner(below, words.owner)
                except InvalidArgument as error:
                    raise InvalidArgument(f"unable to convert uid/gid chown string to host mapping: {error.message}") from error
            manner = transfer.Manner(owner=owner, mode=words.mode, is_link=words.is_link, excluded=excluded)
            target = transfer.absolute_target(words.target, self._config["WorkingDir"] or "/")
            try:
                pieces = transfer.pieces(self._layout(below), items, target, manner)
                return self._layered(gathered(pieces), command, words.text)
            except Repeated as repeated:
                pieces = transfer.pieces(self._layout(below, repeated.times), items, target, manner)
                return self._layered(gathered(pieces), command, words.text)

    def _layout(self, below: FileTree, times: Mapping[str, int] | None = None) -> Layout:
        moment = self._shop.epoch_s if self._shop.epoch_s is not None else int(time.time())
        return Layout(below, now_s=moment, latest_s=self._shop.epoch_s, times=times)

    # -- RUN -------------------------------------------------------------------------------------

    def _run(self, words: model.Run) -> None:
        script = run_script(words, runconfig.shell_of(self._config))
        env = self._config["Env"] or []
        counted, passed = self._scope.for_history(env), self._scope.for_run(env)
        command = [f"|{len(counted)}", *counted, *script.words] if passed else list(script.words)
        file = hashlib.sha256(script.file[1]).hexdigest() if script.file else ""
        with ExitStack() as stack:
            mounts = mounting.Mounts(self._shop, self, words, self._config, stack)
            extra = [words.network, file, *mounts.key()]
            self._cached(
                command,
                lambda: self._execute(words, script.words, [*env, *passed, *mounts.env()], command, mounts, script.file),
                extra=extra,
            )

    def _execute(
        self,
        words: model.Run,
        args: Sequence[str],
        env: list[str],
        command: list[str],
        mounts: mounting.Mounts,
        file: tuple[str, bytes] | None,
    ) -> Step:
        if not self._step.record_id:
            raise InvalidArgument(f'exec: "{args[0]}": there is no file in {SCRATCH}: COPY one first')
        shop, config = self._shop, self._config
        container = self._announce_container()
        run = Run(
            container_id=container,
            image_id=self._step.record_id,
            shown=short(self._step.image_id),
            args=tuple(args),
            env=tuple(env),
            cwd=config["WorkingDir"] or "/",
            user=config["User"] or "",
            labels=config["Labels"] or {},
            network=words.network,
            mounts=tuple(mounts.prepare(file)),
        )
        is_good = False
        try:
            code = shop.containers.run(run, self._output)
            if code:
                message = f"The command '{' '.join(args)}' returned a non-zero code: {code}"
                raise CommandFailed(message, exit_code=code)
            top = upper_of(shop.engine.config, container)
            try:
                with self.tree_of(self._step) as below:
                    layer = packing.layer_of(top, below, mounts.places(), shop.epoch_s)
                    step = self._layered(layer, command, words.text, container=container, host="")
            finally:
                os.close(top)
            is_good = True
            return step
        finally:
            shop.containers.remove(container)
            if is_good or shop.request.force_remove:
                self._withdraw_container(container)

    # -- outcome ---------------------------------------------------------------------------------

    def _cached(self, command: list[str], make: Callable[[], Step], *, extra: Sequence[Any] = ()) -> None:
        """The step from the cache, or made and kept there."""
        shop = self._shop
        comparable = {name: value for name, value in self._config.items() if name not in ("Image", "Hostname")}
        key = key_of(self._step.image_id, command, comparable, self._author, shop.epoch_s, *extra)
        step = None
        if not shop.request.no_cache:
            step = shop.cache.find(key) or shop.foreign.find(self._step, command, self._child)
        if step is None:
            step = make()
            shop.cache.keep(key, step)
        else:
            shop.workshop.pin(step.chain)
            self._output.text(" ---> Using cache\n")
        self._step = step

    def _layered(self, source: Iterator[bytes], command: list[str], text: str, *, container: str = "", host: str | None = None) -> Step:
        hostname = container[:12] if host is None else host

        def image_of(diff_id: str) -> dict[str, Any]:
            return self._child(command, diff_id, container=container, hostname=hostname)

        return self._shop.workshop.layered(self._step, source, image_of, text)

    def _child(self, command: Sequence[str], diff_id: str, *, container: str = "", hostname: str = "", created: str = "") -> dict[str, Any]:
        config = {**self._config, "Image": self._step.image_id}
        shown = {**config, "Cmd": list(command), "Hostname": hostname}
        if container and hostname == "":  # of RUN: it ran without the image's entrypoint
            shown["Entrypoint"] = None
        return runconfig.child(
            self._step.image,
            config,
            container_config=shown,
            container=container,
            author=self._author,
            diff_id=diff_id,
            created=created or runconfig.now(self._shop.epoch_s),
        )

    def _announce_container(self) -> str:
        container = new_container_id()
        self._output.text(f" ---> Running in {container[:12]}\n")
        return container

    def _withdraw_container(self, container: str) -> None:
        if self._shop.request.remove or self._shop.request.force_remove:
            self._output.text(f" ---> Removed intermediate container {container[:12]}\n")

    # -- files of the image at hand ----------------------------------------------------------------

    def tree_of(self, step: Step) -> ClosingTree:
        return ClosingTree(self._shop.engine.config.layers, step)

    def _owner(self, tree: FileTree, words: str) -> Owner:
        """Of --chown, by the image's own passwd and group. Without a group it is the one that is called like the user, as moby has it."""

        def read(path: str) -> str:
            found = follow(tree, path)
            file = tree.find(found)
            if file is None or not file.is_regular:
                return ""
            return b"".join(tree.read(found))[: users.DATABASE_MAX].decode(errors="surrogateescape")

        name, colon, group = words.partition(":")
        try:
            user = users.find(words if colon else f"{name}:{name}", read)
        except InvalidArgument as error:
            kind, sort, word = ("uid", "user", name) if "find user" in error.message else ("gid", "group", group or name)
            raise InvalidArgument(f"can't find {kind} for {sort} {word}: no such {sort}: {word}") from error
        return user.uid, user.gid


class ClosingTree:
    """A LayerTree for a while."""

    def __init__(self, layers: Path, step: Step) -> None:
        self._folders = [layers / chain_id / "diff" for chain_id in reversed(step.chain)]
        self._tree: LayerTree | None = None

    def __enter__(self) -> LayerTree:
        self._tree = LayerTree(self._folders)
        return self._tree

    def __exit__(self, *_error: object) -> None:
        if self._tree is not None:
            self._tree.close()


def _comment(words: model.Transfer, digest: str) -> str:
    """Of the history: moby's, with the flags that moby's classic builder does not know before the digest."""
    flags = [f"--chown={words.owner}"] if words.owner else []
    flags += [f"--chmod={words.mode}"] if words.mode else []
    flags += ["--link"] if words.is_link else []
    flags += [f"--exclude={pattern}" for pattern in words.excludes]
    if isinstance(words, model.Copy) and words.keeps_parents:
        flags.append("--parents")
    if isinstance(words, model.Add) and words.unpacks is not None:
        flags.append(f"--unpack={str(words.unpacks).lower()}")
    return f"{words.keyword} {''.join(flag + ' ' for flag in flags)}{digest} in {words.target} "
