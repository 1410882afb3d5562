from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from workers.agent.detach import DEFAULT, KeyFilter, parse


@pytest.mark.parametrize(
    ("keys", "codes"),
    [(DEFAULT, b"\x10\x11"), ("a", b"a"), ("ctrl-@,ctrl-_", b"\x00\x1f"), ("ctrl-[,D", b"\x1bD"), ("ctrl-a,a,ctrl-z", b"\x01a\x1a")],
)
def test_keys_are_written_as_docker_writes_them(keys: str, codes: bytes) -> None:
    assert parse(keys) == codes


@pytest.mark.parametrize("keys", ["", "ab", "ctrl-", "ctrl-A", "ctrl-aa", "a,,b", "é", "ctrl-p, ctrl-q", "a," * 200 + "a"])
def test_other_words_are_refused(keys: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid escape keys"):
        parse(keys)


def passed(*pieces: bytes, keys: bytes = b"\x10\x11") -> tuple[bytes, bool]:
    typed = KeyFilter(keys)
    return b"".join(typed.feed(piece) for piece in pieces), typed.found


@pytest.mark.parametrize(
    ("pieces", "result"),
    [
        ([b"ls\n"], (b"ls\n", False)),
        ([b"ls\x10\x11rest"], (b"ls", True)),
        ([b"\x10", b"\x11"], (b"", True)),
        ([b"\x10", b"x"], (b"\x10x", False)),
        ([b"a\x10\x10\x11b"], (b"a\x10", True)),
        ([b"\x10\x10", b"\x10x"], (b"\x10\x10\x10x", False)),
        ([b"\x11\x10"], (b"\x11", False)),
    ],
)
def test_the_sequence_is_found_in_pieces_and_nothing_else_is_lost(pieces: list[bytes], result: tuple[bytes, bool]) -> None:
    assert passed(*pieces) == result


def test_one_key_can_be_the_sequence() -> None:
    assert passed(b"abc\x01d", keys=b"\x01") == (b"abc", True)
