"""What differs, as a tree for the page: order, folding, words, and markup that closes what it opens."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.template.loader import render_to_string

from controlpanel.files import tree

FOLDER = {"mode": 1 << 31 | 0o755, "uid": 0, "gid": 0, "size": 4096}
FILE = {"mode": 0o644, "uid": 0, "gid": 0, "size": 10}


def line(path: str, kind: str, before: Any, after: Any, *what: str) -> dict[str, Any]:
    return {"path": path, "kind": kind, "what": list(what), "before": before, "after": after}


LINES = [
    line("/etc", "M", None, None),
    line("/etc/a&b", "M", FILE, {**FILE, "mode": 0o600, "uid": 1000, "gid": 1000, "size": 20}, "mode", "owner", "size"),
    line("/new", "A", None, FOLDER),
    line("/new/link", "A", None, {**FILE, "mode": 1 << 27 | 0o777}),
    line("/old", "D", FILE, None),
]


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "a":
            self.links.append(str(dict(attrs)["href"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_folders_hold_what_is_in_them() -> None:
    said = [(what, node.path if node else "") for what, node, _unfolded in tree.tokens(LINES)]
    assert said == [
        ("open", "/etc"), ("leaf", "/etc/a&b"), ("close", ""), ("open", "/new"), ("leaf", "/new/link"), ("close", ""), ("leaf", "/old"),
    ]  # fmt: skip


def test_what_is_new_of_a_file_is_said_as_ls_says_it() -> None:
    node = next(node for what, node, _unfolded in tree.tokens(LINES) if what == "leaf" and node)
    assert node.notes == ["-rw-r--r-- → -rw-------", "0:0 → 1000:1000"]
    assert node.sizes == [10, 20]
    assert tree.mode_words(1 << 31 | 1 << 20 | 0o777) == "drwxrwxrwt"
    assert tree.mode_words(1 << 23 | 0o4755 & 0o777) == "-rwsr-xr-x"


def test_folders_on_the_way_do_not_count() -> None:
    assert [(letter, number) for letter, _word, _colour, number in tree.counts(LINES)] == [("M", 1), ("A", 2), ("D", 1)]


def test_the_markup_is_balanced_and_only_files_have_a_text() -> None:
    context = {"tokens": tree.tokens(LINES), "counts": tree.counts(LINES), "count": 5, "shown": 5, "text_link": "/compare?path="}
    parser = Balance()
    parser.feed(render_to_string("files/_tree.html", context))
    assert parser.open == []
    assert parser.links == ["/compare?path=/etc/a%26b", "/compare?path=/old"]


def test_lines_of_a_text_have_their_colours() -> None:
    assert tree.coloured("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n c") == [
        ("diff-where", "--- a/f"), ("diff-where", "+++ b/f"), ("diff-where", "@@ -1 +1 @@"), ("diff-deleted", "-a"), ("diff-added", "+b"),
        ("", " c"),
    ]  # fmt: skip
