"""The whole file → its stages. Two passes, as moby does it: first every line's form, then every instruction's meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from engine.builds.dockerfile.instructions import Statement, check_syntax, cut, read
from engine.builds.dockerfile.lines import Lines, heredocs_of
from engine.builds.dockerfile.model import Arg, Directives, Dockerfile, DockerfileError, From, Instruction, Stage

# Of one file: each leaves an image config that holds the history so far, so what they cost together grows with their square.
MAX_INSTRUCTIONS: Final = 1000


def parse(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """``name`` is for sentences. DockerfileError: moby's sentence, with the line in ``detail["line"]`` (0: the whole file)."""
    statements, directives, warnings = statements_of(data, name)
    return _stages([instruction_of(each) for each in statements], directives, warnings)


def statements_of(data: bytes, name: str) -> tuple[list[Statement], Directives, list[str]]:
    """The first pass: lines cut into keyword, flags and rest, with their heredocs."""
    lines = Lines(data, name)
    escape = lines.directives.escape
    statements: list[Statement] = []
    warnings: list[str] = []
    while (line := lines.read()) is not None:
        if line.has_empty:
            warnings.append(f"[WARNING]: Empty continuation line found in: {line.text}")
        statement = cut(line.text, escape, line.first, line.last)
        try:
            check_syntax(statement)
            announced = heredocs_of(line.text) if "<<" in line.text and statement.may_have_heredocs else []
        except ValueError as error:
            raise _wrong(line.first, str(error)) from None
        documents = tuple(lines.document(heredoc, line.first) for heredoc in announced)
        statements.append(replace(statement, heredocs=documents, last_line=lines.number))
        if len(statements) > MAX_INSTRUCTIONS:
            raise _wrong(line.first, f"the Dockerfile ({name}) has more than {MAX_INSTRUCTIONS} instructions, the limit of this host")
    if not statements:
        raise DockerfileError(f"failed to parse {name}: file with no instructions", line=lines.number)
    if warnings:
        warnings.append("[WARNING]: Empty continuation lines will become errors in a future release.")
    return statements, lines.directives, warnings


def instruction_of(statement: Statement) -> Instruction:
    """The second pass, of one."""
    try:
        return read(statement)
    except ValueError as error:
        raise _wrong(statement.first_line, str(error)) from None


def _stages(instructions: Sequence[Instruction], directives: Directives, warnings: Sequence[str]) -> Dockerfile:
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise _wrong(instruction.first_line, "no build stage in current context")
    if not stages:
        raise DockerfileError("dockerfile contains no stages to build", line=0)
    return Dockerfile(
        directives=directives,
        arguments=tuple(arguments),
        stages=tuple(Stage(index=index, base=base, instructions=tuple(rest)) for index, (base, rest) in enumerate(stages)),
        warnings=tuple(warnings),
    )


def _wrong(line: int, sentence: str) -> DockerfileError:
    return DockerfileError(f"dockerfile parse error on line {line}: {sentence}", line=line)
