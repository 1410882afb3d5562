"""Names, signals, merging and the codec: pure tables of cases."""

from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec, check_name, check_spec, is_container_id
from engine.model.image import merge_config, merge_env
from engine.model.reference import Reference, image_id_prefix
from engine.model.resources import Resources
from engine.model.signals import signal_name, signal_number
from engine.model.tenant import check_tenant_name

pytestmark = pytest.mark.guest

SPEC = ContainerSpec(id="a" * 64, tenant="demo", name="web", image_id="sha256:" + "b" * 64, image="busybox", args=("sh", "-c", "true"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("busybox", "busybox:latest"),
        ("docker.io/library/busybox:1", "busybox:1"),
        ("127.0.0.1:5000/team/app:2.0", "127.0.0.1:5000/team/app:2.0"),
        ("app@sha256:" + "0" * 64, "app@sha256:" + "0" * 64),
        ("my-org/my__app", "my-org/my__app:latest"),
    ],
)
def test_a_reference_is_shown_as_docker_shows_it(text: str, shown: str) -> None:
    assert str(Reference.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "UPPER", "a//b", "a:b:c", "-a", "a/", "x" * 300, "../x", "a b", "é", "b" * 64, "app\n", "app:1\n"])
def test_a_bad_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Reference.parse(text)


def test_an_image_id_may_be_shortened() -> None:
    assert image_id_prefix("sha256:abc") == "abc"
    assert image_id_prefix("abc123") == "abc123"
    assert image_id_prefix("busybox") is None


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("kill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)])
def test_a_signal_goes_by_name_or_number(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "SIGNOPE", "0", "65", "-1", "_IGN", "RTMIN+99", "²"])
def test_an_unknown_signal_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal"):
        signal_number(name)


def test_a_signal_has_a_name() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(37) == "37"


def test_an_asked_entrypoint_drops_the_images_command() -> None:
    image = {"config": {"Entrypoint": ["/init"], "Cmd": ["serve"], "Env": ["A=1", "B=2"], "User": "www", "Labels": {"x": "1"}}}
    merged = merge_config(image, {"Entrypoint": ["/other"], "Env": ["B=3", "C=4"], "Labels": {"y": "2"}})
    assert merged["Entrypoint"] == ["/other"]
    assert not merged.get("Cmd")
    assert merged["Env"] == ["B=3", "C=4", "A=1"]
    assert merged["User"] == "www"
    assert merged["Labels"] == {"x": "1", "y": "2"}


def test_an_asked_command_keeps_the_images_entrypoint() -> None:
    merged = merge_config({"config": {"Entrypoint": ["/init"], "Cmd": ["serve"]}}, {"Cmd": ["debug"]})
    assert (merged["Entrypoint"], merged["Cmd"]) == (["/init"], ["debug"])


def test_a_variable_without_a_value_is_taken_away() -> None:
    assert merge_env(["A=1", "B=2"], ["A"]) == ["B=2"]


def test_a_record_survives_the_trip() -> None:
    spec = from_json(ContainerSpec, {**to_json(SPEC), "from_a_newer_part": 1, "resources": {"memory_bytes": 5}})
    assert spec.resources == Resources(memory_bytes=5)
    assert spec.args == SPEC.args
    assert from_json(ContainerSpec, to_json(SPEC)) == SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc"},
        {"name": "../x"},
        {"tenant": ".."},
        {"tenant": "demo\n"},
        {"args": ()},
        {"cwd": "/\0"},
        {"hostname": "a\0b"},
        {"hostname": "a\nb"},
        {"hostname": "é" * 33},
        {"domainname": "x" * 65},
        {"tmpfs": {"x": ""}},
        {"tmpfs": {"/": ""}},
        {"tmpfs": {"/a/../proc": ""}},
        {"tmpfs": {"/dev": ""}},
        {"tmpfs": {"//sys/": ""}},
        {"tmpfs": {"/proc/self": ""}},
        {"tmpfs": {"/x\0": ""}},
    ],
)
def test_what_becomes_a_path_is_checked(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        check_spec(from_json(ContainerSpec, {**to_json(SPEC), **change}))


@pytest.mark.parametrize("name", ["x", "-a", "a/b", "", "a b", "a" * 256])
def test_a_bad_container_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        check_name(name)


@pytest.mark.parametrize("name", ["", "Demo", "a.b", "-a", "a-", "public", "a" * 64, "a/b", "demo\n"])
def test_a_bad_tenant_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_tenant_name(name)


def test_only_64_hex_digits_are_an_id() -> None:
    assert is_container_id("0" * 64)
    assert not is_container_id("0" * 63 + "\n")
    assert not is_container_id("G" * 64)
