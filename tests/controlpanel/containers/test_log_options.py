"""LogConfig: what is taken, what is refused, in moby's words; and what --details makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import log_options
from engine.errors import EngineError, InvalidArgument, Unsupported
from engine.model.container import ContainerSpec, LogPolicy
from engine.model.log_details import details

MIB = 1 << 20


def config(driver: str = "json-file", **options: str) -> dict[str, Any]:
    return {"Type": driver, "Config": {name.replace("_", "-"): value for name, value in options.items()}}


@pytest.mark.parametrize(
    ("asked", "size", "files"),
    [
        ({}, 64 * MIB, 16),
        (config(max_size="1m", max_file="3"), MIB, 3),
        (config(max_size="1m"), MIB, 1),
        (config("local", max_size="1m"), MIB, 5),
        (config(max_size="-1"), 64 * MIB, 16),
        (config(max_size="10g", max_file="1000"), 64 * MIB, 16),
        (config(max_file="2"), 64 * MIB, 16),
        (config("none"), 16 * MIB, 4),
        (config(max_size="1k", max_file="100000"), 1024, 100000),
    ],
    ids=str,
)
def test_sizes_are_honoured_and_the_platform_has_its_own_end(asked: dict[str, Any], size: int, files: int) -> None:
    policy = log_options.read(asked)
    assert (policy.max_size_bytes, policy.max_files) == (size, files)
    assert policy.max_size_bytes * policy.max_files <= log_options.ALL_BYTES


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        (config(mode="fast"), InvalidArgument, "logger: logging mode not supported: fast"),
        (config(max_buffer_size="1m"), InvalidArgument, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        (config(mode="non-blocking", max_buffer_size="much"), InvalidArgument, "invalid size: 'much'"),
        (config("nonsense"), InvalidArgument, 'error looking up logging plugin nonsense: plugin "nonsense" not found'),
        (config("syslog"), Unsupported, "log driver 'syslog' is not supported"),
        (config(colour="x"), InvalidArgument, "unknown log opt 'colour' for json-file log driver"),
        (config("local", colour="x"), InvalidArgument, "unknown log opt 'colour' for local log driver"),
        (config(max_size="x"), InvalidArgument, "invalid size: 'x'"),
        (config(max_size="0"), InvalidArgument, "max-size must be a positive number"),
        (config(max_file="x"), InvalidArgument, 'strconv.Atoi: parsing "x": invalid syntax'),
        (config(max_file="0"), InvalidArgument, "max-file cannot be less than 1"),
        (config(compress="true", max_size="1m"), InvalidArgument, "compress cannot be true when max-file is less than 2"),
        (config(compress="maybe"), InvalidArgument, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (config(labels_regex="(a+)+$"), Unsupported, "labels-regex"),
        (config(tag="{{.Secret}}"), InvalidArgument, "invalid log tag"),
        (config(tag="{{range .X}}"), InvalidArgument, "invalid log tag"),
        ({"Type": 7}, InvalidArgument, "Type must be a string"),
        ({"Config": {"tag": 7}}, InvalidArgument, "must be a string"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_as_moby_says_it(asked: dict[str, Any], kind: type[EngineError], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        log_options.read(asked)
    assert sentence in caught.value.message


def test_details_are_the_named_labels_and_variables_and_the_tag() -> None:
    asked = config(
        labels="team,absent", env="REGION", tag="{{.Name}}/{{ .ID }}", mode="non-blocking", max_buffer_size="4m", compress="false"
    )
    spec = ContainerSpec(
        id="ab" * 32,
        tenant="demo",
        name="web",
        image_id="sha256:" + "0" * 64,
        image="busybox",
        args=("true",),
        env=("REGION=eu west", "SECRET=x"),
        labels={"team": "shop&co", "other": "x"},
        log=log_options.read(asked),
    )
    assert details(spec) == "REGION=eu+west,tag=web%2Fabababababab,team=shop%26co"
    assert LogPolicy().tag == ""
