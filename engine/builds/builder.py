"""A build from its request to its image: the context is read, the stages run side by side as far as they can, the image gets its names.

request, tar ──▶ context ──▶ Dockerfile ──▶ stage 0 ─┐ each in a thread; who needs another one's outcome waits for it
                                            stage 1 ─┼▶ the target's last step ──▶ image, names
                                            stage 2 ─┘
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from engine.builds import context as contexts
from engine.builds import squash
from engine.builds.bases import Bases, Pull
from engine.builds.cache import Step, StepCache
from engine.builds.cachefrom import Foreign
from engine.builds.context import Context
from engine.builds.dockerfile import model, stages
from engine.builds.dockerfile.parse import parse
from engine.builds.dockerfile.scopes import GlobalScope, automatic_arguments
from engine.builds.fetching import Fetcher
from engine.builds.ignore import NAME as IGNORE_FILE
from engine.builds.ignore import Matcher, ignore_file_of, read_patterns
from engine.builds.output import Line, Output, Screen, Sink, short
from engine.builds.running import Cancelled, Containers
from engine.builds.stage import CommandFailed, Shop, StageResult, StageRun
from engine.builds.workshop import Workshop
from engine.errors import EngineError, InvalidArgument
from engine.images.refs import parse_name
from engine.images.streams import Readable
from engine.model.build import DOCKERFILE, BuildRequest, check_request
from engine.model.platform import Platform, host_platform

if TYPE_CHECKING:
    from engine.engine import Engine

EPOCH = "SOURCE_DATE_EPOCH"


class Builder:
    """One build. ``cancel`` may be called from any thread, once ``build`` has begun or before."""

    def __init__(self, engine: Engine, request: BuildRequest, *, pull: Pull | None = None) -> None:
        check_request(request)
        for tag in request.tags:
            parse_name(tag)
        self._engine, self._request = engine, request
        self._platform = Platform.parse(request.platform) if request.platform else host_platform()
        self._epoch_s = _epoch(request.args.get(EPOCH))
        self._containers = Containers(engine, request)
        self._bases = Bases(engine, request, pull, self._containers.check)

    def cancel(self, why: str) -> None:
        self._containers.cancel(why)

    def build(self, stream: Readable | None, say: Sink) -> str:
        """The image's id. ``stream``: the context; None with a request that says where it is. Raises EngineError; nothing is left then but
        the cache of the steps that were done."""
        engine, request = self._engine, self._request
        engine.ensure_tenant(request.tenant)
        cache = StepCache(engine.config, request.tenant)
        with ExitStack() as stack:
            workshop = stack.enter_context(Workshop(engine.images, request.tenant, cache))
            stack.enter_context(self._containers)
            fetcher = Fetcher(engine, request.tenant, self._containers, network=request.network)
            context, name = self._context(stream, workshop, fetcher)
            stack.callback(context.close)
            dockerfile = self._dockerfile(context, name)
            return self._run(dockerfile, context, workshop, cache, fetcher, say)

    # -- what is to be built ---------------------------------------------------------------------

    def _context(self, stream: Readable | None, workshop: Workshop, fetcher: Fetcher) -> tuple[Context, str]:
        """And the Dockerfile's path in it."""
        if self._request.remote:
            return fetcher.context(self._request.remote, workshop.folder, self._request.dockerfile)
        if stream is None:
            raise InvalidArgument("missing build context")
        return contexts.read_context(stream, workshop.folder, workshop.limits), self._request.dockerfile or DOCKERFILE

    def _dockerfile(self, context: Context, name: str) -> model.Dockerfile:
        path = name.strip("/")
        data = contexts.file_text(context, path)
        if data is None and path == DOCKERFILE:
            path = path.lower()
            data = contexts.file_text(context, path)
        if data is None:
            raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}")
        if not data:
            raise InvalidArgument(f"the Dockerfile ({name}) cannot be empty")
        for each in (ignore_file_of(path), IGNORE_FILE):
            ignored = contexts.file_text(context, each)
            if ignored is not None:
                contexts.prune(context, Matcher(read_patterns(ignored, each)))
                break
        return parse(data, name)

    # -- doing it --------------------------------------------------------------------------------

    def _run(
        self, dockerfile: model.Dockerfile, context: Context, workshop: Workshop, cache: StepCache, fetcher: Fetcher, say: Sink
    ) -> str:
        request = self._request
        target = stages.target_of(dockerfile, request.target)
        labels = [_label(name, value) for name, value in sorted(request.labels.items())]
        count = len(dockerfile.arguments) + sum(1 + len(stage.instructions) for stage in dockerfile.stages[: target + 1]) + len(labels)
        plain = Output(say, lambda: None)
        for warning in dockerfile.warnings:
            plain.error_text(f"{warning}\n")
        scope = GlobalScope(request.args, self._automatic(dockerfile.stages[target].name), dockerfile.directives.escape)
        for number, argument in enumerate(dockerfile.arguments, 1):
            plain.step(number, count, argument.text)
            scope.declare(argument)
        foreign = Foreign(workshop, [record for name in request.cache_from if (record := self._bases.here(name)) is not None])
        results: list[Future[StageResult]] = [Future() for _ in dockerfile.stages[: target + 1]]
        shop = Shop(
            engine=self._engine,
            request=request,
            dockerfile=dockerfile,
            context=context,
            workshop=workshop,
            cache=cache,
            foreign=foreign,
            containers=self._containers,
            fetcher=fetcher,
            scope=scope,
            epoch_s=self._epoch_s,
            bases=self._bases.find,
            done=lambda index: results[index].result(),
        )
        screen = Screen(say, target + 1)
        number = len(dockerfile.arguments) + 1
        runs = []
        for stage in dockerfile.stages[: target + 1]:
            more = labels if stage.index == target else []
            runs.append(StageRun(shop, stage, screen.stage(stage.index), number=number, count=count, more=more))
            number += 1 + len(stage.instructions)
        last = self._all(runs, results)
        if unused := scope.unused():
            plain.text(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        step = last.step
        if not step.image_id:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        if request.squash:
            step = squash.squashed(shop, step, last.base)
            say({"aux": {"ID": step.image_id}})
        self._containers.check()
        return self._finish(step, workshop, plain)

    def _finish(self, step: Step, workshop: Workshop, output: Output) -> str:
        workshop.publish(step, self._request.tags)
        workshop.tidy()
        output.text(f"Successfully built {short(step.image_id)}\n")
        for name in dict.fromkeys(parse_name(tag) for tag in self._request.tags):
            output.text(f"Successfully tagged {name}\n")
        return step.image_id

    def _all(self, runs: Sequence[StageRun], results: Sequence[Future[StageResult]]) -> StageResult:
        """The last stage's outcome. The first failure in the order of the Dockerfile is raised, once all have ended."""
        if len(runs) == 1:
            return _one(runs[0], results[0])
        threads = [
            threading.Thread(target=self._guarded, args=(run, result), name=f"stage{index}")
            for index, (run, result) in enumerate(zip(runs, results, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [error for result in results if (error := result.exception()) is not None]
        for error in errors:
            if not isinstance(error, Cancelled):
                raise error
        if errors:
            raise errors[0]
        return results[-1].result()

    def _guarded(self, run: StageRun, result: Future[StageResult]) -> None:
        try:
            _one(run, result)
        except BaseException:
            self._containers.cancel("another stage of the build failed")

    def _automatic(self, stage: str) -> dict[str, str]:
        return automatic_arguments(str(host_platform()), str(self._platform), stage)


def _one(run: StageRun, result: Future[StageResult]) -> StageResult:
    """An error is in the future, too, for those who wait for the stage."""
    try:
        outcome = run.run()
    except BaseException as error:
        result.set_exception(error)
        raise
    finally:
        run.end()
    result.set_result(outcome)
    return outcome


def _label(name: str, value: str) -> model.Label:
    return model.Label(text=f"LABEL {name}={value}", first_line=0, last_line=0, pairs=((name, value),), is_literal=True)


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise InvalidArgument(f"invalid {EPOCH}: {text!r} is no number of seconds")
    return int(text)


def error_line(error: EngineError) -> Line:
    """As Docker says an error within a stream."""
    detail: dict[str, Any] = {"message": error.message}
    if isinstance(error, CommandFailed):  # a command that could not be begun has no code of its own
        detail["code"] = error.detail["exit_code"]
    return {"errorDetail": detail, "error": error.message}
