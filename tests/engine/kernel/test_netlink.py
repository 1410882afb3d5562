"""Our own messages, read back by pyroute2 and ip(8)."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator

import pyroute2
import pytest

from engine.kernel import links, netlink
from engine.kernel.netns import Opener
from tests.engine.networks.machine import own_host, process

pytestmark = [pytest.mark.requires("root"), pytest.mark.guest]


@pytest.fixture
def sock() -> Iterator[netlink.Socket]:
    """On a host of the test's own."""
    with own_host(), netlink.Socket() as made:
        yield made


def test_links_addresses_and_routes_are_made_as_told(sock: netlink.Socket) -> None:
    links.add_bridge("br", mac="02:42:0a:00:00:01", mtu=1400)
    index = sock.index("br")
    assert not sock.is_up("br") and sock.mtu("br") == 1400
    sock.run([netlink.add_address(index, "10.0.0.1", 24), netlink.set_up("br"), netlink.default_route(index, "10.0.0.2")])
    assert sock.is_up("br")
    with pyroute2.IPRoute() as ip:
        (link,) = ip.get_links(index)
        assert link.get(("linkinfo", "kind")) == "bridge" and link.get("address") == "02:42:0a:00:00:01"
        (address,) = ip.get_addr(index=index, family=socket.AF_INET)
        assert (address.get("local"), address["prefixlen"], address.get("broadcast")) == ("10.0.0.1", 24, "10.0.0.255")
        (route,) = ip.get_default_routes(family=socket.AF_INET)
        assert route.get("gateway") == "10.0.0.2" and route.get("oif") == index
    assert netlink.Network(index, "10.0.0.1", 24) in netlink.addresses()
    assert netlink.Network(index, "10.0.0.0", 24) in netlink.routes()
    assert netlink.default_route_links() == {"br"}
    links.delete("br")
    assert not sock.is_up("br")
    with pytest.raises(OSError, match="No such device"):
        links.delete("br")


def test_a_bridge_is_opened_with_its_address(sock: netlink.Socket) -> None:
    index = links.add_bridge("br", mac="02:42:0a:00:00:01", mtu=1400)
    sock.run([netlink.add_address(index, "10.0.0.1", 20, replace=True), netlink.set_up("br")])
    assert sock.is_up("br")
    assert netlink.Network(index, "10.0.0.1", 20) in netlink.addresses()
    with pytest.raises(OSError, match="File exists") as caught:
        links.add_bridge("br", mac="02:42:0a:00:00:01", mtu=1400)
    assert caught.value.errno == errno.EEXIST


def test_the_far_end_of_a_pair_is_made_in_the_other_namespace(sock: netlink.Socket) -> None:
    opener = Opener()
    links.add_bridge("br", mac="02:42:0a:00:00:01", mtu=1500)
    with process() as pid:
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        veth = netlink.add_veth("near", bridge=sock.index("br"), mtu=1300, peer="eth0", peer_mac="02:42:0a:00:00:02", peer_netns=netns)
        sock.run([veth, netlink.no_ipv6_address("near"), netlink.set_up("near")])
        with opener.open(netns) as inside:
            inside.run([netlink.set_up("eth0")])
            assert inside.mtu("eth0") == sock.mtu("near") == 1300
            with pytest.raises(OSError, match="No such device"):
                sock.index("eth0")
        os.close(netns)
    with pyroute2.IPRoute() as ip:
        (link,) = ip.link_lookup(ifname="near") or [0]
        if link:  # the namespace may still be dying
            assert ip.get_addr(index=link, family=socket.AF_INET6) == ()
    opener.close()


def test_a_refusal_says_which_step_and_the_rest_was_done(sock: netlink.Socket) -> None:
    links.add_bridge("one", mac="02:42:0a:00:00:01", mtu=1500)
    with pytest.raises(OSError, match="set nothing up: No such device") as caught:
        sock.run([netlink.set_up("nothing"), netlink.set_up("one")])
    assert caught.value.errno == errno.ENODEV
    assert sock.is_up("one")
    with pytest.raises(OSError, match="1 to 15 characters"):
        netlink.set_up("x" * 16)


def test_the_kernels_own_words_are_told(sock: netlink.Socket) -> None:
    with pytest.raises(OSError, match=r"add default route via 192\.0\.2\.1: Network is unreachable \(.+\)"):
        sock.run([netlink.default_route(sock.index("lo"), "192.0.2.1")])


def test_threads_share_a_socket(sock: netlink.Socket) -> None:
    def make(number: int) -> None:
        for step in range(20):
            sock.run([netlink.add_address(index, f"10.{number}.{step}.1", 32)])

    index = sock.index("lo")
    threads = [threading.Thread(target=make, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(netlink.addresses()) == 1 + 8 * 20


def test_the_opener_walks_home_and_survives_a_bad_namespace(sock: netlink.Socket) -> None:
    others = set(threading.enumerate())
    opener = Opener()
    home = os.readlink("/proc/thread-self/ns/net")
    with open("/dev/null") as nothing, pytest.raises(OSError, match="setns"):
        opener.open(nothing.fileno())
    with process() as pid, open(f"/proc/{pid}/ns/net") as netns:
        opener.open(netns.fileno()).close()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "netns" and thread not in others]
    assert os.readlink(f"/proc/self/task/{thread.native_id}/ns/net") == home
    opener.close()
    thread.join(5)
    assert not thread.is_alive()
