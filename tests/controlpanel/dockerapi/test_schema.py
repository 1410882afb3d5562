"""Create requests by Go's rules. The sentences were taken from dockerd 28.5.2."""

from __future__ import annotations

import json

import pytest

from controlpanel.dockerapi import shapes
from controlpanel.dockerapi.create import decode
from engine.errors import InvalidArgument


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b"{", "invalid JSON: unexpected EOF"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest"),
        (b"null", "config cannot be empty in order to create a container"),
        (b'{"Image":5}', "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"),
        (b'{"Cmd":5}', "invalid JSON: json: cannot unmarshal number into Go value of type string"),
        (b'{"Cmd":{"a":1}}', "invalid JSON: json: cannot unmarshal object into Go value of type string"),
        (b'{"Env":"x"}', "invalid JSON: json: cannot unmarshal string into Go struct field .Env of type []string"),
        (
            b'{"HostConfig":{"Memory":"x"}}',
            "invalid JSON: json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64",
        ),
        (
            b'{"HostConfig":{"Memory":true}}',
            "invalid JSON: json: cannot unmarshal bool into Go struct field .HostConfig.Memory of type int64",
        ),
        (b'{"Image":"a"} x', "unexpected content after JSON"),
    ],
)
def test_wrong_request_is_refused_in_mobys_words(body: bytes, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decode(body)
    assert refused.value.message == sentence


def test_names_match_in_any_case_and_null_is_not_given() -> None:
    assert decode(b'{"image":"a","CMD":"x","Env":null,"Unknown":1,"hostconfig":{"memory":7}}') == {
        "Image": "a",
        "Cmd": ["x"],
        "HostConfig": {"Memory": 7},
    }


def test_request_made_from_an_inspect_passes() -> None:
    shown = {name: value for name, value in shapes.HOST_CONFIG_DEFAULTS.items() if value is not None}
    body = decode(json.dumps({"Image": "a", "HostConfig": shown}).encode())
    assert "MaskedPaths" not in body["HostConfig"] and body["HostConfig"]["Runtime"] == "runc"


def test_host_config_shows_what_became_of_empty_words() -> None:
    asked = {"Memory": 64 << 20, "NetworkMode": "default", "LogConfig": {"Type": "", "Config": {}}, "IpcMode": "", "PidsLimit": 0}
    shown = shapes.host_config_of(asked, network_mode="bridge")
    assert shown["MemorySwap"] == 128 << 20 and shown["NetworkMode"] == "bridge" and shown["PidsLimit"] is None
    assert shown["LogConfig"] == {"Type": "json-file", "Config": {}} and shown["IpcMode"] == "private"
    assert list(shown)[: len(shapes.HOST_CONFIG_DEFAULTS)] == list(shapes.HOST_CONFIG_DEFAULTS)
