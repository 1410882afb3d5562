"""Splitting a line: keyword, flags, words with quotes, name=value, JSON arrays. Go's idea of white space and of a quoted string.

Quotes and escapes stay in the words (``shell.expand`` takes them away, with the variables); of flags they are taken here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

# unicode.IsSpace: str.isspace() also takes 0x1c … 0x1f
SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
_ONE_SPACE: Final = re.compile(f"[{SPACE}]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_NAMED: Final = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", '"': r"\"", "\\": r"\\"}


class NotStrings(ValueError):
    """A JSON array with something else than strings in it."""


def quoted(text: str) -> str:
    """Go's %q, of at most 200 characters."""
    shown = "".join(_NAMED.get(char) or (char if char.isprintable() else f"\\u{ord(char):04x}") for char in text[:200])
    return f'"{shown}"' if len(text) <= 200 else f'"{shown}…"'


def with_guess(sentence: str, said: str, known: Iterable[str], *, any_case: bool = False) -> str:
    """``sentence``, and what may have been meant: a known word that is at most two keystrokes away."""
    word, best, found = said.lower() if any_case else said, 3, ""
    for option in sorted(known):
        other = option.lower() if any_case else option
        if other == word:
            return sentence
        if (distance := _distance(word, other, best)) < best:
            best, found = distance, other
    if not found:
        return sentence
    if any_case and said != said.lower():
        found = found.upper()
    return f"{sentence} (did you mean {found}?)"


def _distance(one: str, other: str, limit: int) -> int:
    """Levenshtein's, or ``limit`` when it is not below that."""
    if abs(len(one) - len(other)) >= limit:
        return limit
    row = list(range(len(other) + 1))
    for index, char in enumerate(one, 1):
        above, row[0] = row[0], index
        for column, against in enumerate(other, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (char != against))
    return min(row[-1], limit)


def split_blanks(text: str) -> list[str]:
    """At runs of blanks, quotes meaning nothing: FROM, EXPOSE, and COPY, ADD and VOLUME where they are no JSON."""
    return _BLANKS.split(text) if text else []


def split_keyword(line: str) -> tuple[str, list[str], str]:
    """``RUN --mount=… echo hi`` → ("RUN", ["--mount=…"], "echo hi")."""
    keyword, *rest = _BLANKS.split(line.strip(SPACE), maxsplit=1)
    flags, arguments = _split_flags(rest[0]) if rest else ([], "")
    return keyword, flags, arguments.strip(SPACE)


def _split_flags(text: str) -> tuple[list[str], str]:
    """The words that begin with ``--``, without quotes and backslashes, up to the first other one or a lone ``--``."""
    flags: list[str] = []
    at, end = 0, len(text)
    while at < end:
        if text[at] in SPACE:
            at += 1
        elif not text.startswith("--", at):
            return flags, text[at:]
        else:
            word, at, was_quoted = _flag(text, at)
            if word == "--":
                return flags, text[at:]
            if word or was_quoted:
                flags.append(word)
    return flags, ""


def _flag(text: str, at: int) -> tuple[str, int, bool]:
    word: list[str] = []
    quote, was_quoted = "", False
    while at < len(text):
        char = text[at]
        if not quote and char in SPACE:
            break
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, was_quoted = char, True
        elif char == "\\":
            at += 1
            word.append(text[at : at + 1])
        else:
            word.append(char)
        at += 1
    return "".join(word), at, was_quoted


def split_words(text: str, escape: str) -> list[str]:
    """At white space outside of quotes; quotes and escapes stay. An escape at the very end is dropped."""
    words: list[str] = []
    pieces: list[str] = []
    for piece in _pieces(escape).findall(text):
        if piece[0] in SPACE:
            if pieces:
                words.append("".join(pieces))
                pieces = []
        elif piece != escape:
            pieces.append(piece)
    if pieces:
        words.append("".join(pieces))
    return words


def _pieces(escape: str) -> re.Pattern[str]:
    """White space, an escaped character, a quotation (of the last the closing quote may be missing), or plain text."""
    return _BACKTICK if escape == "`" else _BACKSLASH


def _compile(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(rf"[{SPACE}]+|{e}.|{e}\Z|'[^']*'?|\"(?:[^\"{e}]|{e}.)*+(?:\"|{e}\Z|\Z)|[^{SPACE}'\"{e}]+", re.DOTALL)


_BACKSLASH: Final = _compile("\\")
_BACKTICK: Final = _compile("`")


def name_values(text: str, keyword: str, escape: str) -> tuple[list[tuple[str, str]], bool]:
    """Of ENV and LABEL: the pairs, and whether it was the old form (``ENV name the rest of the line``). ValueError."""
    words = split_words(text, escape)
    if not words:
        return [], False
    if "=" not in words[0]:
        name, *rest = _BLANKS.split(text, maxsplit=1)
        if not rest:
            raise ValueError(f"{keyword} must have two arguments")
        return [(name, rest[0])], True
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value")
        pairs.append((name, value))
    return pairs, False


def json_array(text: str) -> list[str] | None:
    """The exec form; None for what is no JSON array. NotStrings for an array of other things."""
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise NotStrings("when using JSON array syntax, arrays must be comprised of strings only")
    return [_SURROGATES.sub("\ufffd", item) for item in value]


def first_word(text: str) -> tuple[str, str]:
    """``CMD curl …`` → ("CMD", "curl …")."""
    found = _ONE_SPACE.search(text)
    return (text[: found.start()], text[found.start() :].lstrip(SPACE)) if found else (text, "")
