"""The Config and its history, word for word as moby's classic builder writes them."""

from __future__ import annotations

import pytest

from engine.builds import runconfig
from engine.builds.dockerfile.expansion import expanded
from engine.builds.dockerfile.model import Instruction
from engine.builds.dockerfile.parse import parse


def instruction(line: str) -> Instruction:
    (stage,) = parse(f"FROM x\n{line}\n".encode()).stages
    return expanded(stage.instructions[0], {})


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        ("ENV a=1 b='two words'", "ENV a=1 b=two words"),
        ("LABEL x=y", "LABEL x=y"),
        ('CMD ["sh", "-c", "a \\"b\\""]', 'CMD ["sh" "-c" "a \\"b\\""]'),
        ("CMD echo hi", 'CMD ["/bin/sh" "-c" "echo hi"]'),
        ('ENTRYPOINT ["/x"]', 'ENTRYPOINT ["/x"]'),
        ("EXPOSE 80 443/udp", "EXPOSE 443/udp 80"),
        ("USER 1:2", "USER 1:2"),
        ('VOLUME ["/a", "/b"]', "VOLUME [/a /b]"),
        ("STOPSIGNAL SIGQUIT", "STOPSIGNAL SIGQUIT"),
        ('SHELL ["/bin/ash", "-ec"]', "SHELL [/bin/ash -ec]"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
        ("MAINTAINER me <m@e>", "MAINTAINER me <m@e>"),
        (
            "HEALTHCHECK --interval=30s --timeout=1m30s --retries=3 CMD true",
            "HEALTHCHECK &{[CMD-SHELL true] 30s 1m30s 0s 0s 3}",
        ),
        ("HEALTHCHECK NONE", "HEALTHCHECK &{[NONE] 0s 0s 0s 0s 0}"),
    ],
)
def test_comments(line: str, comment: str) -> None:
    assert runconfig.apply(runconfig.begin(None), instruction(line), cmd_is_set=False) == comment


def test_entrypoint_takes_an_inherited_cmd_away() -> None:
    config = runconfig.begin({"Cmd": ["sh"]})
    runconfig.apply(config, instruction('ENTRYPOINT ["/x"]'), cmd_is_set=False)
    assert config["Cmd"] is None
    config = runconfig.begin({"Cmd": ["sh"]})
    runconfig.apply(config, instruction('ENTRYPOINT ["/x"]'), cmd_is_set=True)
    assert config["Cmd"] == ["sh"]


def test_workdir_is_relative_to_the_one_before() -> None:
    config = runconfig.begin(None)
    assert [runconfig.workdir(config, path) for path in ("/a", "b/../c", "/")] == ["WORKDIR /a", "WORKDIR /a/c", "WORKDIR /"]


def test_env_is_replaced_in_its_place() -> None:
    config = runconfig.begin({"Env": ["A=1", "B=2"]})
    runconfig.apply(config, instruction("ENV A=3 C=4"), cmd_is_set=False)
    assert config["Env"][:2] == ["A=3", "B=2"] and config["Env"][-1] == "C=4"
    assert any(item.startswith("PATH=") for item in config["Env"])


def test_a_child_image() -> None:
    base = {
        "architecture": "arm64",
        "history": [{"created_by": "x"}],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
        "variant": "v8",
    }
    image = runconfig.child(
        base, runconfig.begin(None), container_config={"Cmd": ["a", "b"]}, container="", author="me", diff_id="", created="now"
    )
    assert image["rootfs"]["diff_ids"] == ["sha256:1"]
    assert image["history"][1] == {"created": "now", "created_by": "a b", "author": "me", "empty_layer": True}
    assert (image["architecture"], image["variant"], image["author"]) == ("arm64", "v8", "me")


def test_durations_as_go_prints_them() -> None:
    known = {0: "0s", 1: "1ns", 1500: "1.5µs", 2_000_000: "2ms", 1_500_000_000: "1.5s", 3_723_000_000_000: "1h2m3s"}
    assert {number: runconfig._go_duration(number) for number in known} == known
