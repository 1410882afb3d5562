"""Translations: a .po file into the .mo that gettext reads, so that no user's machine needs msgfmt.

Format: GNU gettext manual, "The Format of GNU MO Files". Fuzzy, obsolete and empty entries are left out, as msgfmt does.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAGIC: Final = 0x950412DE
_HEADER: Final = struct.Struct("<7I")


def compile_all(root: Path) -> int:
    """Every locale/<language>/LC_MESSAGES/*.po below ``root``; how many."""
    count = 0
    for source in sorted(root.glob("**/locale/*/LC_MESSAGES/*.po")):
        source.with_suffix(".mo").write_bytes(compile_po(source.read_text(encoding="utf-8")))
        count += 1
    return count


def compile_po(text: str) -> bytes:
    """The bytes of the .mo file. Raises ValueError with the line's number."""
    messages = dict(sorted((key.encode(), value.encode()) for key, value in _entries(text)))
    ids = b"\0".join(messages) + b"\0"
    strings = b"\0".join(messages.values()) + b"\0"
    table = _HEADER.size
    ids_at = table + 16 * len(messages)
    strings_at = ids_at + len(ids)
    originals, translations = [], []
    id_offset, string_offset = ids_at, strings_at
    for message, translation in messages.items():
        originals += [len(message), id_offset]
        translations += [len(translation), string_offset]
        id_offset += len(message) + 1
        string_offset += len(translation) + 1
    header = _HEADER.pack(_MAGIC, 0, len(messages), table, table + 8 * len(messages), 0, ids_at)
    return header + struct.pack(f"<{4 * len(messages)}I", *originals, *translations) + ids + strings


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """(msgctxt\\4msgid[\\0msgid_plural], msgstr[\\0msgstr…]) of each entry that is translated and not fuzzy."""
    words: dict[str, str] = {}
    keyword, fuzzy, next_fuzzy = "", False, False

    def finished() -> Iterator[tuple[str, str]]:
        forms = [words[name] for name in sorted(words) if name.startswith("msgstr")]
        if "msgid" in words and any(forms) and (not fuzzy or words["msgid"] == ""):
            context = f"{words['msgctxt']}\4" if "msgctxt" in words else ""
            plural = f"\0{words['msgid_plural']}" if "msgid_plural" in words else ""
            yield context + words["msgid"] + plural, "\0".join(forms)

    for number, raw in enumerate(text.splitlines(), 1):
        row = raw.strip()
        if row.startswith("#"):
            next_fuzzy = next_fuzzy or (row.startswith("#,") and "fuzzy" in row)
            continue
        if not row:
            continue
        if not row.startswith('"'):
            keyword, _, row = row.partition(" ")
            if keyword == "msgctxt" or (keyword == "msgid" and list(words) != ["msgctxt"]):
                yield from finished()
                words, fuzzy, next_fuzzy = {}, next_fuzzy, False
            words[keyword] = ""
        try:
            words[keyword] += ast.literal_eval(row.strip())
        except (SyntaxError, ValueError, KeyError) as error:
            raise ValueError(f"line {number}: not a string of a .po file: {raw!r}") from error
    yield from finished()
