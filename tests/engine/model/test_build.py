"""What of a build's address may be kept. Pure."""

from __future__ import annotations

import pytest

from engine.model.build import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a.git#main:sub", "https://example.org/a.git#main:sub"),
        ("https://token@example.org/a.git#main", "https://…@example.org/a.git#main"),
        ("https://u:p%40ss@example.org:8443/a.git", "https://…@example.org:8443/a.git"),
        ("https://example.org/a.tar?X-Signature=abc&x=y#f", "https://example.org/a.tar?…#f"),
        ("failed to GET http://u:p@a/b?c=d: 404", "failed to GET http://…@a/b?… 404"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("https://example.org/a@b?", "https://example.org/a@b?"),
        ("", ""),
    ],
)
def test_an_address_without_who_asks(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
