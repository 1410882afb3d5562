"""What RUN executes when documents follow it.

RUN <<EOF            the document is the script of the stage's shell
RUN <<EOF            … that begins with #!: a file, /dev/pipes/EOF, run by the shell
RUN cat <<EOF >x     anything else: the line and its documents, for the shell to make sense of
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.builds.dockerfile.lines import heredoc_of, without_tabs
from engine.builds.dockerfile.model import Run

FOLDER = "/dev/pipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """``file``: to be there, read-only and with mode 0755, while the step runs, and not to be in the layer."""

    words: tuple[str, ...]
    file: tuple[str, bytes] | None = None  # absolute path, content


def run_script(run: Run, shell: tuple[str, ...]) -> Script:
    """The words to execute, ``shell`` before them where RUN is no JSON array."""
    if not run.heredocs:
        return Script(words=run.command.with_shell(shell))
    line = run.command.words[0]
    if heredoc_of(line) is None:
        return Script(words=(*shell, line + "".join(f"\n{_text(each.content)}{each.name}" for each in run.heredocs)))
    document = run.heredocs[0]
    body = without_tabs(document.content) if document.chomp else document.content
    if not body.startswith(b"#!"):
        return Script(words=(*shell, _text(body)))
    path = f"{FOLDER}/{document.name.replace('/', '_')}"
    return Script(words=(*shell, path), file=(path, body))


def _text(body: bytes) -> str:
    return body.decode(errors="replace").replace("\0", "")
