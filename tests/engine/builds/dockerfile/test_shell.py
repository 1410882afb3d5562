r"""Variables and quotes of a word: what moby's lexer makes of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.builds.dockerfile.model import DockerfileError
from engine.builds.dockerfile.shell import MAX_WORD, expand, expand_document, expand_words

ENV = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "EMPTY": "", "F": "a/b/c.tar.gz", "L": "80 443", "X": "foobarfoo"}

WORDS = [
    ("hello", "hello"), ("he'll'o", "hello"), ("he'll", None), ("he\\'llo", "he'llo"), ("he\\\\'llo", None), ("abc\\tdef", "abctdef"),
    ('"abc\\tdef"', "abc\\tdef"), ('"abc\\\\tdef"', "abc\\tdef"), ("'abc\\tdef'", "abc\\tdef"), ("hello\\", "hello"), ('"a\\"b"', 'a"b'),
    ("\"'\"", "'"), ("'\"'", '"'), ('"', None), ("$", "$"), ("$.", "$."), ("he$PWD", "he/home"), ("he${PWD}", "he/home"), ("he$PWDx", "he"),
    ("$PWD$SHELL", "/homebash"), ("$PWD.x", "/home.x"), ("\\$PWD", "$PWD"), ("'$PWD'", "$PWD"), ('"$PWD"', "/home"), ('"${PWD}"', "/home"),
    ("${}", None), ("${", None), ("${PWD", None), ("${:}", None), ("${{x}}", None), ("${PWD:}", None), ("${PWD!x}", None), ("$1$@$?", ""),
    ("$안녕", ""), ("${KOREAN}x", "한국어x"), ("${UNSET:-w}", "w"), ("${UNSET-w}", "w"), ("${EMPTY:-w}", "w"), ("${EMPTY-w}", ""),
    ("${PWD:-w}", "/home"), ("${PWD:+w}", "w"), ("${UNSET:+w}", ""), ("${EMPTY:+w}", ""), ("${EMPTY+w}", "w"), ("${PWD:?no}", "/home"),
    ("${UNSET:?no way}", None), ("${EMPTY:?}", None), ("${EMPTY?}", ""), ("${UNSET:-${SHELL}}", "bash"), ("${UNSET:-a}b}", "ab}"),
    ("${UNSET:-'a}b'}", "a}b"), ("${UNSET:-a\\}b}", "a}b"), ("${UNSET:-\"$PWD\"}", "/home"), ("${F#*/}", "b/c.tar.gz"),
    ("${F##*/}", "c.tar.gz"), ("${F%.*}", "a/b/c.tar"), ("${F%%.*}", "a/b/c"), ("${F#x}", "a/b/c.tar.gz"), ("${F/b/X}", "a/X/c.tar.gz"),
    ("${F//\\//-}", "a-b-c.tar.gz"), ("${X/foo/}", "barfoo"), ("${X//foo/}", "bar"), ("${X//o*a/-}", "f-rfoo"), ("${X%foo}", "foobar"),
    ("${X#f?o}", "barfoo"), ("${X##*o}", ""), ("${X/*/-}", "-"), ("${X//*/-}", "-"), ("${EMPTY//*/-}", "-"), ("${UNSET#x}", ""),
    ("${X/foo}", None), ("${X#\\a}", None), ("${X%\\*}", "foobarfoo"), ("${UNSET/a/b}", ""),
    ("a b  c", "a b  c"), ("${X//[/x}", "foobarfoo"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "wanted"), WORDS)
def test_a_word_is_expanded(word: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(DockerfileError, match=r"^failed to process \""):
            expand(word, ENV)
    else:
        assert expand(word, ENV) == wanted


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("${x", "missing '}'"), ("${}", "bad substitution"), ("'x", "matching single-quote"), ('"x', "matching double-quote"),
        ("${x?}", "x: is not allowed to be unset"), ("${EMPTY:?}", "EMPTY: is not allowed to be empty"), ("${x:?my words}", "x: my words"),
        ("${x^}", r"unsupported modifier \(\^\) in substitution"), ("${x:^}", r"unsupported modifier \(:\^\)"),
        ("${x:%a}", r"unsupported modifier \(:%\)"),
        ("${x/a}", r"missing '/' in \${}"), ("${x#\\q}", r"invalid pattern \(\\q\) in substitution: invalid escape '\\q'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(word: str, sentence: str) -> None:
    with pytest.raises(DockerfileError, match=sentence):
        expand(word, ENV)


def test_the_escape_directive() -> None:
    assert expand("C:\\dir`$PWD", ENV, "`") == "C:\\dir$PWD"
    assert expand('"a`"b\\n"', ENV, "`") == 'a"b\\n'
    assert expand("\\$PWD", ENV, "`") == "\\/home"


def test_words_are_split_after_expansion() -> None:
    assert expand_words("$L 8080", ENV) == ["80", "443", "8080"]
    assert expand_words("\"$L\" a\\ b 'c  d' $EMPTY", ENV) == ["80 443", "a b", "c  d"]


def test_a_document_knows_no_quotes() -> None:
    assert expand_document('it\'s "$PWD" \\$PWD a\\nb\n', ENV) == 'it\'s "/home" $PWD anb\n'


def test_what_a_word_may_grow_to_is_limited() -> None:
    env = {"a": "x" * 100_000, "b": "x" * 1000}
    for word in ("$a$a", "${a//x/$b}", "${u:-$a$a}", "${b//x/${a}}"):
        with pytest.raises(DockerfileError, match="the result is longer than 131072 characters"):
            expand(word, env)
    with pytest.raises(DockerfileError, match="longer than 131072"):
        expand("${u:-" + "$a" * 20_000 + "}", env)
    with pytest.raises(DockerfileError, match="nested more than 50 deep"):
        expand("${a:-" * 1000 + "}" * 1000, {})
    with pytest.raises(DockerfileError, match="longer than 1024 characters"):
        expand("${a#" + "*a" * 1000 + "}", env)


@pytest.mark.parametrize(
    "word",
    [
        "$" * 60_000, '"' + "a" * 60_000 + '"', "\\a" * 30_000, "'a'" * 20_000, "${x}" * 15_000, '"$x"' * 15_000,
        "${a##" + "*a" * 500 + "b}",        "${a//" + "?" * 1000 + "b/c}", "${a%%" + "*a?" * 300 + "}", "${a//" + "*a" * 500 + "/b}",
    ],
)  # fmt: skip
def test_no_word_takes_longer_than_its_length(word: str) -> None:
    began = time.process_time()
    expand(word, {"a": "a" * MAX_WORD, "x": "y"})
    assert time.process_time() - began < 5


@settings(max_examples=1500, deadline=None)
@given(st.text("ab$x{}:-+?#%/*\\'\" \n`", max_size=30), st.sampled_from("\\`"))
def test_any_word_expands_or_is_refused_in_words(word: str, escape: str) -> None:
    for action in (lambda: expand(word, {"x": "ab/ab", "a": ""}, escape), lambda: expand_words(word, {"x": "a b"}, escape),
                   lambda: expand_document(word, {"x": "y"})):  # fmt: skip
        try:
            action()
        except DockerfileError as error:
            assert error.message.startswith("failed to process ")
