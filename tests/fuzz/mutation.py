"""What is almost right: JSON values, words and bytes with something about them changed. Pure; all choices are the given ``Random``'s."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final
from urllib.parse import quote

WORDS: Final = (
    "", " ", "a", "-", "--", ".", "..", "../..", "/", "//", "/etc/passwd", "/proc/self/exe", "/proc/1/root", "null", "true", "0", "-1",
    "1e9", "9" * 40, "NaN", "{}", "[]", '"', "'", "\\", "\0", "a\0b", "\n", "a\r\nX-Injected: 1", "%", "%00", "%2e%2e%2f", "%ff", "é",
    "漢字", "\u202e", "\U0001f4a9", "\ud800", "e\u0301" * 9, "A" * 65, "a" * 256, "b" * 5000, "sha256:" + "0" * 64, "sha256:", "f" * 64,
    "0" * 12, "busybox", "busybox:latest", "busybox@sha256:" + "1" * 64, "a:b:c", "host", "none", "bridge", "default", "container:",
    "container:x", "rslave", "1g", "-1g", "1.5", "0777", "1:2:3:4", "256.0.0.1", "127.0.0.1", "::1", "fe80::1%lo", "10.0.0.0/8",
    "0.0.0.0/0", "80/tcp", "0/tcp", "65536/tcp", "80-90/udp", "tcp", "root", "0:0", "65536", "4294967295", "SIGKILL", "64",
    "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "10m", "-10m", "{{.}}", "$(id)", "`id`", "${HOME}", "<script>",
)  # fmt: skip
NUMBERS: Final = (
    0, 1, -1, 2, 7, 63, 64, 80, 100, 255, 256, 1000, 4096, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63),
    2**64, 10**30, 0.1, -0.0, 1.5, 1e308, float("inf"), float("nan"), 6 << 20, 16 << 20,
)  # fmt: skip
_DEEP: Final = 2000
_LONG: Final = 3000


def word(chance: Random) -> str:
    if chance.random() < 0.15:
        return "".join(
            chr(chance.choice((chance.randrange(32), chance.randrange(32, 127), chance.randrange(0xD800))))
            for _ in range(chance.randrange(24))
        )
    return chance.choice(WORDS)


def value(chance: Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = chance.randrange(9 if depth < 3 else 5)
    if kind == 0:
        return None
    if kind == 1:
        return chance.random() < 0.5
    if kind == 2:
        return chance.choice(NUMBERS)
    if kind < 5:
        return word(chance)
    if kind < 7:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {word(chance): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def mutated(tree: Any, chance: Random) -> Any:
    """A copy of ``tree`` with one place changed."""
    if isinstance(tree, dict) and tree and chance.random() < 0.85:
        key = chance.choice(list(tree))
        changed = {name: mutated(item, chance) if name == key else item for name, item in tree.items()}
        act = chance.randrange(12)
        if act == 0:
            del changed[key]
        elif act == 1:
            changed[word(chance)] = changed.pop(key)
        elif act == 2:
            changed[key.swapcase()] = value(chance)  # Go reads names without regard to case
        return changed
    if isinstance(tree, list) and tree and chance.random() < 0.85:
        at = chance.randrange(len(tree))
        changed_list = [mutated(item, chance) if number == at else item for number, item in enumerate(tree)]
        return changed_list * chance.choice((1, 1, 1, 2, 50))
    return _instead(tree, chance)


def _instead(leaf: Any, chance: Random) -> Any:
    act = chance.randrange(8)
    if act == 0:
        return [leaf]
    if act == 1:
        return {"": leaf}
    if act == 2 and isinstance(leaf, str):
        return leaf + word(chance)
    if act == 3 and isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
        return chance.choice((leaf + 1, -leaf, leaf * 2**32, str(leaf), float(leaf)))
    if act == 4:
        return word(chance) * chance.choice((1, 1, 40))
    if act == 5:
        return chance.choice(NUMBERS)
    return value(chance)


def encoded(tree: Any, chance: Random) -> bytes:
    """As JSON; seldom as what only resembles it."""
    text = json.dumps(tree, ensure_ascii=chance.random() < 0.7)
    act = chance.randrange(40)
    if act == 0:
        text = "[" * _DEEP + text + "]" * _DEEP
    elif act == 1:
        text = text.replace("{", '{"a":1,"a":2,', 1)
    elif act == 2:
        text = "\ufeff" + text
    elif act == 3:
        text += text
    elif act == 4:
        text = text.replace(":", ": " * _LONG, 1)
    data = text.encode("utf-8", "surrogatepass")
    if act == 5:
        return text.encode("utf-16", "surrogatepass")
    return spoiled(data, chance) if act < 9 else data


def spoiled(data: bytes, chance: Random) -> bytes:
    """Bits turned, bytes cut, repeated or put in."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(changed) + 1)
        act = chance.randrange(4)
        if act == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif act == 1:
            del changed[at:]
        elif act == 2:
            changed[at:at] = changed[at : at + 64] * chance.randrange(1, 20)
        else:
            changed[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(changed)


def in_path(text: str, chance: Random) -> str:
    """One part of a path: quoted, as a good client does, or as it is."""
    if chance.random() < 0.85:
        return quote(text, safe=":@", errors="surrogatepass")
    return text.replace(" ", "%20").replace("\n", "%0a").replace("\r", "%0d")


def query(fields: dict[str, str], chance: Random) -> str:
    """With its question mark; "" of none. Fields are mostly quoted, seldom doubled, and joined by the wrong sign now and then."""
    if not fields:
        return ""
    pairs = [f"{quote(name, errors='surrogatepass')}={quote(text, errors='surrogatepass')}" for name, text in fields.items()]
    if chance.random() < 0.1:
        pairs += [chance.choice(pairs), chance.choice(("=", "&&", "%", "a", "%zz=%zz"))]
    return "?" + chance.choice(("&", "&", "&", "&", "&", "&", ";")).join(pairs)
