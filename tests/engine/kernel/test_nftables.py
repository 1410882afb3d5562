from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from engine.kernel.nftables import BRIDGE, Elements, Nftables, Watch
from tests.engine.networks.machine import own_host

pytestmark = [pytest.mark.requires("root", "nft"), pytest.mark.guest]

KEY = b"ab12v1".ljust(16, b"\0") + bytes.fromhex("02420a000002") + b"\0\0" + socket.inet_aton("10.0.0.2")


@pytest.fixture
def nft() -> Iterator[Nftables]:
    """On a host of the test's own, with a set."""
    with own_host():
        made = Nftables()
        made.run("add table bridge t; add set bridge t ports { type ifname . ether_addr . ipv4_addr; }")
        yield made
        made.close()


def elements(nft: Nftables) -> list[object]:
    return [element for item in nft.list("set bridge t ports") if "set" in item for element in item["set"].get("elem", [])]


def test_an_element_by_its_own_message_is_what_nft_would_add(nft: Nftables) -> None:
    ports = Elements(BRIDGE, "t", "ports")
    ports.add(KEY)
    ports.add(KEY)
    assert elements(nft) == [{"concat": ["ab12v1", "02:42:0a:00:00:02", "10.0.0.2"]}]
    nft.run('delete element bridge t ports { "ab12v1" . 02:42:0a:00:00:02 . 10.0.0.2 }')
    ports.add(KEY)
    ports.delete(KEY)
    assert elements(nft) == []
    ports.close()


def test_what_is_not_there_is_said(nft: Nftables) -> None:
    ports, no_set, no_table = Elements(BRIDGE, "t", "ports"), Elements(BRIDGE, "t", "nothing"), Elements(BRIDGE, "nothing", "ports")
    for act in (ports.delete, no_set.add, no_table.add):
        with pytest.raises(OSError) as caught:
            act(KEY)
        assert caught.value.errno == errno.ENOENT
    ports.add(KEY)
    assert len(elements(nft)) == 1, "a refused batch spoils nothing"
    for part in (ports, no_set, no_table):
        part.close()


def test_commands_are_all_or_none_and_errors_are_nfts_words(nft: Nftables) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        nft.run("add table inet half; add rule inet half nothing drop")
    assert not any(item.get("table", {}).get("name") == "half" for item in nft.list("tables"))
    with pytest.raises(OSError, match="syntax error"):
        nft.run("nonsense")


def test_a_watch_tells_rules_from_elements(nft: Nftables) -> None:
    watch, ports = Watch(), Elements(BRIDGE, "t", "ports")
    ports.add(KEY)
    ports.close()
    assert select.select([watch], [], [], 2)[0] and not watch.rules_changed()
    nft.run("add chain bridge t c; add rule bridge t c drop")
    assert select.select([watch], [], [], 2)[0] and watch.rules_changed()
    nft.run("flush ruleset")
    assert select.select([watch], [], [], 2)[0] and watch.rules_changed()
    assert not watch.rules_changed()
    watch.close()
