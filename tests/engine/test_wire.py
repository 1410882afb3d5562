"""JSON between the parts: what orjson refuses goes as the standard library writes it, and both are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import engine
from engine import wire


@pytest.mark.parametrize("value", [
    {"args": ["sh", "-c", "echo ä"], "n": 1, "none": None, "float": 1.5}, {"name": "caf\udce9"}, ["\udc80"], {"big": 2**70}, {}, [],
])  # fmt: skip
def test_what_is_written_is_read(value: Any) -> None:
    assert wire.decode(wire.encode(value)) == value


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":}', b"{} {}"])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode(data)


def test_without_any_package_it_works_too() -> None:
    """doctor runs before the first up has installed anything."""
    code = "from engine import wire; assert wire.decode(wire.encode({'a': 1})) == {'a': 1} and wire.orjson is None"
    root = Path(engine.__file__).parents[1]
    subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"], check=True)
