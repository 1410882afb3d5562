from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.model import capabilities

pytestmark = pytest.mark.guest


def test_docker_gives_fourteen() -> None:
    assert set(capabilities.effective([], [])) == set(capabilities.DEFAULT)
    assert len(capabilities.DEFAULT) == 14


def test_dropping_all_leaves_what_is_added() -> None:
    assert capabilities.effective(["net_admin"], ["ALL"]) == ["CAP_NET_ADMIN"]


def test_adding_all_leaves_out_what_is_dropped() -> None:
    have = capabilities.effective(["ALL"], ["CAP_SYS_ADMIN"])
    assert "CAP_SYS_ADMIN" not in have
    assert len(have) == len(capabilities.ALL) - 1


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="unknown capability"):
        capabilities.effective(["CAP_FLY"], [])
