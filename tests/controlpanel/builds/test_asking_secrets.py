"""Secrets and keys of a build in REST's headers: what is read, what is refused."""

from __future__ import annotations

import base64
import json

import pytest

from controlpanel.builds.asking import hidden_of
from engine.errors import InvalidArgument

NAME = "X-Build-Secrets"


def test_a_header_of_either_alphabet() -> None:
    words = json.dumps({"tok": "ÿþ?>", "empty": ""})
    for header in (base64.b64encode(words.encode()).decode(), base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")):
        assert hidden_of({NAME: header}, NAME) == {"tok": "ÿþ?>", "empty": ""}
    assert hidden_of({}, NAME) == hidden_of({NAME: ""}, NAME) == {}


@pytest.mark.parametrize("words", ["?", "[]", '"x"', '{"a": 1}', '{"a": null}', "[" * 100_000])
def test_what_is_no_map_of_texts(words: str) -> None:
    with pytest.raises(InvalidArgument, match=NAME):
        hidden_of({NAME: base64.b64encode(words.encode()).decode()}, NAME)
