"""The shapes of a real dockerd's answers: member names and types, no values. golden/*.json were taken from dockerd 28.5.2 (API 1.51).

python -m tests.controlpanel.dockerapi.golden FILE.json…     prints the shape of each answer
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"


def shape(value: Any) -> Any:
    """{"Id": "str", "Names": ["str"], "Mounts": []}: of a list only its first item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """What a client written against dockerd would stumble over. null goes with everything; free maps are named by an empty one."""
    if "NoneType" in (ours, theirs):
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        out = [f"{where}.{name} is missing" for name in theirs if name not in ours]
        out += [f"{where}.{name} is not Docker's" for name in ours if name not in theirs]
        for name in ours.keys() & theirs.keys():
            out += differences(ours[name], theirs[name], f"{where}.{name}")
        return out
    if isinstance(ours, list) and isinstance(theirs, list):
        return differences(ours[0], theirs[0], f"{where}[]") if ours and theirs else []
    return [] if ours == theirs else [f"{where} is {ours}, Docker's is {theirs}"]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(json.dumps(shape(json.loads(Path(path).read_text())), indent=1))
