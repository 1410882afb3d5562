"""docs/licences.md tells of what the lock files name, and nothing among it binds whoever runs Slipway to more than to pass it on."""

from __future__ import annotations

import re
from importlib.metadata import distributions

from tests.support import licences

_FINE = {
    "MIT",
    "MIT-0",
    "0BSD",
    "BSD-0-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Apache-2.0",
    "PSF-2.0",
    "MPL-2.0",
    "LGPL-3.0-only",
    "public domain",
}


def test_the_document_is_that_of_the_lock_files() -> None:
    """``make licences`` writes it. What this interpreter has in another version is not compared."""
    told = dict(re.findall(r"^\| (\S+) \| \S+ \| (.*) \|$", licences.DOCUMENT.read_text(), re.MULTILINE))
    wanted = licences.locked() | {name: version for name, (version, _words) in licences.of_browser().items()}
    assert {f"| {name} | {version} |" for name, version in wanted.items()} <= set(
        re.findall(r"^\| \S+ \| \S+ \|", licences.DOCUMENT.read_text(), re.MULTILINE)
    )
    assert told.keys() - {"Python", "---"} == wanted.keys()
    here = {found.metadata["Name"].lower().replace("_", "-"): found for found in distributions()}
    for name, version in licences.locked().items():
        if name in here and here[name].version == version:
            assert told[name] == licences.of_python(name), name


def test_each_licence_is_known_and_may_be_passed_on() -> None:
    for row in re.findall(r"^\| \S+ \| \d\S* \| (.*) \|$", licences.DOCUMENT.read_text(), re.MULTILINE):
        alternatives = row.replace("(", "").replace(")", "").split(" OR ")
        assert any(set(each.split(" AND ")) <= _FINE for each in alternatives), row
