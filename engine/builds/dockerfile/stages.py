"""Which stage is meant: by --target, by FROM, by COPY --from and RUN --mount=from=; and which ones are needed at all."""

from __future__ import annotations

from collections.abc import Sequence

from engine.builds.dockerfile.model import Copy, Dockerfile, DockerfileError, Instruction, Run
from engine.builds.dockerfile.mounts import mount_source
from engine.builds.dockerfile.words import quoted, with_guess


def target_of(file: Dockerfile, target: str) -> int:
    """The index of the stage called ``target``, or of the last one for "". DockerfileError for a name that nobody or two have."""
    check_names(file)
    if not target:
        return len(file.stages) - 1
    for stage in file.stages:
        if stage.name and stage.name == target.lower():
            return stage.index
    if target.isascii() and target.isdigit() and len(target) < 7 and int(target) < len(file.stages):
        return int(target)
    names = [stage.name for stage in file.stages if stage.name]
    raise DockerfileError(with_guess(f"target stage {quoted(target)} could not be found", target, names, any_case=True), line=0)


def check_names(file: Dockerfile) -> None:
    seen: set[str] = set()
    for stage in file.stages:
        if stage.name and stage.name in seen:
            line = stage.base.first_line
            raise DockerfileError(f"dockerfile parse error on line {line}: {stage.name} stage name already used", line=line)
        seen.add(stage.name)


def base_of(file: Dockerfile, index: int, image: str) -> int | None:
    """The earlier stage that ``FROM image`` of stage ``index`` names; None: it is an image."""
    for stage in file.stages[:index]:
        if stage.name and stage.name == image.lower():
            return stage.index
    return None


def source_of(file: Dockerfile, index: int, name: str, line: int = 0) -> int | None:
    """The stage that ``--from=name`` in stage ``index`` means, by name or number; None: an image. DockerfileError: a later one."""
    for stage in file.stages:
        if stage.name and stage.name == name.lower():
            if stage.index < index:
                return stage.index
            here = file.stages[index].name or str(index)
            raise DockerfileError(
                f"cannot copy from stage {quoted(name)}, it needs to be defined before current stage {quoted(here)}", line=line
            )
    if not (name.isascii() and name.isdigit()) or len(name) > 12:
        return None
    if int(name) < index:
        return int(name)
    reason = "refers to current build stage" if int(name) == index else "index out of bounds"
    raise DockerfileError(f"invalid from flag value {name}: {reason}", line=line)


def sources_of(instruction: Instruction) -> list[str]:
    """The names after ``from`` in one instruction, "" (the context) left out."""
    if isinstance(instruction, Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, Run):
        return [name for flag in instruction.mount_flags if (name := mount_source(flag))]
    return []


def needed(file: Dockerfile, target: int, images: Sequence[str], triggers: dict[int, Sequence[Instruction]] | None = None) -> list[int]:
    """The stages that ``target`` is made of, itself included, ascending. ``images``: each stage's FROM, variables replaced.

    ``triggers``: ONBUILD instructions that are known to come first in a stage.
    """
    found, waiting = set[int](), [target]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found.add(index)
        base = base_of(file, index, images[index])
        if base is not None:
            waiting.append(base)
        for instruction in (*(triggers or {}).get(index, ()), *file.stages[index].instructions):
            for name in sources_of(instruction):
                source = source_of(file, index, name, instruction.first_line)
                if source is not None:
                    waiting.append(source)
    return sorted(found)
