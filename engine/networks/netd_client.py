"""Asking netd from any root process: engine, host worker, agent. The protocol is drawn in engine.networks.netd.

What netd must know to come back is in files before it is asked (engine.networks.facts). So a netd that is away loses nothing, and
for names its absence is no error: it reads the files when it comes. Only ``hold`` needs its answer.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from engine.config import EngineConfig
from engine.errors import EngineError, Unavailable
from engine.model.network import PortBinding, check_port
from engine.networks.facts import Facts, port_from_json, port_to_json
from engine.networks.names import Member, Names
from engine.runtime import protocol

ANSWER_TIMEOUT_S: Final = 5.0
IDLE_CONNECTIONS: Final = 8  # kept; more than that at once is rare
YOUNG_S: Final = 60.0  # older than any list of the living that a caller of clear may hold


class NetdClient:
    """For any number of threads, and safe to have when a process forks."""

    def __init__(self, config: EngineConfig) -> None:
        self._path = config.netd_socket
        self._facts = Facts(config.engine / "networks")
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        self._owner = os.getpid()

    # -- names -----------------------------------------------------------------------------------

    def serve(self, container_id: str, netns: int, names: Names) -> None:
        """A resolver at 127.0.0.11 in the network namespace of the fd; there when this returns, unless netd is away.

        Again for the same container: instead of what it had. Its sockets keep the namespace, and the veth in it, until ``forget``.
        """
        self._facts.serve(container_id, names)
        self._tell("serve", (netns,), id=container_id, names=names.to_json())

    def update(self, container_id: str, names: Names) -> None:
        """After it joined or left a network while it runs. Of one that is not served: nothing."""
        if self._facts.is_served(container_id):
            self._facts.serve(container_id, names)
            self._tell("update", id=container_id, names=names.to_json())

    def enter(self, network: str, network_name: str, member: Member) -> None:
        """It is found in the network from now on. Again for the same container: by these names alone."""
        self._facts.enter(network, network_name, member)
        self._tell("enter", network=network, name=network_name, member=member.to_json())

    def leave(self, network: str, container_id: str) -> None:
        self._facts.leave(network, container_id)
        self._tell("leave", network=network, id=container_id)

    def knows(self, container_id: str) -> bool:
        """Whether there is anything to forget."""
        return self._facts.is_served(container_id) or self._facts.has_ports(container_id)

    def forget(self, container_id: str) -> None:
        """Its resolver goes, and its ports. In networks it stays until it leaves them."""
        self._facts.forget(container_id)
        self._tell("forget", id=container_id)

    # -- ports -----------------------------------------------------------------------------------

    def hold(self, container_id: str, ports: Sequence[PortBinding], target: str = "", tenant: str = "") -> list[PortBinding]:
        """Exactly these ports of the host are the container's, all or none; one each is returned, with the port that it got.

        Again for the same container: what is asked for again stays bound (a free port stays the one it is), what is not goes.
        ``target``: as in ``target``; "" leaves it as it is. FailedPrecondition in moby's words when another has one of them, in ours when
        ``tenant`` has PORTS_MAX, or the host as many as netd has descriptors for;
        Unsupported for a protocol that the kernel lacks; Unavailable without netd.
        """
        for port in ports:
            check_port(port)
        if target:
            self._facts.target(container_id, target)
        words = self._ask("hold", id=container_id, ports=[port_to_json(port) for port in ports], target=target, tenant=tenant)
        return [port_from_json(port) for port in words["ports"]]

    def target(self, container_id: str, address: str) -> None:
        """The container's address, of IPv4 where it has one, to which its IPv6 ports are relayed; "" = nowhere."""
        self._facts.target(container_id, address)
        self._tell("target", id=container_id, address=address)

    def release(self, container_id: str) -> None:
        """Its ports are anybody's again."""
        self._facts.release(container_id)
        self._tell("release", id=container_id)

    # -- all of them -----------------------------------------------------------------------------

    def clear(self, live: Collection[str], *, older_than_s: float = YOUNG_S) -> list[str]:
        """What containers that are not ``live`` left is gone afterwards (returned: their ids)."""
        containers, memberships = self._facts.clear(live, older_than_s=older_than_s)
        for container_id in containers:
            self._tell("forget", id=container_id)
        for network, container_id in memberships:
            self._tell("leave", network=network, id=container_id)
        return sorted({*containers, *(container_id for _, container_id in memberships)})

    def status(self) -> dict[str, Any]:
        """How much it serves: {"containers", "members", "ports", "waiting"}. Raises Unavailable."""
        return dict(self._ask("status"))

    def close(self) -> None:
        """Not needed before a process ends."""
        with self._lock:
            for sock in self._idle:
                sock.close()
            self._idle.clear()

    # -- inside ----------------------------------------------------------------------------------

    def _tell(self, op: str, fds: tuple[int, ...] = (), **words: Any) -> None:
        with suppress(Unavailable):
            self._ask(op, fds, **words)

    def _ask(self, op: str, fds: tuple[int, ...] = (), **words: Any) -> Any:
        """On a kept connection. One that an earlier netd has closed is no answer of the present one, so it is asked again."""
        while (sock := self._kept()) is not None:
            try:
                return self._ask_on(sock, op, fds, **words)
            except _Stale:
                continue
        sock = protocol.connect(self._path, timeout_s=ANSWER_TIMEOUT_S)
        try:
            return self._ask_on(sock, op, fds, **words)
        except _Stale as error:
            raise Unavailable(str(error)) from error

    def _ask_on(self, sock: socket.socket, op: str, fds: tuple[int, ...], **words: Any) -> Any:
        try:
            answer, _fds = protocol.ask(sock, op, fds, **words)
        except Unavailable as error:
            sock.close()
            if isinstance(error.__cause__, TimeoutError):
                raise
            raise _Stale(error.message) from error
        except EngineError:
            self._keep(sock)
            raise
        except BaseException:
            sock.close()
            raise
        self._keep(sock)
        return answer

    def _kept(self) -> socket.socket | None:
        with self._lock:
            if self._owner != os.getpid():  # a child of fork(2): the connections are its parent's
                self._idle, self._owner = [], os.getpid()
            return self._idle.pop() if self._idle else None

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(sock)
                return
        sock.close()


class _Stale(Exception):
    """The connection ended without an answer."""
