"""Under which licences what we install comes: ``python -m tests.support.licences > docs/licences.md`` (``make licences``).

Of Python's packages their own metadata say it, of the browser's package-lock.json. Tools of the tests are not among them: nobody gets those
from us.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "licences.md"
_HEAD: Final = """# Licences of what Slipway installs

Made by `make licences`; a test compares it with the lock files. Known weaknesses of the same packages are asked for by `make audit`, where
the network allows.
"""
_LOCKED: Final = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
# of packages that some interpreters or systems alone get
_ELSEWHERE: Final = {"async-timeout": "Apache-2.0", "colorama": "BSD-3-Clause", "win-inet-pton": "public domain"}
# what people wrote before there were SPDX expressions (PEP 639)
_SPDX: Final = {
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "New BSD": "BSD-3-Clause",
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def locked() -> dict[str, str]:
    """name → version, of requirements.lock."""
    return dict(_LOCKED.findall((ROOT / "requirements.lock").read_text()))


def of_python(name: str) -> str:
    """ "" when the package is not installed here, and nobody has written its licence down."""
    try:
        return licence(distribution(name))
    except PackageNotFoundError:
        return _ELSEWHERE.get(name, "")


def licence(found: Distribution) -> str:
    words = found.metadata
    if expression := words.get("License-Expression"):
        return str(expression)
    said = (words.get("License") or "").strip().splitlines()
    classes = [each.rpartition(" :: ")[2] for each in words.get_all("Classifier") or () if each.startswith("License ::")]
    classes = [each for each in classes if each not in ("OSI Approved", "DFSG approved", "Other/Proprietary License")]
    if len(said) == 1 and len(said[0]) < 20:
        return _SPDX.get(said[0], said[0])
    return " AND ".join(_SPDX.get(each, each) for each in classes)


def of_browser() -> dict[str, tuple[str, str]]:
    """name → (version, licence), of package-lock.json."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    return {name.removeprefix("node_modules/"): (item["version"], item.get("license", "")) for name, item in packages.items() if name}


def document() -> str:
    rows = ["| Python package | version | licence |", "|---|---|---|"]
    rows += [f"| {name} | {version} | {of_python(name)} |" for name, version in sorted(locked().items())]
    rows += ["", "| browser's package | version | licence |", "|---|---|---|"]
    rows += [f"| {name} | {version} | {words} |" for name, (version, words) in sorted(of_browser().items())]
    return _HEAD + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(document(), end="")
