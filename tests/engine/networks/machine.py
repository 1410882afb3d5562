"""A host of our own for network tests: a fresh network namespace with the engine's networks, a world outside, and containers.

Nothing of the real machine's network is touched. The test's thread *is* on that host while the fixture lives; threads and
processes it starts are too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.claims import Claims
from engine.config import EngineConfig
from engine.kernel import netlink, syscalls
from engine.model.network import EndpointSpec, NetworkSpec
from engine.model.tenant import TenantHost
from engine.networks import Endpoint, Networks
from engine.tenants import Tenants

T = TypeVar("T")
WORLD, UPLINK = "198.51.100.2", "198.51.100.1"
WORLD6, UPLINK6 = "2001:db8:ffff::2", "2001:db8:ffff::1"
PATIENCE_S = 20.0  # of a busy, emulated machine
SILENCE_S = 1.0  # a dropped packet is silence; who is kept from something gets no answer for as long


@dataclass
class Box:
    """A process in a network namespace of its own, which a user namespace owns, as a container's is."""

    pid: int
    id: str
    tenant: TenantHost
    wanted: list[EndpointSpec]
    endpoints: list[Endpoint]

    @property
    def endpoint(self) -> Endpoint:
        """The first."""
        return self.endpoints[0]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["nsenter", "-t", str(self.pid), "-n", *command], capture_output=True, text=True, check=False)

    def listen(self, port: int, address: str = "0.0.0.0") -> socket.socket:
        return inside(self.pid, lambda: listen(port, address))

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
        self.networks = Networks(self.config, self.tenants, claims)
        self._stack = stack
        self._count = 0
        stack.callback(self.networks.close)
        stack.callback(self.networks.remove_all)

    def network(self, tenant: str, name: str, **words: Any) -> str:
        """Its id."""
        self.tenants.ensure(tenant)
        number = hashlib.sha256(f"{tenant} {name}".encode()).hexdigest()
        return self.networks.create(NetworkSpec(id=number, tenant=tenant, name=name, **words)).id

    def box(self, tenant: str | TenantHost, *wanted: EndpointSpec | str) -> Box:
        """A running container of the tenant, attached to these networks (specs or ids), or to the default one."""
        owner = self.tenants.ensure(tenant) if isinstance(tenant, str) else tenant
        self._count += 1
        number, pid = f"{self._count:064x}", self._stack.enter_context(process())
        specs = [EndpointSpec(network_id=each) if isinstance(each, str) else each for each in wanted] or [EndpointSpec()]
        box = Box(pid, number, owner, specs, list(self.networks.reserve(owner, number, specs)))
        self.networks.attach(owner, box.endpoints, box.pid)
        return box


@contextmanager
def process(*, owned: bool = True) -> Iterator[int]:
    """The pid of something in a fresh network namespace; of a user namespace's (``owned``), or of the host's."""
    words = ["unshare", *(["--user", "--map-root-user"] if owned else []), "--net", "sh", "-c", "echo; exec sleep 3600"]
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


def ipv6_world(pid: int) -> None:
    """The same by IPv6, at WORLD6."""
    enter = f"nsenter -t {pid} -n"
    for command in (
        f"ip address add {UPLINK6}/64 dev uplink nodad",
        f"{enter} ip address add {WORLD6}/64 dev eth0 nodad",
        f"ip route add default via {WORLD6}",
    ):
        subprocess.run(command.split(), check=True)


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
    server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
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
        return error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
