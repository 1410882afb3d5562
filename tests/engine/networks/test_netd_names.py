"""What a container finds at 127.0.0.11, asked by packets from inside of its namespace."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from engine.networks.names import Member, Names
from tests.engine.networks import netd as netds
from tests.engine.networks.machine import SILENCE_S, inside, process
from tests.engine.networks.netd import (
    AAAA,
    FORMERR,
    MX,
    NETWORK,
    NOTIMP,
    OTHER,
    PTR,
    REFUSED,
    RESOLVER,
    SERVFAIL,
    A,
    answer,
    ask,
    eventually,
    exchange,
    identity,
    member,
    name_server,
    named,
    parse,
    query,
    read_message,
    served,
)  # fmt: skip

pytestmark = pytest.mark.requires("root", "nft")


# -- names of ours --------------------------------------------------------------------------------


@pytest.mark.guest
def test_members_are_found_by_all_their_names(netd: netds.Process, box: int) -> None:
    netd.client.enter(NETWORK, "front", member(2, "db", "Postgres", "sql.internal"))
    for name in ("db", "postgres", "POSTGRES", "sql.internal", identity(2)[:12], "db.front", "postgres.Front", f"{identity(2)[:12]}.front"):
        reply = ask(box, name)
        assert (reply.rcode, reply.addresses) == (0, ["172.20.0.2"]), name
    assert ask(box, "web").addresses == ask(box, "www").addresses == ["172.20.0.1"], "its own"


def test_a_name_of_several_has_all_their_addresses_in_turn(netd: netds.Process, box: int) -> None:
    for number in (2, 3, 4):
        netd.client.enter(NETWORK, "front", member(number, f"db-{number}", "db"))
    found = []
    for _ in range(6):
        found.append(ask(box, "db").addresses)
        assert ask(box, "db", AAAA).answers == [], "and takes no turn"
    assert {frozenset(addresses) for addresses in found} == {frozenset(f"172.20.0.{number}" for number in (2, 3, 4))}
    firsts = [addresses[0] for addresses in found]
    assert firsts[:3] == firsts[3:]
    assert len(set(firsts)) == 3


def test_addresses_say_whose_they_are(netd: netds.Process, box: int) -> None:
    netd.client.enter(NETWORK, "front", member(2, "db", "sql"))
    (answered,) = ask(box, "2.0.20.172.in-addr.arpa", PTR).answers
    assert (answered[0], named(answered[1])) == (PTR, "db.front")


def test_ipv6_addresses_are_told_both_ways(netd: netds.Process, box: int) -> None:
    netd.client.enter(NETWORK, "front", member(2, "db-2", "db", ipv6_address="fd00:7::2"))
    netd.client.enter(NETWORK, "front", member(3, "db-3", "db"))
    two = socket.inet_pton(socket.AF_INET6, "fd00:7::2")
    backwards = ".".join(reversed(two.hex())) + ".ip6.arpa"
    for _ in range(2):
        assert ask(box, "db", AAAA).answers == [(AAAA, two)], "of those that have one"
        assert len(ask(box, "db").addresses) == 2
        (answered,) = ask(box, backwards.upper(), PTR).answers
        assert (answered[0], named(answered[1])) == (PTR, "db-2.front")
    assert member(2, "db-2", ipv6_address="fd00:7::2") == Member.from_json(member(2, "db-2", ipv6_address="fd00:7::2").to_json())
    netd.client.leave(NETWORK, identity(2))
    assert ask(box, "db", AAAA).answers == []


@pytest.mark.parametrize("kind", [AAAA, MX, PTR, 65, 33])
def test_a_known_name_has_nothing_else(box: int, kind: int) -> None:
    reply = ask(box, "web", kind)
    assert (reply.rcode, reply.answers) == (0, [])


def test_a_member_that_left_is_not_found(netd: netds.Process, box: int) -> None:
    netd.client.enter(NETWORK, "front", member(2, "db", "sql"))
    netd.client.enter(NETWORK, "front", member(2, "database"))
    assert ask(box, "database").addresses == ["172.20.0.2"]
    assert ask(box, "db").rcode == ask(box, "sql").rcode == SERVFAIL, "it was renamed"
    netd.client.leave(NETWORK, identity(2))
    assert ask(box, "database").rcode == SERVFAIL


def test_a_link_is_its_own_containers_alone(netd: netds.Process, boxes: ExitStack) -> None:
    netd.client.enter(NETWORK, "front", member(9, "db", address="172.20.0.9"))
    linked = served(netd, boxes, 1, "web", links={"Store": identity(9)})
    other = served(netd, boxes, 2, "worker")
    assert ask(linked, "store").addresses == ask(linked, "store.front").addresses == ["172.20.0.9"]
    assert ask(other, "store").rcode == SERVFAIL


def test_names_of_other_networks_are_unknown(netd: netds.Process, boxes: ExitStack) -> None:
    """Two tenants who call everything the same."""
    alice = served(netd, boxes, 1, "web")
    bob = served(netd, boxes, 2, "db", network=OTHER)
    netd.client.enter(NETWORK, "front", member(3, "cache"))
    netd.client.enter(OTHER, "front", member(4, "cache"))
    assert ask(alice, "cache").addresses == ask(alice, "cache.front").addresses == ["172.20.0.3"]
    assert ask(bob, "cache").addresses == ["172.20.0.4"]
    for question in (("db", A), ("db.front", A), (identity(2)[:12], A), ("2.0.20.172.in-addr.arpa", PTR), ("4.0.20.172.in-addr.arpa", PTR)):
        assert ask(alice, *question).rcode == SERVFAIL


def test_joining_and_leaving_networks_while_it_runs(netd: netds.Process, box: int) -> None:
    netd.client.enter(OTHER, "back", member(5, "db"))
    assert ask(box, "db").rcode == SERVFAIL
    netd.client.update(identity(1), Names((NETWORK, OTHER)))
    assert ask(box, "db").addresses == ask(box, "db.back").addresses == ["172.20.0.5"]
    assert ask(box, "db.front").rcode == SERVFAIL
    netd.client.update(identity(1), Names((NETWORK,)))
    assert ask(box, "db").rcode == SERVFAIL
    netd.client.update(identity(7), Names((NETWORK, OTHER)))  # nobody's: nothing happens


# -- the wire -------------------------------------------------------------------------------------


def test_by_tcp_too_and_several_questions_on_one_connection(netd: netds.Process, box: int) -> None:
    def act() -> list[list[str]]:
        with socket.create_connection(RESOLVER, timeout=10) as sock:
            messages = b"".join(len(data).to_bytes(2, "big") + data for data in (query("web"), query("www", number=8)))
            sock.sendall(messages[:5])
            time.sleep(0.05)
            sock.sendall(messages[5:])
            return [parse(data).addresses for data in read_messages(sock, 2)]

    assert inside(box, act) == [["172.20.0.1"], ["172.20.0.1"]]


def read_messages(sock: socket.socket, count: int) -> list[bytes]:
    data, found = b"", []
    while len(found) < count:
        data += sock.recv(65535)
        while len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
            size = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + size])
            data = data[2 + size :]
    return found


def test_what_does_not_fit_is_cut_and_whole_by_tcp(netd: netds.Process, box: int) -> None:
    for number in range(2, 62):
        netd.client.enter(NETWORK, "front", member(number, f"db-{number}", "db"))
    cut = ask(box, "db")
    assert cut.truncated
    assert 20 < len(cut.addresses) < 60
    assert len(cut.raw) <= 512
    for whole in (ask(box, "db", edns=4096), ask(box, "db", tcp=True)):
        assert not whole.truncated
        assert len(whole.addresses) == 60


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(query("web")[:-1], FORMERR, id="cut off"),
        pytest.param(query("web")[:4] + b"\0\2" + query("web")[6:], FORMERR, id="two questions"),
        pytest.param(query("web")[:4] + b"\0\0" + query("web")[6:], FORMERR, id="no question"),
        pytest.param(query("web")[:12] + b"\xc0\x0c\0\1\0\1", FORMERR, id="a name that points to itself"),
        pytest.param(query(".".join(["a" * 63] * 4)), FORMERR, id="a name that is too long"),
        pytest.param(query("web", flags=0x2800), NOTIMP, id="an update"),
    ],
)
def test_malformed_questions_are_told_so(box: int, data: bytes, expected: int) -> None:
    reply = parse(exchange(box, data))
    assert (reply.id, reply.rcode) == (7, expected)


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 11, query("web", flags=0x8180)], ids=["empty", "a byte", "no header", "an answer"])
def test_what_is_no_question_has_no_answer(box: int, data: bytes) -> None:
    with pytest.raises(TimeoutError):
        exchange(box, data, timeout_s=SILENCE_S)
    assert ask(box, "web").addresses


def is_answered(box: int) -> bool:
    """The question itself may be lost in a full queue."""
    with suppress(TimeoutError):
        return ask(box, "web", timeout_s=1.0).addresses == ["172.20.0.1"]
    return False


@pytest.mark.parametrize("tcp", [False, True])
def test_noise_ends_nothing(netd: netds.Process, box: int, tcp: bool) -> None:
    """Thousands of packets of chance, many of them nearly right."""
    chance = random.Random(6)
    good = query("web.front", edns=4096)

    def noise() -> bytes:
        data = bytearray(good if chance.random() < 0.8 else chance.randbytes(chance.randrange(200)))
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)

    def send() -> None:
        for _ in range(30):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock, suppress(ConnectionError):
                sock.connect(RESOLVER)
                for _ in range(100):
                    data = noise()
                    sock.sendall(len(data).to_bytes(2, "big") + data if tcp and chance.random() < 0.95 else data)

    inside(box, send)
    eventually(lambda: is_answered(box))
    assert netd.answers()


def test_a_container_may_have_a_name_server_of_its_own(netd: netds.Process, boxes: ExitStack) -> None:
    """On all addresses, as they do; before and after our resolver comes, by UDP and TCP."""
    pid = boxes.enter_context(process())
    netds.up(pid)
    inside(pid, lambda: boxes.enter_context(name_server("0.0.0.0", lambda data, tcp: answer(data, "192.0.2.1"))))
    netd.client.enter(NETWORK, "front", member(1, "web"))
    netd.serve(pid, identity(1), Names((NETWORK,)))
    for tcp in (False, True):
        assert ask(pid, "web", tcp=tcp).addresses == ["172.20.0.1"]
        own = inside(pid, lambda tcp=tcp: own_server(query("web"), tcp))
        assert parse(own).addresses == ["192.0.2.1"]


def own_server(data: bytes, tcp: bool) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", 53))
        sock.sendall(len(data).to_bytes(2, "big") + data if tcp else data)
        return read_message(sock) if tcp else sock.recv(65535)


# -- what one container may cost the others -------------------------------------------------------


def test_questions_that_nobody_answers_are_counted(netd: netds.Process, boxes: ExitStack) -> None:
    """A container that asks for a thousand names of a dead server is refused the most of them; another is served at once."""
    noisy, quiet = served(netd, boxes, 1, "web"), served(netd, boxes, 2, "db")
    with name_server("127.0.0.53", lambda data, tcp: answer(data, "192.0.2.1") if b"good" in data else None):
        netd.resolv_conf.write_text("nameserver 127.0.0.53\n")
        eventually(lambda: ask(quiet, "good.org").addresses == ["192.0.2.1"])
        before = netd.descriptors()

        def flood() -> int:
            """How many were refused."""
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(RESOLVER)
                for number in range(1000):
                    sock.send(query(f"{number}.org", number=number))
                sock.settimeout(1)
                refused = 0
                with suppress(TimeoutError):
                    while True:
                        refused += parse(sock.recv(512)).rcode == REFUSED
                return refused

        assert inside(noisy, flood) > 50
        assert netd.client.status()["waiting"] <= 64
        assert ask(quiet, "good.org", timeout_s=1.0).addresses == ["192.0.2.1"]
        assert ask(noisy, "db", timeout_s=1.0).addresses == ["172.20.0.2"]
        eventually(lambda: netd.client.status()["waiting"] == 0)
        eventually(lambda: netd.descriptors() <= before)


def test_a_flood_leaves_the_others_their_answers(netd: netds.Process, boxes: ExitStack) -> None:
    noisy, quiet = served(netd, boxes, 1, "web"), served(netd, boxes, 2, "db")
    ended = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(RESOLVER)
            while not ended.is_set():
                sock.send(query("web"))

    thread = threading.Thread(target=inside, args=(noisy, flood))
    thread.start()
    try:
        time.sleep(0.5)
        times = []
        for _ in range(50):
            since = time.perf_counter()
            assert ask(quiet, "db", timeout_s=1.0).addresses
            times.append(time.perf_counter() - since)
        assert sorted(times)[25] < 0.1
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("tcp", [False, True])
def test_whoever_asks_without_end_is_answered_so_often_and_no_more(netd: netds.Process, box: int, tcp: bool) -> None:
    """This process' time is not counted as its tenant's. Nothing is lost by TCP."""
    message = query("web")
    message = len(message).to_bytes(2, "big") + message if tcp else message

    def flood() -> tuple[float, float]:
        """(answers, seconds)."""
        answered, began = 0, time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.connect(RESOLVER)
            sock.setblocking(False)
            while (took_s := time.monotonic() - began) < 3:
                with suppress(BlockingIOError):
                    sock.send(message * 50 if tcp else message)
                with suppress(BlockingIOError):
                    size = len(sock.recv(65536))
                    answered += size / 39 if tcp else 1
            return answered, took_s

    answered, took_s = inside(box, flood)
    assert answered <= 1.1 * (4000 + 4000 * took_s)
    eventually(lambda: is_answered(box))


def test_a_connection_that_says_nothing_is_not_kept(netd: netds.Process, box: int) -> None:
    before = netd.descriptors()
    silent = inside(box, lambda: [socket.create_connection(RESOLVER) for _ in range(100)])
    assert ask(box, "web", tcp=True).addresses
    assert netd.descriptors() <= before + 40
    for sock in silent:
        sock.close()
    eventually(lambda: netd.descriptors() <= before)


# -- life -----------------------------------------------------------------------------------------


def test_serving_and_forgetting_leaves_nothing_open(netd: netds.Process, box: int) -> None:
    before = netd.descriptors()
    for _ in range(3):
        with process() as pid:
            netds.up(pid)
            for _ in range(2):  # again for the same one: instead
                netd.serve(pid, identity(2), Names((NETWORK,)))
            assert ask(pid, "web").addresses
            netd.client.forget(identity(2))
    assert netd.descriptors() == before
    assert list((netd.config.engine / "networks" / "names" / "served").iterdir()) == [
        netd.config.engine / "networks" / "names" / "served" / identity(1)
    ]


def test_without_netd_names_are_noted_and_ports_refused(host: None, tmp_path: Path) -> None:
    netd = netds.Process(tmp_path)
    with process() as pid:
        netds.up(pid)
        netd.client.enter(NETWORK, "front", member(1, "web"))
        netd.client.enter(NETWORK, "front", member(2, "db"))
        netd.serve(pid, identity(1), Names((NETWORK,)))
        netd.client.leave(NETWORK, identity(2))
        netd.start()
        try:
            assert netd.client.status()["members"] == 1
            netd.serve(pid, identity(1), Names((NETWORK,)))
            assert ask(pid, "web").addresses == ["172.20.0.1"]
        finally:
            netd.kill()


def test_what_the_dead_left_is_cleared(netd: netds.Process, box: int) -> None:
    netd.client.enter(NETWORK, "front", member(2, "db"))
    netd.client.enter(OTHER, "back", member(2, "db"))
    assert netd.client.clear([identity(1)]) == [], "it is too young to be dead"
    assert netd.client.clear([identity(1)], older_than_s=0) == [identity(2)]
    assert ask(box, "db").rcode == SERVFAIL
    assert ask(box, "web").addresses
    assert netd.client.status()["members"] == 1
    assert not (netd.config.engine / "networks" / "names" / "members" / OTHER).exists()


def test_only_root_is_answered_and_little_is_kept(netd: netds.Process) -> None:
    assert netd.config.netd_socket.stat().st_mode & 0o777 == 0o600
    assert netd.process is not None
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{netd.process.pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 10 | 1 << 12 | 1 << 19 | 1 << 21
    assert status["NoNewPrivs"] == "1"
