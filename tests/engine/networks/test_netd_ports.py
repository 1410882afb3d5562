"""Published ports of the host: who may have which, and what comes by IPv6."""

from __future__ import annotations

import errno
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine import errors
from engine.model.network import PortBinding
from tests.engine.networks import netd as netds
from tests.engine.networks.machine import SILENCE_S, inside, process
from tests.engine.networks.netd import eventually, identity

pytestmark = pytest.mark.requires("root")
ONE, OTHER = identity(1), identity(2)
INSIDE = "172.20.0.2"


@pytest.fixture
def container(host: None) -> Iterator[int]:
    """The pid of a process that the host reaches at INSIDE."""
    with process() as pid:
        for command in (
            f"ip link add port type veth peer name eth0 netns {pid}",
            "ip address add 172.20.0.1/24 dev port",
            "ip link set port up",
            f"nsenter -t {pid} -n ip address add {INSIDE}/24 dev eth0",
            f"nsenter -t {pid} -n ip link set eth0 up",
            f"nsenter -t {pid} -n ip link set lo up",
        ):
            subprocess.run(command.split(), check=True)
        yield pid


def port(container_port: int = 80, host_port: int = 0, end: int = 0, *, ip: str = "", protocol: str = "tcp") -> PortBinding:
    return PortBinding(container_port=container_port, protocol=protocol, host_ip=ip, host_port=host_port, host_port_end=end)


def refusal(netd: netds.Process, owner: str, *ports: PortBinding) -> str:
    with pytest.raises(errors.FailedPrecondition) as caught:
        netd.client.hold(owner, ports)
    return caught.value.message


def is_free(number: int, address: str = "0.0.0.0", *, kind: socket.SocketKind = socket.SOCK_STREAM, reuse: bool = True) -> bool:
    """Whether another program could have it, also one that says SO_REUSEADDR."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address, number))
            if kind == socket.SOCK_STREAM:
                sock.listen()
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return False
        return True


# -- who has it -----------------------------------------------------------------------------------


@pytest.mark.guest
def test_a_port_is_held_by_both_families_and_nobody_else_gets_it(netd: netds.Process) -> None:
    (held,) = netd.client.hold(ONE, [port(80, 8080)])
    assert held == port(80, 8080)
    for address in ("0.0.0.0", "127.0.0.1", "::", "::1"):
        for reuse in (True, False):
            assert not is_free(8080, address, reuse=reuse)
    assert is_free(8080, kind=socket.SOCK_DGRAM)
    netd.client.release(ONE)
    for address in ("0.0.0.0", "::"):
        assert is_free(8080, address)


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (port(80, 8080), port(81, 8080), "0.0.0.0:8080"),
        (port(80, 8080), port(80, 8080, ip="127.0.0.1"), "127.0.0.1:8080"),
        (port(80, 8080, ip="127.0.0.1"), port(80, 8080), "0.0.0.0:8080"),
        (port(80, 8080, ip="::1"), port(80, 8080), "[::]:8080"),
        (port(80, 8080, ip="::"), port(80, 8080, ip="::1"), "[::1]:8080"),
        (port(53, 8080, protocol="udp"), port(53, 8080, protocol="udp"), "0.0.0.0:8080"),
    ],
)
def test_a_port_of_another_container_is_refused_in_dockers_words(
    netd: netds.Process, first: PortBinding, second: PortBinding, shown: str
) -> None:
    netd.client.hold(ONE, [first])
    assert refusal(netd, OTHER, second) == f"Bind for {shown} failed: port is already allocated"
    netd.client.release(ONE)
    netd.client.hold(OTHER, [second])


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_of_another_program_is_refused(netd: netds.Process, kind: socket.SocketKind) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 8080))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        expected = f"failed to bind host port 0.0.0.0:8080/{protocol}: address already in use"
        assert refusal(netd, ONE, port(80, 8080, protocol=protocol)) == expected
        netd.client.hold(ONE, [port(80, 8080, ip="127.0.0.2", protocol=protocol)])


def test_an_address_that_the_host_does_not_have_is_refused(netd: netds.Process) -> None:
    message = refusal(netd, ONE, port(80, 8080, ip="192.0.2.1"))
    assert message == "failed to bind host port 192.0.2.1:8080/tcp: cannot assign requested address"


def test_the_same_port_at_different_addresses(netd: netds.Process) -> None:
    netd.client.hold(ONE, [port(80, 8080, ip="127.0.0.1")])
    netd.client.hold(OTHER, [port(80, 8080, ip="127.0.0.2"), port(80, 8080, ip="::1")])


def test_a_port_whose_last_connections_are_ending_is_free(netd: netds.Process) -> None:
    """TIME_WAIT of whoever had it before."""
    with socket.create_server(("127.0.0.1", 8080)) as server, socket.create_connection(("127.0.0.1", 8080)) as client:
        server.accept()[0].close()
        client.recv(1)
    netd.client.hold(ONE, [port(80, 8080)])


def test_free_ports_are_the_hosts_and_the_same_by_both_families(netd: netds.Process) -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with socket.create_server(("::", first), family=socket.AF_INET6):
        held = netd.client.hold(ONE, [port(80), port(81), port(80, protocol="udp")])
        numbers = [one.host_port for one in held]
        assert all(first < number <= last for number in numbers[:2]), "the first is taken by IPv6"
        assert len(set(numbers[:2])) == 2
    for number in numbers[:2]:
        assert not is_free(number)
        assert not is_free(number, "::")
    (next_one,) = netd.client.hold(OTHER, [port(80)])
    assert next_one.host_port not in numbers[:2]


def test_the_first_free_port_of_a_range(netd: netds.Process) -> None:
    netd.client.hold(OTHER, [port(80, 8000)])
    with socket.create_server(("127.0.0.1", 8001)):
        held = netd.client.hold(ONE, [port(80, 8000, 8003), port(81, 8000, 8003)])
        assert held == [port(80, 8002), port(81, 8003)]
        assert refusal(netd, identity(3), port(80, 8000, 8003)) == "all ports are allocated"


def test_all_or_none(netd: netds.Process) -> None:
    netd.client.hold(OTHER, [port(80, 8081)])
    before = netd.descriptors()
    refusal(netd, ONE, port(80, 8080), port(81, 8081))
    assert is_free(8080)
    assert netd.descriptors() == before
    assert netd.client.status()["ports"] == 1


def test_ports_of_a_running_container_change(netd: netds.Process) -> None:
    """What stays is never let go; what fails leaves all as it was."""
    (kept, _) = netd.client.hold(ONE, [port(80), port(81, 8081)])
    assert netd.client.hold(ONE, [port(80), port(82, 8082)]) == [kept, port(82, 8082)]
    assert is_free(8081)
    netd.client.hold(OTHER, [port(80, 8083)])
    refusal(netd, ONE, port(84, 8084), port(83, 8083))
    assert not is_free(8082)
    assert is_free(8084)
    assert netd.client.hold(ONE, []) == []
    assert is_free(kept.host_port)


def test_a_container_cannot_have_one_port_twice(netd: netds.Process) -> None:
    assert refusal(netd, ONE, port(80, 8080), port(81, 8080)) == "Bind for 0.0.0.0:8080 failed: port is already allocated"


def test_nonsense_is_refused(netd: netds.Process) -> None:
    for binding in (port(0, 80), port(80, 65536), port(80, 90, 80), port(80, 80, protocol="icmp"), port(80, 80, ip="localhost")):
        with pytest.raises(errors.InvalidArgument):
            netd.client.hold(ONE, [binding])
    with pytest.raises(errors.InvalidArgument):
        netd.client.hold("../x", [port()])
    with pytest.raises(errors.InvalidArgument):
        netd.client.target("../x", "172.20.0.1")


def test_sctp_where_the_kernel_has_it(netd: netds.Process) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        with pytest.raises(errors.Unsupported, match="this host's kernel has no sctp"):
            netd.client.hold(ONE, [port(80, 8080, protocol="sctp")])
        return
    netd.client.hold(ONE, [port(80, 8080, protocol="sctp")])
    assert "port is already allocated" in refusal(netd, OTHER, port(80, 8080, protocol="sctp"))


def test_nobody_is_connected_to_nothing(netd: netds.Process) -> None:
    """Where no rule carries it past: silence, so that whoever comes too early comes through a second later."""
    netd.client.hold(ONE, [port(80, 8080), port(53, 8080, protocol="udp")])
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(TimeoutError):
            socket.create_connection((address, 8080), timeout=SILENCE_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(100):
            sock.sendto(b"x" * 60_000, ("127.0.0.1", 8080))
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    (waiting,) = (row.split()[4] for row in rows if row.split()[1].endswith(f":{8080:04X}"))
    assert waiting.endswith(":00000000"), "nothing piles up"


def test_without_netd_ports_are_refused(host: None, tmp_path: Path) -> None:
    netd = netds.Process(tmp_path)
    with pytest.raises(errors.Unavailable, match="no netd answers"):
        netd.client.hold(ONE, [port(80, 8080)])
    netd.client.release(ONE)
    netd.client.target(ONE, INSIDE)


# -- what comes by IPv6 ---------------------------------------------------------------------------


@contextmanager
def echo(pid: int, number: int) -> Iterator[None]:
    """TCP: what was sent is sent back after its end; UDP: each datagram at once."""
    with ExitStack() as stack:
        tcp = stack.enter_context(inside(pid, lambda: socket.create_server((INSIDE, number), backlog=200)))
        udp = stack.enter_context(inside(pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        udp.bind((INSIDE, number))

        def answer(sock: socket.socket) -> None:
            with sock:
                data = b""
                while piece := sock.recv(1 << 20):
                    data += piece
                sock.sendall(data)

        def accept() -> None:
            while True:
                try:
                    sock, _ = tcp.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(sock,), daemon=True).start()

        def bounce() -> None:
            while True:
                data, peer = udp.recvfrom(65535)
                if data == b"end":
                    return
                udp.sendto(data, peer)

        threads = [threading.Thread(target=accept), threading.Thread(target=bounce)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            tcp.shutdown(socket.SHUT_RDWR)
            udp.sendto(b"end", (INSIDE, number))
            for thread in threads:
                thread.join()


@pytest.mark.guest
def test_ipv6_reaches_the_container(netd: netds.Process, container: int) -> None:
    netd.client.hold(ONE, [port(80, 8080), port(80, 8080, protocol="udp")])
    netd.client.target(ONE, INSIDE)
    before = netd.descriptors()
    data = bytes(range(256)) * 40_000
    with echo(container, 80):
        with socket.create_connection(("::1", 8080), timeout=20) as sock:
            sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            sender.start()
            received = bytearray()
            while piece := sock.recv(1 << 20):
                received += piece
            sender.join()
        assert received == data, "each direction ends by itself"
        for _ in range(3):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.connect(("::1", 8080))
                for text in (b"one", b"two", b"x" * 9000):
                    sock.send(text)
                    assert sock.recv(65535) == text
    assert netd.client.status()["flows"] == 3
    assert netd.descriptors() == before + 3, "flows of datagrams, which end by time"
    netd.client.target(ONE, "")
    assert netd.descriptors() == before
    with pytest.raises(TimeoutError):
        socket.create_connection(("::1", 8080), timeout=SILENCE_S)
    netd.client.target(ONE, INSIDE)
    with echo(container, 80), socket.create_connection(("::1", 8080), timeout=20) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_an_answer_comes_from_the_address_that_was_asked(netd: netds.Process, container: int) -> None:
    for address in ("fd00::1", "fd00::2"):
        subprocess.run(["ip", "address", "add", f"{address}/64", "dev", "lo", "nodad"], check=True)
    netd.client.hold(ONE, [port(80, 8080, protocol="udp")], target=INSIDE)
    with echo(container, 80):
        for address in ("fd00::1", "fd00::2"):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.bind(("::1", 0))
                sock.sendto(b"hello", (address, 8080))
                assert sock.recvfrom(100)[1][:2] == (address, 8080)


def test_nobody_listens_in_the_container(netd: netds.Process, container: int) -> None:
    netd.client.hold(ONE, [port(80, 8080)], target=INSIDE)
    before = netd.descriptors()
    with pytest.raises(ConnectionResetError), socket.create_connection(("::1", 8080), timeout=10) as sock:
        sock.recv(1)
    eventually(lambda: netd.descriptors() == before)


def test_a_slow_reader_stops_its_writer_and_costs_nothing(netd: netds.Process, container: int) -> None:
    """Neither memory nor time while nothing moves, also when one direction has ended."""
    netd.client.hold(ONE, [port(80, 8080)], target=INSIDE)
    server = inside(container, lambda: socket.create_server((INSIDE, 80)))
    assert netd.process is not None
    status = Path(f"/proc/{netd.process.pid}/status")
    with server, socket.create_connection(("::1", 8080), timeout=10) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.shutdown(socket.SHUT_WR)
            client.settimeout(SILENCE_S)
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    sent += client.send(b"x" * 65536)
            assert sent < 64 << 20
            (resident,) = (int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            assert resident < 40 << 10
            before = netd.cpu_s()
            time.sleep(1)
            assert netd.cpu_s() - before < 0.05
            received = 0
            while received < sent:
                received += len(accepted.recv(1 << 20))
            client.shutdown(socket.SHUT_WR)
            while received_more := accepted.recv(1 << 20):
                received += len(received_more)
    eventually(lambda: netd.client.status()["flows"] == 0)


def test_a_side_that_breaks_off_ends_the_other(netd: netds.Process, container: int) -> None:
    netd.client.hold(ONE, [port(80, 8080)], target=INSIDE)
    server = inside(container, lambda: socket.create_server((INSIDE, 80)))
    with server:
        for breaks_off in ("client", "server"):
            client = socket.create_connection(("::1", 8080), timeout=10)
            accepted, _ = server.accept()
            broken, other = (client, accepted) if breaks_off == "client" else (accepted, client)
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            broken.close()
            other.settimeout(10)
            with other, pytest.raises(ConnectionResetError):
                other.recv(1)
    eventually(lambda: netd.client.status()["flows"] == 0)


def test_a_container_has_so_many_connections_and_no_more(netd: netds.Process, container: int) -> None:
    """While descriptors are short. Who comes later waits for its turn; another container's connections come through."""
    assert netd.process is not None
    netd.kill()
    netd.start(descriptors=1024)
    netd.client.hold(ONE, [port(80, 8080)], target=INSIDE)
    netd.client.hold(OTHER, [port(80, 8081)], target=INSIDE)
    with echo(container, 80), ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("::1", 8080), timeout=20)) for _ in range(300)]
        eventually(lambda: netd.client.status()["flows"] == 64)
        with socket.create_connection(("::1", 8081), timeout=20) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        before = netd.cpu_s()
        time.sleep(1)
        assert netd.cpu_s() - before < 0.1
        for sock in silent[:-1]:
            sock.close()
        silent[-1].shutdown(socket.SHUT_WR)
        assert silent[-1].recv(1) == b""
    eventually(lambda: netd.client.status()["flows"] == 0)


# -- how many -------------------------------------------------------------------------------------


def test_nobody_takes_the_ports_of_all(netd: netds.Process) -> None:
    many = [port(number, 20_000 + number, ip="127.0.0.1") for number in range(1, 700)]
    netd.client.hold(ONE, many, tenant="greedy")
    with pytest.raises(errors.FailedPrecondition, match="too many published ports: tenant greedy has 699 and wants 400, of at most 1000"):
        netd.client.hold(OTHER, [port(number, 21_000 + number, ip="127.0.0.1") for number in range(1, 401)], tenant="greedy")
    assert netd.client.hold(ONE, many, tenant="greedy") == many, "again is not more"
    assert netd.client.hold(OTHER, [port(80, 22_000)], tenant="modest")
