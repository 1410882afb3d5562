"""A difference as the pages show it: folders that fold, files with what is new of them, a text diff in colours."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

SHOWN: Final = 2_000  # entries of a page; all are to be had by REST
OPEN_BELOW: Final = 60  # of so few, every folder begins unfolded
TEXT_LINES: Final = 5_000

KINDS: Final = {"M": gettext_noop("Modified"), "A": gettext_noop("Added"), "D": gettext_noop("Deleted")}
_COLOURS: Final = {"M": "yellow", "A": "green", "D": "red"}
_WHAT: Final = {
    "kind": gettext_noop("another kind"),
    "mode": gettext_noop("permissions"),
    "owner": gettext_noop("owner"),
    "device": gettext_noop("device"),
    "size": gettext_noop("size"),
    "time": gettext_noop("time"),
}
# Go's os.FileMode to Unix
_KIND_BITS: Final = ((1 << 31, stat.S_IFDIR), (1 << 27, stat.S_IFLNK), (1 << 25, stat.S_IFIFO), (1 << 24, stat.S_IFSOCK),
                     (1 << 21, stat.S_IFCHR), (1 << 26, stat.S_IFBLK))  # fmt: skip
_MODE_BITS: Final = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


@dataclass(slots=True)
class Node:
    """``line`` is None for a folder that only leads to others, which the host's list does not have."""

    name: str
    path: str
    line: Mapping[str, Any] | None = None
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def letter(self) -> str:
        return str(self.line["kind"]) if self.line else "M"

    @property
    def word(self) -> str:
        return _(KINDS[self.letter])

    @property
    def colour(self) -> str:
        return _COLOURS[self.letter]

    @property
    def is_folder(self) -> bool:
        return bool(self.children) or all(_is_folder(facts) for facts in self._facts)

    @property
    def has_text(self) -> bool:
        """A regular file on one of the sides."""
        return any(not facts["mode"] >> 20 & ~0b1101 for facts in self._facts)

    @property
    def _facts(self) -> list[Mapping[str, Any]]:
        return [facts for facts in (self.line["before"], self.line["after"]) if facts] if self.line else []

    @property
    def notes(self) -> list[str]:
        """What is new of it: "rw-r--r-- → rw-------", "0:0 → 1000:1000", sizes aside."""
        if self.line is None:
            return []
        before, after, found = self.line["before"], self.line["after"], []
        if before and after:
            if {"mode", "kind"} & set(self.line["what"]):
                found.append(f"{mode_words(before['mode'])} → {mode_words(after['mode'])}")
            if "owner" in self.line["what"]:
                found.append(f"{before['uid']}:{before['gid']} → {after['uid']}:{after['gid']}")
            if self.line["what"] == ["time"]:
                found.append(_(_WHAT["time"]))
        return found

    @property
    def sizes(self) -> list[int]:
        """Bytes before and after, one number when they are equal; none of folders."""
        sizes = [facts["size"] for facts in self._facts if not _is_folder(facts)]
        return sizes[:1] if len(set(sizes)) == 1 else sizes


def _is_folder(facts: Mapping[str, Any]) -> bool:
    return bool(facts["mode"] >> 31)


def mode_words(go_mode: int) -> str:
    """As ls(1) prints it."""
    unix = go_mode & 0o777
    unix |= next((kind for bit, kind in _KIND_BITS if go_mode & bit), stat.S_IFREG)
    return stat.filemode(unix | sum(ours for bit, ours in _MODE_BITS if go_mode & bit))


def tokens(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, Node | None, bool]]:
    """(what, node, open?) with what one of open, leaf, close: a template walks it without recursion. The first SHOWN lines."""
    root = Node("", "")
    for line in lines[:SHOWN]:
        node = root
        for part in line["path"].strip("/").split("/"):
            node = node.children.setdefault(part, Node(part, f"{node.path}/{part}"))
        node.line = line
    return list(_tokens(root, unfolded=len(lines) <= OPEN_BELOW))


def _tokens(root: Node, *, unfolded: bool) -> Iterator[tuple[str, Node | None, bool]]:
    stack: list[Node | None] = list(reversed(root.children.values()))
    depth = 0
    while stack:
        node = stack.pop()
        if node is None:
            depth -= 1
            yield "close", None, False
        elif node.children:
            yield "open", node, unfolded or depth == 0
            depth += 1
            stack.append(None)
            stack.extend(reversed(node.children.values()))
        else:
            yield "leaf", node, False


def counts(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, int]]:
    """(letter, word, colour, how many), folders that are only on the way not counted."""
    of: dict[str, int] = dict.fromkeys(KINDS, 0)
    for line in lines:
        if line["before"] or line["after"]:
            of[line["kind"]] += 1
    return [(letter, _(KINDS[letter]), _COLOURS[letter], number) for letter, number in of.items()]


def coloured(diff: str) -> list[tuple[str, str]]:
    """(class, line) of a unified diff, the first TEXT_LINES."""
    classes = {"+": "diff-added", "-": "diff-deleted", "@": "diff-where"}
    lines = diff.splitlines()[:TEXT_LINES]
    return [("diff-where" if number < 2 else classes.get(line[:1], ""), line) for number, line in enumerate(lines)]
