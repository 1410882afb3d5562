from __future__ import annotations

import gettext
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from workers.platform import messages

PO = r"""
# a comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=n != 1;\n"

#: templates/base.html:3
msgid "Containers"
msgstr "容器"

#, python-format
msgid ""
"Two lines: %(name)s\n"
"and \"quotes\""
msgstr "两行: %(name)s\n\"引号\""

msgctxt "verb"
msgid "start"
msgstr "启动"

msgctxt "noun"
msgid "start"
msgstr "开始"

msgid "one container"
msgid_plural "%d containers"
msgstr[0] "一个"
msgstr[1] "%d 个"

#, fuzzy
msgid "guessed"
msgstr "猜的"

msgid "not yet"
msgstr ""

#~ msgid "gone"
#~ msgstr "没了"
"""


def catalogue() -> gettext.GNUTranslations:
    return gettext.GNUTranslations(io.BytesIO(messages.compile_po(PO)))


def test_gettext_reads_what_was_compiled() -> None:
    found = catalogue()
    assert found.gettext("Containers") == "容器"
    assert found.gettext('Two lines: %(name)s\nand "quotes"') == '两行: %(name)s\n"引号"'
    assert (found.pgettext("verb", "start"), found.pgettext("noun", "start")) == ("启动", "开始")
    assert [found.ngettext("one container", "%d containers", n) for n in (1, 5)] == ["一个", "%d 个"]


def test_fuzzy_empty_and_obsolete_entries_are_left_out() -> None:
    found = catalogue()
    assert [found.gettext(word) for word in ("guessed", "not yet", "gone")] == ["guessed", "not yet", "gone"]


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="no msgfmt to compare with: install gettext")
def test_it_holds_the_same_messages_as_msgfmt_writes(tmp_path: Path) -> None:
    source, target = tmp_path / "django.po", tmp_path / "django.mo"
    source.write_text(PO)
    subprocess.run(["msgfmt", "-o", target, source], check=True)
    with target.open("rb") as file:
        assert gettext.GNUTranslations(file)._catalog == catalogue()._catalog  # type: ignore[attr-defined]


def test_a_broken_line_is_named() -> None:
    with pytest.raises(ValueError, match="line 2"):
        messages.compile_po('msgid "a"\nmsgstr "b\n')


def test_every_catalogue_of_the_house_compiles() -> None:
    root = Path(__file__).resolve().parents[3]
    for source in root.glob("locale/*/LC_MESSAGES/*.po"):
        messages.compile_po(source.read_text())
