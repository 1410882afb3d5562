"""Secrets of a build in REST's header: what is read, what is refused."""

from __future__ import annotations

import base64
import json

import pytest

from controlpanel.builds.asking import hidden_of
from engine.errors import InvalidArgument


def test_a_header_of_either_alphabet() -> None:
    words = json.dumps({"tok": "ÿþ?>", "empty": ""})
    assert hidden_of(base64.b64encode(words.encode()).decode()) == {"tok": "ÿþ?>", "empty": ""}
    assert hidden_of(base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")) == {"tok": "ÿþ?>", "empty": ""}
    assert hidden_of("") == {}


@pytest.mark.parametrize("words", ["?", "[]", '"x"', '{"a": 1}', '{"a": null}', "[" * 100_000])
def test_what_is_no_map_of_texts(words: str) -> None:
    with pytest.raises(InvalidArgument, match="X-Build-Secrets"):
        hidden_of(base64.b64encode(words.encode()).decode())
