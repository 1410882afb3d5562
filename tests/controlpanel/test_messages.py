"""The Chinese catalogue is complete and says what the English says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from workers.platform.messages import compile_po

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "controlpanel" / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
_ENTRY = re.compile(r'^msgid ((?:".*"\n)+)(?:msgid_plural (?:".*"\n)+)?msgstr(?:\[0\])? ((?:".*"\n?)+)', re.MULTILINE)
_PLACE = re.compile(r"%\(\w+\)[sd]|%s")
_IN_TEMPLATES = re.compile(r"""\{%\s*translate\s+(?:"([^"]+)"|'([^']+)')|_\("([^"]+)"\)""")


def entries() -> dict[str, str]:
    text = CATALOGUE.read_text(encoding="utf-8")
    join = lambda part: "".join(line.strip()[1:-1] for line in part.splitlines()).replace('\\"', '"').replace("\\n", "\n")  # noqa: E731
    return {join(one): join(other) for one, other in _ENTRY.findall(text) if join(one)}


def test_nothing_is_empty_fuzzy_or_left_over() -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    assert "fuzzy" not in text and "#~" not in text
    assert [english for english, chinese in entries().items() if not chinese] == []
    compile_po(text)


def test_places_for_values_are_the_same_in_both() -> None:
    for english, chinese in entries().items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(chinese)), english


def test_every_sentence_of_the_templates_is_in_it() -> None:
    known = entries()
    for file in (ROOT / "templates").rglob("*.html"):
        for found in _IN_TEMPLATES.findall(file.read_text(encoding="utf-8")):
            sentence = next(filter(None, found))
            assert sentence in known, f"{file.name}: {sentence}: run makemessages"


def test_every_sentence_of_the_code_is_in_it() -> None:
    known = entries()
    for file in (ROOT / "controlpanel").rglob("*.py"):
        for sentence in re.findall(r"""\b(?:_|gettext|gettext_noop|ngettext)\("([^"]+)"[,)]""", file.read_text(encoding="utf-8")):
            assert sentence in known, f"{file.name}: {sentence}: run makemessages"


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="gettext is not installed here")
def test_gettext_itself_finds_nothing_wrong() -> None:
    done = subprocess.run(["msgfmt", "-c", "-o", "/dev/null", str(CATALOGUE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
