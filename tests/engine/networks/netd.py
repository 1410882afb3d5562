"""A netd of the test's own: the real process, on the test's host, with its own folders and its own resolv.conf."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import Unavailable
from engine.networks.names import Member, Names
from engine.networks.netd_client import NetdClient
from tests.engine.networks.machine import PATIENCE_S, inside, process

A, PTR, MX, AAAA = 1, 12, 15, 28
Answering = Callable[[bytes, bool], bytes | list[bytes] | None]
RESOLVER = ("127.0.0.11", 53)
NETWORK, OTHER = "f" * 64, "e" * 64
SERVFAIL, NXDOMAIN, FORMERR, NOTIMP, REFUSED = 2, 3, 1, 4, 5


@dataclass
class Reply:
    id: int
    flags: int
    rcode: int
    answers: list[tuple[int, bytes]]  # type, data
    raw: bytes

    @property
    def addresses(self) -> list[str]:
        return [socket.inet_ntoa(data) for kind, data in self.answers if kind == A]

    @property
    def truncated(self) -> bool:
        return bool(self.flags & 0x0200)


class Process:
    """``python -m engine.networks.netd``; ``resolv_conf`` is what it sees at /etc/resolv.conf, and may be written anew."""

    def __init__(self, folder: Path) -> None:
        self.config = EngineConfig(folder / "data", folder / "run")
        for made in (self.config.data / "engine", self.config.run):
            made.mkdir(parents=True, exist_ok=True)
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text("")
        self.client = NetdClient(self.config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, descriptors: int = 0) -> None:
        limit = f"ulimit -n {descriptors}; " if descriptors else ""
        seen = f"{limit}mount --bind {self.resolv_conf} /etc/resolv.conf; exec {sys.executable} -S -m engine.networks.netd"
        environment = {
            "SLIPWAY_DATA": str(self.config.data),
            "SLIPWAY_RUN": str(self.config.run),
            "PYTHONPATH": os.getcwd(),
            "PATH": os.environ["PATH"],
        }
        self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", seen], env=environment)
        eventually(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "netd ended"
        try:
            self.client.status()
        except Unavailable:
            return False
        return True

    def kill(self) -> None:
        self.client.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def descriptors(self) -> int:
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_s(self) -> float:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def serve(self, pid: int, container_id: str, names: Names) -> None:
        with open(f"/proc/{pid}/ns/net") as netns:
            self.client.serve(container_id, netns.fileno(), names)


def member(number: int, name: str, *aliases: str, address: str = "", ipv6_address: str = "") -> Member:
    return Member(identity(number), name, aliases, address or f"172.20.0.{number}", ipv6_address)


def identity(number: int) -> str:
    return f"{number:x}".rjust(12, "c") + "0" * 52


def query(name: str, kind: int = A, *, number: int = 7, flags: int = 0x0100, edns: int = 0) -> bytes:
    labels = b"".join(bytes((len(label),)) + label for label in name.encode().split(b"."))
    data = struct.pack("!6H", number, flags, 1, 0, 0, bool(edns)) + labels + b"\0" + struct.pack("!HH", kind, 1)
    return data + (b"\0" + struct.pack("!HHIH", 41, edns, 0, 0) if edns else b"")


def parse(data: bytes) -> Reply:
    number, flags, questions, count, _, _ = struct.unpack_from("!6H", data)
    at = 12
    for _ in range(questions):
        at = _skip(data, at) + 4
    answers = []
    for _ in range(count):
        at = _skip(data, at)
        kind, _, _, length = struct.unpack_from("!HHIH", data, at)
        answers.append((kind, data[at + 10 : at + 10 + length]))
        at += 10 + length
    return Reply(number, flags, flags & 15, answers, data)


def named(data: bytes) -> str:
    """A name without pointers."""
    at, labels = 0, []
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels)


def _skip(data: bytes, at: int) -> int:
    while size := data[at]:
        if size >= 0xC0:
            return at + 2
        at += 1 + size
    return at + 1


def ask(pid: int, name: str, kind: int = A, *, edns: int = 0, tcp: bool = False, timeout_s: float = 10.0) -> Reply:
    """By the resolver of the namespace of ``pid``."""
    return parse(exchange(pid, query(name, kind, edns=edns), tcp=tcp, timeout_s=timeout_s))


def exchange(pid: int, data: bytes, *, tcp: bool = False, timeout_s: float = 10.0) -> bytes:
    def act() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(RESOLVER)
            if not tcp:
                sock.send(data)
                return sock.recv(65535)
            sock.sendall(len(data).to_bytes(2, "big") + data)
            return read_message(sock)

    return inside(pid, act)


def read_message(sock: socket.socket) -> bytes:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        chunk = sock.recv(65535)
        if not chunk:
            raise ConnectionResetError("the other side closed")
        data += chunk
    return data[2:]


class NameServer:
    """A tiny real one, for forwarding, in the namespace it is made in.

    ``reply(query bytes, tcp)`` → what it sends, None for silence, a list for several datagrams.
    """

    def __init__(self, address: str, reply: Answering) -> None:
        self._reply = reply
        self.heard: list[tuple[bytes, str, bool]] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.create_server((address, 53), family=family)
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _serve_udp(self) -> None:
        with suppress(OSError):
            while True:
                data, peer = self._udp.recvfrom(65535)
                if not data:
                    return
                self.heard.append((data, peer[0], False))
                reply = self._reply(data, False)
                for datagram in [reply] if isinstance(reply, bytes) else reply or ():
                    self._udp.sendto(datagram, peer)

    def _serve_tcp(self) -> None:
        with suppress(OSError):
            while True:
                sock, peer = self._tcp.accept()
                with sock, suppress(ConnectionResetError):
                    data = read_message(sock)
                    self.heard.append((data, peer[0], True))
                    reply = self._reply(data, True)
                    if isinstance(reply, bytes):
                        sock.sendall(len(reply).to_bytes(2, "big") + reply)


def answer(data: bytes, *addresses: str, rcode: int = 0, flags: int = 0) -> bytes:
    """What a name server says to a query without EDNS."""
    end = _skip(data, 12) + 4
    header = data[:2] + struct.pack("!5H", 0x8180 | flags | rcode, 1, len(addresses), 0, 0)
    return header + data[12:end] + b"".join(struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address) for address in addresses)


@contextmanager
def name_server(address: str, reply: Answering) -> Iterator[NameServer]:
    server = NameServer(address, reply)
    try:
        yield server
    finally:
        server.close()


def eventually(true: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def up(pid: int) -> None:
    """The loopback of the namespace, as an attached container has it."""
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "link", "set", "lo", "up"], check=True)


def served(netd: Process, boxes: ExitStack, number: int, name: str, *aliases: str, network: str = NETWORK, **words: object) -> int:
    pid = boxes.enter_context(process())
    up(pid)
    netd.client.enter(network, "front", member(number, name, *aliases))
    netd.serve(pid, identity(number), Names((network,), **words))  # type: ignore[arg-type]
    return pid
