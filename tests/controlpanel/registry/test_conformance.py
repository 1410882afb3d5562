"""The same checks against ours, however one comes in, and against Debian's docker-registry: one that nobody passes is a wrong check."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from typing import Final

import pytest

from tests.controlpanel.registry.conformance import CHECKS
from tests.controlpanel.registry.conftest import client_of
from tests.support import registry
from tests.support.oci import Client

# Of docker-registry 2.8, which is older than distribution-spec 1.1. "1.1": came with it, or with the text after it.
NOT_IN_DEBIAN: Final = {
    "end_2_a_range_beyond_the_end": "416 with the length of the whole blob",
    "names_that_are_none": "500 for a name of more than 255 characters",
    "end_4b_whole_at_once_is_201": "202, which is allowed",
    "end_5_out_of_order": "Content-Range is not looked at",
    "end_6_with_the_last_chunk_out_of_order": "the same",
    "sha512_of_a_manifest": "1.1",
    "end_7_what_is_no_manifest": "500 for JSON that is no object",
    "end_7_too_large": "400 in place of 413",
    "end_7_of_a_media_type_that_nobody_knows": "1.1: kinds that it does not know are refused",
    "end_7_with_a_subject": "1.1",
    "end_7_with_tags": "1.1",
    "end_8a_tags": "in no order",
    "end_8b_pages": "n is not looked at",
    "end_8b_the_last_page_has_no_link": "the same",
    "end_8_of_no_number": "the same",
    "the_catalog": "ordered part by part of the names",
    "end_12a_referrers": "1.1",
    "end_12b_of_a_type": "1.1",
    "end_12_of_nothing": "1.1",
    "end_12_of_clients_that_knew_no_referrers": "1.1",
    "end_9_a_tag": "tags are not deleted",
    "methods_that_are_none": "405 in plain text",
}


def failures(client: Client) -> dict[str, str]:
    """What was wrong, by check."""
    found = {}
    for number, (name, check) in enumerate(CHECKS.items()):
        try:
            check(client, f"acme/c{number}")
        except (AssertionError, KeyError, OSError, ValueError, HTTPException) as error:
            found[name] = f"{type(error).__name__}: {str(error)[:300]}"
    return found


def test_ours_by_password(alice: Client) -> None:
    assert failures(alice) == {}


def test_ours_by_the_token_service(host: str) -> None:
    assert failures(client_of(host, "bob", by_token=True)) == {}


def test_ours_by_tls(tls: Client) -> None:
    assert failures(tls) == {}


@pytest.mark.requires("docker_registry")
def test_debians(tmp_path: Path) -> None:
    with registry.running(tmp_path / "debian") as there:
        found = failures(Client(there.host))
    assert found.keys() == NOT_IN_DEBIAN.keys(), found
