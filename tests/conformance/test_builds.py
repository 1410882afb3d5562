"""The recipes of builds/ by ``docker build`` of the whole platform, against what dockerd made of them (builds/reference.txt)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import builds, recipe
from tests.support.platform import Platform

pytestmark = pytest.mark.skipif(shutil.which("busybox") is None, reason="the package busybox-static is missing")

RECIPES = recipe.all_recipes()
EXPLAINED = builds.explanations(frozenset(each.name for each in RECIPES))
INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
FLAGS = (
    "--from=", "--chown=", "--chmod=", "--link", "--parents", "--exclude=", "--unpack=", "--network=", "--mount=type=bind",
    "--mount=type=cache",
    "--mount=type=tmpfs", "--mount=type=secret", "--mount=type=ssh", "--platform=", "--interval=", "--timeout=", "--start-period=",
    "--start-interval=",
    "--retries=", "<<EOF", "<<-", "# escape=",
)  # fmt: skip


@pytest.fixture(scope="module")
def host(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[builds.Builder]:
    end = builds.Builder(f"unix://{platform.socket(platform.tenant('builds'))}", tmp_path_factory.mktemp("host"))
    yield end
    end.clean()


@pytest.fixture(scope="module")
def known() -> dict[str, list[str]]:
    return builds.recorded()


@pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")
@pytest.mark.timeout(180, func_only=True)
@pytest.mark.parametrize("each", RECIPES, ids=lambda each: each.name)
def test_makes_what_dockerd_makes(host: builds.Builder, known: dict[str, list[str]], each: recipe.Recipe) -> None:
    verdict = builds.judge(each, host.build(each).lines, known[each.name], EXPLAINED)
    assert verdict.kind in (builds.EQUAL, builds.EXPLAINED), f"{each.about}\n{verdict.text}"


def test_every_instruction_and_flag_is_there() -> None:
    text = "\n".join(content for each in RECIPES if not each.fails for path, _mode, content in each.files if "ockerfile" in path)
    missing = [word for word in (*INSTRUCTIONS, *FLAGS) if word not in text + text.upper()]
    assert not missing and len(RECIPES) >= 60


def test_a_context_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    """Modes, times and links too, so that both builders get the same bytes."""
    told = []
    for number in range(2):
        for each in RECIPES:
            folder = tmp_path / str(number) / each.name
            folder.mkdir(parents=True)
            each.lay_out(folder)
        root = tmp_path / str(number)
        told.append(
            [(str(path.relative_to(root)), path.lstat().st_mode, int(path.lstat().st_mtime)) for path in sorted(root.glob("*/**/*"))]
        )
    assert told[0] == told[1] and len(told[0]) > 200


def test_an_explained_difference_hides_no_other() -> None:
    reason = [builds.Explanation(frozenset({"env-forms"}), "because", builds.re.compile("^config Env"))]
    one = next(each for each in RECIPES if each.name == "env-forms")
    assert builds.judge(one, ["config Env 1"], ["config Env 2"], reason).kind == builds.EXPLAINED
    assert builds.judge(one, ["config Env 1", "config Cmd 1"], ["config Env 2"], reason).kind == builds.UNEXPLAINED
    assert builds.judge(one, ["config Env 1"], ["config Env 1"], reason).kind == builds.STALE
