r"""Variables and quotes in a word, as a Dockerfile knows them: like sh, and a little less.

    $x ${x}        the value, or nothing                 ${x:-w} ${x-w}   w instead when x is unset (with ``:`` or empty)
    ${x#p} ${x##p} without the shortest, longest prefix   ${x:+w} ${x+w}   w when x is set
    ${x%p} ${x%%p} without such a suffix                  ${x:?w} ${x?w}   an error when x is unset
    ${x/p/r} ${x//p/r}  the first, every match replaced   '…' as it stands   "…" variables only   \c  the character

A pattern knows ``*`` and ``?``. The time taken is linear in the text; what a word may grow to is limited, since ``ENV a=$a$a``
doubles. Names are letters, digits and ``_``; ``$1``, ``$@`` and the like are variables that nobody has set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from engine.builds.dockerfile import patterns
from engine.builds.dockerfile.model import DockerfileError
from engine.builds.dockerfile.words import SPACE, quoted

# A longer word could be given to no command: MAX_ARG_STRLEN of linux/binfmts.h. A heredoc's limit is that of the file.
MAX_WORD: Final = 128 * 1024
MAX_DOCUMENT: Final = 1024 * 1024
MAX_NESTING: Final = 50
_NAME: Final = re.compile(r"[0-9]+|[@*#?\-$!]|\w+")
_MODIFIERS: Final = "+-?#%"


def expand(word: str, env: Mapping[str, str], escape: str = "\\", *, limit: int = MAX_WORD) -> str:
    """``word`` with variables replaced and quotes removed. DockerfileError: an unclosed quote or brace, ``${x:?}``, too long."""
    return _Reader(word, env, escape, limit=limit).whole()[0]


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """The same, split at white space afterwards, that of quotations excepted: EXPOSE."""
    return _Reader(word, env, escape).whole()[1]


def expand_document(text: str, env: Mapping[str, str]) -> str:
    """The body of a heredoc: quotes mean nothing, and the escape is a backslash whatever the directive says."""
    return _Reader(text, env, "\\", quotes=False, limit=MAX_DOCUMENT).whole()[0]


def split_raw(line: str) -> list[str]:
    """The words of a line with their quotes, escapes and variables: to look for heredocs in."""
    return _Reader(line, {}, "\\", keep_quotes=True, keep_escapes=True, keep_unset=True).whole()[1]


def unquoted(word: str, *, keep_quotes: bool) -> list[str]:
    """The words of a heredoc's name; with ``keep_quotes`` to see whether any part of it was quoted."""
    return _Reader(word, {}, "\\", keep_quotes=keep_quotes, keep_unset=True).whole()[1]


class _Reader:
    def __init__(
        self, text: str, env: Mapping[str, str], escape: str, *, limit: int = MAX_WORD, quotes: bool = True, keep_quotes: bool = False,
        keep_escapes: bool = False, keep_unset: bool = False,
    ) -> None:  # fmt: skip
        self._text, self._env, self._escape, self._limit = text, env, escape, max(limit, len(text))
        self._quotes, self._keep_quotes, self._keep_escapes, self._keep_unset = quotes, keep_quotes, keep_escapes, keep_unset
        self._at, self._depth, self._spent = 0, 0, 0

    def whole(self) -> tuple[str, list[str]]:
        try:
            text, words = self._until("")
            if len(text) > self._limit:
                self._too_long()
            return text, words
        except _Wrong as wrong:
            raise DockerfileError(f"failed to process {quoted(self._text)}: {wrong}") from None

    def _until(self, stop: str) -> tuple[str, list[str]]:
        """Up to ``stop``, which is taken, or to the end; the text, and its words."""
        plain = _plain(self._escape + stop, self._quotes)
        result: list[str] = []
        words = _Words()
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == stop:
                self._at += 1
                return "".join(result), words.done()
            if char == "$":
                result.append(value := self._dollar())
                words.add(value)
            elif self._quotes and char in "'\"":
                result.append(value := self._single() if char == "'" else self._double())
                words.add_whole(value)
            elif char == self._escape:
                self._at += 1
                value = (char if self._keep_escapes else "") + self._take()
                result.append(value)
                words.add_whole(value)
            elif found := plain.match(self._text, self._at):
                self._at = found.end()
                result.append(found[0])
                words.add(found[0])
            else:  # of the plain ones a character that stops elsewhere
                result.append(self._take())
                words.add(char)
        if stop:
            raise _Unclosed(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.done()

    def _take(self) -> str:
        """The next character, or nothing at the end."""
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise _Wrong("unexpected end of statement while looking for matching single-quote")
        inside, self._at = self._text[self._at + 1 : end], end + 1
        return f"'{inside}'" if self._keep_quotes else inside

    def _double(self) -> str:
        mark = self._take() if self._keep_quotes else self._take()[:0]
        result = [mark]
        plain = _IN_BACKTICK if self._escape == "`" else _IN_BACKSLASH
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join([*result, mark])
            if char == "$":
                result.append(self._dollar())
            elif char == self._escape:
                self._at += 1
                result.append(self._escaped(char))
            elif found := plain.match(self._text, self._at):
                self._at = found.end()
                result.append(found[0])
        raise _Wrong("unexpected end of statement while looking for matching double-quote")

    def _escaped(self, char: str) -> str:
        """Behind an escape in double quotes: it counts before ``"``, ``$`` and itself only."""
        follows = self._text[self._at : self._at + 1]
        kept = char if self._keep_escapes else ""
        if not follows:
            return kept
        return kept + (self._take() if follows in ('"', "$", self._escape) else char)

    def _dollar(self) -> str:
        self._at += 1
        if self._text.startswith("{", self._at):
            self._at += 1
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise _Wrong(f"${{}} is nested more than {MAX_NESTING} deep")
            value = self._braces()
            self._depth -= 1
        else:
            name = self._name()
            value = "$" + name if not name or (self._keep_unset and name not in self._env) else self._env.get(name, "")
        return self._counted(value)

    def _counted(self, value: str) -> str:
        self._spent += len(value)  # what is nested is counted once for each brace around it
        if self._spent > self._limit * (MAX_NESTING + 1):
            self._too_long()
        return value

    def _too_long(self) -> NoReturn:
        raise _Wrong(f"the result is longer than {self._limit} characters")

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if not found:
            return ""
        self._at = found.end()
        return found[0]

    def _braces(self) -> str:
        if self._at >= len(self._text):
            raise _Wrong("syntax error: missing '}'")
        if self._text[self._at] in "{}:":
            raise _Wrong("syntax error: bad substitution")
        name = self._name()
        operator = self._take()
        if operator == "}":
            return f"${{{name}}}" if self._keep_unset and name not in self._env else self._env.get(name, "")
        if operator == "/":
            return self._replaced(name)
        empty_is_unset = operator == ":"
        modifier = self._take() if empty_is_unset else operator
        said = operator + modifier if empty_is_unset else modifier
        if not modifier:
            raise _Wrong("syntax error: missing '}'")
        if modifier not in ("+-?" if empty_is_unset else _MODIFIERS):
            raise _Wrong(f"unsupported modifier ({said}) in substitution")
        word = self._inside("}", keep_escapes=modifier in "#%")
        if self._keep_unset and name not in self._env:
            return f"${{{name}{said}{word}}}"
        return self._modified(name, modifier, word, empty_is_unset=empty_is_unset)

    def _modified(self, name: str, modifier: str, word: str, *, empty_is_unset: bool) -> str:
        value = self._env.get(name, "")
        is_missing = name not in self._env or (empty_is_unset and not value)
        if modifier == "-":
            return word if is_missing else value
        if modifier == "+":
            return "" if is_missing else word
        if modifier == "?":
            if is_missing:
                raise _Wrong(f"{name}: {word or ('is not allowed to be empty' if name in self._env else 'is not allowed to be unset')}")
            return value
        is_greedy = word.startswith(modifier)
        pattern = self._pattern(word[1:] if is_greedy else word)
        return (pattern.without_prefix if modifier == "#" else pattern.without_suffix)(value, greedy=is_greedy)

    def _replaced(self, name: str) -> str:
        everywhere = self._text.startswith("/", self._at)
        self._at += everywhere
        pattern = self._inside("/", keep_escapes=True)
        replacement = self._inside("}", keep_escapes=True)
        if self._keep_unset and name not in self._env:
            return f"${{{name}/{pattern}/{replacement}}}"
        value = self._pattern(pattern).replaced(self._env.get(name, ""), replacement, everywhere=everywhere, limit=self._limit)
        if value is None:
            self._too_long()
        return value

    def _inside(self, stop: str, *, keep_escapes: bool) -> str:
        before, self._keep_escapes = self._keep_escapes, keep_escapes
        try:
            return self._until(stop)[0]
        except _Unclosed:
            raise _Wrong("syntax error: missing '}'" if stop == "}" else "syntax error: missing '/' in ${}") from None
        finally:
            self._keep_escapes = before

    def _pattern(self, text: str) -> patterns.Pattern:
        try:
            return patterns.compile_pattern(text)
        except ValueError as error:
            raise _Wrong(f"invalid pattern ({text[:200]}) in substitution: {error}") from None


class _Wrong(Exception):
    """What is wrong, without the word it is in."""


class _Unclosed(_Wrong):
    """The end came before the closing character."""


class _Words:
    """Collects words: what is added is split at white space, what is added whole is not."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._pieces: list[str] = []

    def add(self, text: str) -> None:
        if not _SPACES.search(text):
            self.add_whole(text)
            return
        first, *rest = _SPACES.split(text)
        self.add_whole(first)
        for piece in rest:
            self._end()
            self.add_whole(piece)

    def add_whole(self, text: str) -> None:
        if text:
            self._pieces.append(text)

    def _end(self) -> None:
        if self._pieces:
            self._words.append("".join(self._pieces))
            self._pieces = []

    def done(self) -> list[str]:
        self._end()
        return self._words


_SPACES: Final = re.compile(f"[{SPACE}]+")
_IN_BACKSLASH: Final = re.compile(r'[^"$\\]+')
_IN_BACKTICK: Final = re.compile(r'[^"$`]+')
_PLAIN: dict[tuple[str, bool], re.Pattern[str]] = {}


def _plain(special: str, quotes: bool) -> re.Pattern[str]:
    key = (special, quotes)
    if key not in _PLAIN:  # of the few that there are
        marks = "'\"" if quotes else ""
        _PLAIN[key] = re.compile(f"[^{re.escape('$' + special + marks)}]+")
    return _PLAIN[key]
