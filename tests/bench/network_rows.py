"""What networks cost: packets between containers and through published ports, connections, a start with a port."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.bench.client import BenchError, Engine

Sample = dict[str, float | list[float]]
Roots = Callable[[], set[int]]

MEGABYTES: Final = 200
CONNECTIONS: Final = 300
TIMES: Final = 10
MANY_PORTS: Final = 1000
READY_S: Final = 20.0
SETTLE_S: Final = 0.5  # nc listens by then
_BYTES: Final = MEGABYTES << 20
# nc ends with its own input: an open FIFO has no end
_SINK: Final = ["sh", "-c", f"mkfifo /f; exec 3<>/f; [ $(nc -l -p 5001 <&3 | wc -c) = {_BYTES} ]"]
_SOURCE: Final = f"until dd if=/dev/zero bs=1M count={MEGABYTES} 2>/dev/null | nc {{address}} 5001; do sleep 0.05; done"
_PUBLISHING: Final = "start (a network of its own, a published port)"
_ANSWER: Final = ["sh", "-c", "mkdir -p /w; echo hi >/w/index.html; exec httpd -f -p 80 -h /w"]


@contextmanager
def _network(engine: Engine) -> Iterator[str]:
    name = f"bench-{time.time_ns()}"
    engine.json("POST", "/networks/create", {"Name": name})
    try:
        yield name
    finally:
        engine.call("DELETE", f"/networks/{name}")


def _address(engine: Engine, container: str, network: str) -> str:
    return str(engine.json("GET", f"/containers/{container}/json")["NetworkSettings"]["Networks"][network]["IPAddress"])


def _connected(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return socket.create_connection((address, port), timeout=5)
        except OSError:
            if time.monotonic() > deadline:
                raise BenchError(f"nothing answers at {address}:{port}") from None
            time.sleep(0.02)


def _published(port: int, network: str) -> dict[str, Any]:
    return {
        "HostConfig": {"NetworkMode": network, "PortBindings": {f"{port}/tcp": [{"HostPort": ""}]}},
        "ExposedPorts": {f"{port}/tcp": {}},
    }


def _host_port(engine: Engine, container: str, port: int) -> int:
    return int(engine.json("GET", f"/containers/{container}/json")["NetworkSettings"]["Ports"][f"{port}/tcp"][0]["HostPort"])


def host_address() -> str:
    """Of this machine, but not its loopback: that is another way with some engines."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])


def traffic(engine: Engine, _roots: Roots) -> Sample:
    """One stream between two containers of a network, and one from the host to a published port; the receiver counts."""
    with _network(engine) as network:
        sink = engine.create(_SINK, network)
        engine.start(sink)
        source = engine.create(["sh", "-c", _SOURCE.format(address=_address(engine, sink, network))], network)
        time.sleep(SETTLE_S)
        since = time.perf_counter()
        engine.start(source)
        between = _received(engine, sink, since)
        engine.remove(source, force=True)

        sink = engine.create(_SINK, network, **_published(5001, network))
        engine.start(sink)
        port = _host_port(engine, sink, 5001)
        time.sleep(SETTLE_S)
        with socket.create_connection((host_address(), port), timeout=30) as sock:
            chunk = memoryview(bytes(1 << 20))
            since = time.perf_counter()
            for _ in range(MEGABYTES):
                sock.sendall(chunk)
        published = _received(engine, sink, since)
    return {"traffic: container to container MB/s": between, "traffic: published port MB/s": published}


def _received(engine: Engine, sink: str, since: float) -> float:
    """MB/s."""
    code, took = engine.wait(sink), time.perf_counter() - since
    engine.remove(sink, force=True)
    if code:
        raise BenchError(f"{engine.name}: not all bytes came")
    return _BYTES / 1e6 / took


def connections(engine: Engine, _roots: Roots) -> Sample:
    """Requests one after the other, a connection each, to a published port."""
    with _network(engine) as network:
        server = engine.create(_ANSWER, network, **_published(80, network))
        engine.start(server)
        try:
            address, port = host_address(), _host_port(engine, server, 80)
            _connected(address, port).close()
            since = time.perf_counter()
            for _ in range(CONNECTIONS):
                with _connected(address, port) as sock:
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    said = b""
                    while more := sock.recv(4096):
                        said += more
                    if not said.endswith(b"hi\n"):
                        raise BenchError(f"{engine.name}: the server said {said!r}")
            rate = CONNECTIONS / (time.perf_counter() - since)
        finally:
            engine.remove(server, force=True)
    return {"connections to a published port per-s": rate}


def ports(engine: Engine, _roots: Roots) -> Sample:
    """What a start costs that publishes a port, in a network with names."""
    return {f"{_PUBLISHING} ms": _published_starts(engine)}


def _published_starts(engine: Engine) -> list[float]:
    """ms."""
    times = []
    with _network(engine) as network:
        for _ in range(TIMES):
            container = engine.create(["sleep", "1d"], network, **_published(80, network))
            since = time.perf_counter()
            engine.start(container)
            times.append((time.perf_counter() - since) * 1000)
            engine.remove(container, force=True)
    return times


def many_ports(engine: Engine, _roots: Roots) -> Sample:
    """The same with no port published yet, and as the 1,000th. The ratio is to be 1.3 at most."""
    others = {f"{port}/tcp": [{"HostPort": str(20000 + port)}] for port in range(1, MANY_PORTS)}
    first = _published_starts(engine)
    with _network(engine) as network:
        crowd = engine.create(["sleep", "1d"], network, HostConfig={"NetworkMode": network, "PortBindings": others})
        try:
            engine.start(crowd)
            last = _published_starts(engine)
        finally:
            engine.remove(crowd, force=True)
    return {
        f"{_PUBLISHING}, the first ms": first,
        f"{_PUBLISHING}, the 1,000th ms": last,
        f"{_PUBLISHING}, the 1,000th, times the first": statistics.median(last) / statistics.median(first),
    }
