"""What stays out of a context, against moby's rules: a table, and a plain translation into regular expressions for random ones."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.builds.ignore import Matcher, compile_pattern, ignore_file_of, left_out, read_patterns
from engine.errors import InvalidArgument

# pattern, path, whether the pattern matches the path itself
SELF = [
    ("**", "file", True), ("**/**", "dir/file", True), ("dir/**", "dir/sub/file", True), ("abc/**", "abc", False),
    ("**/dir", "dir", True), ("**/dir", "a/b/dir", True), ("**/.foo", "bar.foo", False), ("**file", "dir/afile", True),
    ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/*", "dir/dir2/sub/file", False), ("**/dir2/**", "dir/dir2/a/b", True),
    ("**/file*txt", "dir/file.txt", True), ("**/file*.txt*", "a/b/file.txt", True), ("**/**/*.txt", "file.txt", True),
    ("**/**/*.txt2", "dir/file.txt", False), ("a**/*.txt", "a/file.txt", True), ("a**/*.txt", "a/b/c/file.txt", True),
    ("a/*.txt", "a/b/file.txt", False), ("a/*.txt**", "a/file.txt", True), ("a[b-d]e", "ace", True), ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True), ("a[^b-d]e", "a/e", False), (".*", ".foo", True), (".*", "foo", False), ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True), ("abc?def", "abc/def", False), ("a(b)c|$+{", "a(b)c|$+{", True), ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False), ("[a-ζ]*", "α", True), ("[\\]a]", "]", True),
    ("[x\\-]", "-", True), ("*x", "xxx", True), ("*", "a/b", False), ("foo/**/bar", "foo/bar", True), ("foo/**/bar", "foo/a/b/bar", True),
    ("foo/**/bar", "foobar", False), ("**/a*b/c", "x/acb/y/ab/c", True), ("**/a/**/b", "a/a/x/b", True), ("a**b", "ab", True),
    ("a**b", "ax/b", True), ("a**b", "axb", False), ("**/*.py[co]", "x/y.pyc", True), ("*/temp*", "a/temporary", True),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "path", "wanted"), SELF)
def test_a_pattern_matches_a_path(pattern: str, path: str, wanted: bool) -> None:
    assert compile_pattern(pattern).matches(path) is wanted


@pytest.mark.parametrize("pattern", ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[z-a]", "*\\", "!", "!["])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match=r"syntax error in pattern|illegal exclusion pattern"):
        Matcher([pattern])


# the file, the path, whether it stays out
FILES = [
    (b"docs\n!docs/README.md\n", "docs/README.md", False), (b"docs\n!docs/README.md\n", "docs/a/b", True), (b"docs/\n", "docs/a", True),
    (b"!a.go\n*.go\n", "a.go", True), (b"*.go\n!a.go\n", "a.go", False), (b"**\n!util/web\n", "util/web/foo", False),
    (b"**\n!util/web\nutil/web/foo\n", "util/web/foo", True), (b"/abs\n", "abs/file", True), (b"  spaced  \n", "spaced", True),
    (b"# comment\n", "# comment", False), (b" # pattern\n", "# pattern", True), (b"\xef\xbb\xbfbom\r\n", "bom", True),
    (b"./here/../there\n", "there", True), (b"a/b\n!a\n", "a/b", True), (b"a\n!a/b/c\n", "a/b/c/d", False), (b"a\n!a/b/c\n", "a/b/x", True),
    (b"*\n!*/\n", "x/y", False), (b"", "anything", False), (b"**/\n", "file", True), (b"caf\xe9\n", "caf\udce9", True),
]  # fmt: skip


@pytest.mark.parametrize(("data", "path", "wanted"), FILES)
def test_the_last_line_that_applies_wins(data: bytes, path: str, wanted: bool) -> None:
    assert Matcher(read_patterns(data)).excludes(path) is wanted


def test_the_order_in_which_paths_are_asked_for_does_not_matter() -> None:
    paths = ["a/b/c", "a", "a/b", "z/y", "a/b/d"]
    patterns = ["a", "!a/b", "a/b/c"]
    one, other = Matcher(patterns), Matcher(patterns)
    assert {path: one.excludes(path) for path in paths} == {path: other.excludes(path) for path in reversed(paths)}


def test_a_folder_stays_when_something_in_it_does() -> None:
    tree = [("keep", True), ("keep/one", False), ("keep/two", False), ("gone", True), ("gone/x", False), ("top", False)]
    assert left_out(tree, Matcher(["*", "!keep/one"])) == {"keep/two", "gone", "gone/x", "top"}
    assert left_out(tree, Matcher(["gone"])) == {"gone", "gone/x"}


def test_limits_are_stated() -> None:
    with pytest.raises(InvalidArgument, match="max allowed size of 1048576 bytes"):
        read_patterns(b"x" * 2_000_000)
    with pytest.raises(InvalidArgument, match="more than 10000 patterns"):
        read_patterns(b"x\n" * 10_001)
    assert ignore_file_of("docker/web.Dockerfile") == "docker/web.Dockerfile.dockerignore"


def _plain(pattern: str) -> re.Pattern[str]:
    """moby's own translation, whose ``.*`` in a row may take for ever."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 2
            at += pattern.startswith("/", at)
            out += ".*" if at >= len(pattern) else "(.*/)?"
            continue
        char = pattern[at]
        out += "[^/]*" if char == "*" else "[^/]" if char == "?" else re.escape(char)
        at += 1
    return re.compile(out, re.DOTALL)


@settings(max_examples=1500, deadline=None)
@given(st.text("ab*/?", min_size=1, max_size=9), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4))
def test_no_shortcut_changes_the_answer(pattern: str, names: list[str]) -> None:
    path = "/".join(names)
    for suffix in ("", "**"):  # prefix and suffix matches are moby's own shortcuts: of them only what both call the same
        text = pattern.strip("/") + suffix
        if text and not (text.startswith("**") or text.endswith("**")):
            assert compile_pattern(text).matches(path) == bool(_plain(text).fullmatch(path)), text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["**", "a", "*", "a*", "*b", "?", "ab"]), min_size=1, max_size=6),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=6),
)
def test_two_stars_between_slashes(parts: list[str], names: list[str]) -> None:
    text, path = "/".join(parts), "/".join(names)
    if text != "**":
        assert compile_pattern(text).matches(path) == bool(_plain(text).fullmatch(path)), (text, path)


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "**/*a" * 30 + "b", "a**" * 30 + "b", "?*" * 50 + "b", "**/" * 100 + "b"])
def test_no_pattern_makes_a_path_expensive(pattern: str) -> None:
    compiled, began = compile_pattern(pattern), time.process_time()
    for path in ("a" * 250, "/".join("a" * 1000), "/".join(["a" * 200] * 10)):
        assert not compiled.matches(path)
    assert time.process_time() - began < 5
