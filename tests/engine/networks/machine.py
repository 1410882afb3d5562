"""A host of our own for network tests: a fresh network namespace with the engine's networks, a world outside, and containers.

Nothing of the real machine's network is touched. The test's thread *is* on that host while the fixture lives; threads and
processes it starts are too.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engine.claims import Claims
from engine.config import EngineConfig
from engine.kernel import netlink, syscalls
from engine.model.tenant import TenantHost
from engine.networks import Endpoint, Networks
from engine.tenants import Tenants

T = TypeVar("T")
WORLD, UPLINK = "198.51.100.2", "198.51.100.1"
PATIENCE_S = 20.0  # of a busy, emulated machine
SILENCE_S = 1.0  # a dropped packet is silence; who is kept from something gets no answer for as long


@dataclass
class Box:
    """A process in a network namespace of its own, which a user namespace owns, as a container's is."""

    pid: int
    id: str
    endpoint: Endpoint

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["nsenter", "-t", str(self.pid), "-n", *command], capture_output=True, text=True, check=False)

    def listen(self, port: int) -> socket.socket:
        return inside(self.pid, lambda: listen(port))

    def reaches(self, address: str, port: int) -> bool:
        return inside(self.pid, lambda: reaches(address, port))

    def is_kept_from(self, address: str, port: int) -> bool:
        return inside(self.pid, lambda: is_kept_from(address, port))


class Instance:
    """One engine's networks on the host."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        claims = Claims(folder.parent / "claims.json", etc=folder.parent)
        self.config = EngineConfig(folder / "data", folder / "run")
        self.config.data.mkdir(parents=True)
        self.tenants = Tenants(self.config, claims)
        self.id = self.tenants.instance()
        self.networks = Networks(self.config, self.id, claims)
        self._stack = stack
        self._count = 0
        stack.callback(self.networks.close)
        stack.callback(self.networks.remove_all)

    def box(self, tenant: str | TenantHost) -> Box:
        """A running container of the tenant, attached."""
        owner = self.tenants.ensure(tenant) if isinstance(tenant, str) else tenant
        self._count += 1
        box = Box(self._stack.enter_context(process()), f"{self._count:064x}", self.networks.reserve(owner, f"{self._count:064x}"))
        self.networks.attach(owner, box.endpoint, box.pid)
        return box


@contextmanager
def process(*, owned: bool = True) -> Iterator[int]:
    """The pid of something in a fresh network namespace; of a user namespace's (``owned``), or of the host's."""
    words = ["unshare", *(["--user", "--map-root-user"] if owned else []), "--net", "sh", "-c", "echo; exec sleep 600"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        child.stdout.readline()
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@contextmanager
def own_host() -> Iterator[None]:
    """The calling thread is in a fresh network namespace, with loopback up."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.Clone.NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        syscalls.setns(home, syscalls.Clone.NEWNET)
        os.close(home)


@contextmanager
def world() -> Iterator[int]:
    """What lies beyond the host's default route, at WORLD; the pid of a process there. It knows no way back to private addresses."""
    with process(owned=False) as pid:
        commands = f"""
            ip link add uplink type veth peer name eth0 netns {pid}
            ip address add {UPLINK}/24 dev uplink
            ip link set uplink up
            nsenter -t {pid} -n ip address add {WORLD}/24 dev eth0
            nsenter -t {pid} -n ip link set eth0 up
            nsenter -t {pid} -n ip link set lo up
            ip route add default via {WORLD}
        """
        for command in filter(None, map(str.strip, commands.splitlines())):
            subprocess.run(command.split(), check=True)
        with netlink.Socket() as sock:
            sock.settle("uplink")
        yield pid


def inside(pid: int, act: Callable[[], T]) -> T:
    """Do it in the network namespace of a process, in a thread that ends afterwards. Sockets made there stay there."""
    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as netns:
                syscalls.setns(netns.fileno(), syscalls.Clone.NEWNET)
            results.append(act())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def listen(port: int, address: str = "0.0.0.0") -> socket.socket:
    """The kernel completes connections to it; nobody need accept."""
    server = socket.create_server((address, port))
    server.settimeout(5)
    return server


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=PATIENCE_S).close()
        return True
    except (TimeoutError, ConnectionRefusedError):
        return False


def is_kept_from(address: str, port: int) -> bool:
    """Silence, or nobody who answers the question for the MAC address. A refusal would be an answer: the packet came through."""
    try:
        socket.create_connection((address, port), timeout=SILENCE_S).close()
        return False
    except TimeoutError:
        return True
    except OSError as error:
        return error.errno == errno.EHOSTUNREACH
