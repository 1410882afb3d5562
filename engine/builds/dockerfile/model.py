"""What a Dockerfile says, as values: the seam between the language (this folder) and the builder (the folder above).

    Dockerfile
    ├── directives   # syntax=, # escape=, # check=
    ├── arguments    Arg, before the first FROM (global scope)
    └── stages       Stage ── base (From) ── instructions: Run | Copy | Add | Env | …

Words are as they stand in the file, variables not yet replaced: ``expansion.expanded(instruction, env)`` answers the same
instruction with them replaced. ``text`` is the logical line (continuations joined, comments gone), as Docker prints it in
``Step 2/6 : RUN …`` and keeps it in the history; the bodies of heredocs are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.errors import InvalidArgument


class DockerfileError(InvalidArgument):
    """The file, or a trigger of its base image, is wrong; the tenant can mend it. ``line`` in detail: of the file, from 1; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """The comments at the top that are more than comments."""

    syntax: str = ""  # the frontend asked for; ours reads the language itself, so it is shown and otherwise ignored
    escape: str = "\\"  # or a backtick: joins lines and takes the meaning from the next character
    check: str = ""  # options of the linter ("skip=all;error=true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A document that follows the instruction's line: ``<<EOF``, ``<<-EOF``, ``<<"EOF"``, ``3<<EOF``."""

    name: str  # the word that ends it; as a source of COPY also the name of the file
    content: bytes  # as it stands in the file, with its line ends; leading tabs still there
    expand: bool  # no part of the name was quoted: COPY and ADD replace variables (of RUN the shell does)
    chomp: bool  # <<-: leading tabs of each line do not count
    descriptor: int = 0  # of RUN: the file descriptor, 0 where none was named


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Base of all. Lines are counted from 1; ``last_line`` includes continuations and heredocs."""

    keyword: ClassVar[str] = ""
    text: str
    first_line: int
    last_line: int
    heredocs: tuple[Heredoc, ...] = ()  # of RUN, COPY, ADD, and of an ONBUILD of these


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """Begins a stage."""

    keyword: ClassVar[str] = "FROM"
    image: str  # an image, "scratch" or an earlier stage; variables of the global scope
    name: str = ""  # AS name, in lower case
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG name[=default] …"""

    keyword: ClassVar[str] = "ARG"
    pairs: tuple[tuple[str, str | None], ...]  # None: no default


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV name=value …, or the old form ENV name value."""

    keyword: ClassVar[str] = "ENV"
    pairs: tuple[tuple[str, str], ...]
    is_old_form: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL name=value …, or the old form. ``is_literal``: of ``docker build --label``, nothing is replaced in it."""

    keyword: ClassVar[str] = "LABEL"
    pairs: tuple[tuple[str, str], ...]
    is_old_form: bool = False
    is_literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    keyword: ClassVar[str] = "MAINTAINER"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The words of RUN, CMD, ENTRYPOINT, of a health check. ``in_shell``: one word, to be given to the stage's SHELL."""

    words: tuple[str, ...]
    in_shell: bool

    def with_shell(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        """What is executed: in shell form ``shell`` and the line, else the words. No words stay none."""
        return (*shell, *self.words) if self.in_shell and self.words else self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One ``RUN --mount=…``. ``None`` and "" are what was not said."""

    type: str  # bind | cache | tmpfs | secret | ssh
    target: str = ""  # where in the container; may be relative to WORKDIR
    source: str = ""  # bind, cache: a path in ``from_``; secret: the id
    from_: str = ""  # a stage, its number, or an image; "" for bind: the build context; for cache: an empty folder
    is_read_only: bool = True
    id: str = ""  # cache, secret, ssh
    env: str = ""  # secret: the variable that holds it
    sharing: str = ""  # cache: shared | private | locked
    is_required: bool = False  # secret, ssh
    size_bytes: int | None = None  # tmpfs
    mode: int | None = None  # cache, secret, ssh
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN. What its heredocs make of the command: ``script.run_script``."""

    keyword: ClassVar[str] = "RUN"
    command: Command
    mount_flags: tuple[str, ...] = ()  # as written; checked as far as they hold no variables
    mounts: tuple[Mount, ...] = ()  # there after ``expanded``
    network: str = "default"  # default | none; the parser refuses "host", --security=insecure and --device


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD have in common. Sources are paths or patterns (of ADD also URLs); documents are copied after them."""

    sources: tuple[str, ...]
    target: str
    owner: str = ""  # --chown: user[:group], names or numbers
    mode: str = ""  # --chmod: octal or symbolic (u=rwX,go=rX)
    is_link: bool = False
    excludes: tuple[str, ...] = ()  # --exclude, patterns as in .dockerignore
    documents: tuple[Heredoc, ...] = ()  # files named ``name``, mode 0644, in the order of the words; tabs of <<- are gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    keyword: ClassVar[str] = "COPY"
    from_: str = ""  # a stage, its number, or an image; "": the context
    keeps_parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    keyword: ClassVar[str] = "ADD"
    checksum: str = ""  # of a URL: sha256:…; of git: the commit
    keeps_git_dir: bool | None = None
    unpacks: bool | None = None  # None: local archives yes, those of URLs no


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    keyword: ClassVar[str] = "WORKDIR"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    keyword: ClassVar[str] = "USER"
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    keyword: ClassVar[str] = "VOLUME"
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """After ``expanded`` each port is ``number/protocol``, ranges spelled out; ``words`` are what the history shows."""

    keyword: ClassVar[str] = "EXPOSE"
    words: tuple[str, ...]
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    keyword: ClassVar[str] = "CMD"
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    keyword: ClassVar[str] = "ENTRYPOINT"
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    keyword: ClassVar[str] = "SHELL"
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """``test``: ("NONE",), ("CMD", word, …) or ("CMD-SHELL", line). Durations in nanoseconds, 0: not said."""

    keyword: ClassVar[str] = "HEALTHCHECK"
    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopsignal(Instruction):
    keyword: ClassVar[str] = "STOPSIGNAL"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """``trigger`` goes into the image's OnBuild as it is; ``triggers.parse_triggers`` reads it when a FROM names that image."""

    keyword: ClassVar[str] = "ONBUILD"
    trigger: str  # with the bodies of its heredocs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """What COPY --from may call it: its AS name, or "" (then only by number)."""
        return self.base.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    directives: Directives
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]  # at least one
    warnings: tuple[str, ...] = ()  # for the client, in moby's words

    @property
    def count(self) -> int:
        """M of ``Step N/M``: all instructions of all stages, FROM and the global ARGs too."""
        return len(self.arguments) + sum(1 + len(stage.instructions) for stage in self.stages)
