"""Every error has one number, on every door."""

from __future__ import annotations

from controlpanel.base.errors import STATUS, http_status, rest_body
from engine import errors


def test_every_kind_has_its_number() -> None:
    assert set(STATUS) == set(errors.EngineError.__subclasses__())
    assert http_status(errors.QuotaExceeded("x")) == 403 and http_status(errors.Unsupported("x")) == 501


def test_rest_answers_with_code_message_and_detail() -> None:
    assert rest_body(errors.NotFound("No such container: x", kind="container")) == {
        "error": {"code": "not_found", "message": "No such container: x", "detail": {"kind": "container"}}
    }
