"""What netd is asked over its socket, and how it comes back after a kill."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.kernel.netns import Opener
from engine.networks.facts import Facts, port_from_json, port_to_json
from engine.networks.names import Member, Names
from engine.networks.netd.directory import Directory
from engine.networks.netd.forwarding import HostServers, Patience
from engine.networks.netd.ports import Ports
from engine.networks.netd.resolver import Common, Resolver
from engine.runtime import protocol
from engine.runtime.loop import Connection, Loop, Server, close_all, say

RETRY_S: Final = 1.0  # what could not be had again after a kill
PLACE_LOOK_S: Final = 2.0
KEEPER_S: Final = 5.0  # it answers at once; nobody's names wait longer for it


class Netd:
    def __init__(self, config: EngineConfig, listener: socket.socket) -> None:
        """``listener``: listens before the files are read here, so that nothing is written in between and not heard of."""
        self._config = config
        self._loop = Loop()
        self._facts = Facts(config.engine / "networks")
        self._directory = Directory()
        self._common = Common(self._loop, Opener(), self._directory, HostServers(), Patience(self._loop))
        self._resolvers: dict[str, Resolver] = {}
        self._ports = Ports(self._loop, self._facts)
        self._ops: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "update": self._update,
            "enter": self._enter,
            "leave": self._leave,
            "forget": self._forget,
            "hold": self._hold,
            "target": self._target,
            "release": self._release,
            "status": self._status,
        }
        self._place = protocol.Place(Path(listener.getsockname()), listener)
        self._loop.after(PLACE_LOOK_S, self._look_at_place)
        self._come_back()
        self._server = Server(self._loop, listener, handle=self._handle, on_close=lambda _connection: None)

    def run(self) -> None:
        self._loop.run()

    def _look_at_place(self) -> None:
        if self._place.is_lost():
            say("another netd has taken this one's place: it ends")
            sys.stderr.flush()
            os._exit(0)
        self._loop.after(PLACE_LOOK_S, self._look_at_place)

    # -- after a kill ----------------------------------------------------------------------------

    def _come_back(self) -> None:
        for network, name, member in self._facts.members():
            self._directory.enter(network, name, member)
        for container_id, ports in self._facts.held().items():
            self._ports.restore(container_id, ports, self._facts.target_of(container_id))
        self._serve_running()
        self._loop.after(RETRY_S, self._hold_missing)

    def _serve_running(self) -> None:
        """By the keeper's pidfd of each: never the namespace of another process that got the number."""
        served = self._facts.served()
        if not served:
            return
        try:
            with protocol.connect(self._config.keeper_socket, timeout_s=KEEPER_S) as keeper:
                for container_id, names in served.items():
                    if container_id not in self._resolvers:  # else somebody has asked meanwhile
                        self._serve_one(keeper, container_id, names)
        except errors.Unavailable:
            self._loop.after(RETRY_S, self._serve_running)

    def _serve_one(self, keeper: socket.socket, container_id: str, names: Names) -> None:
        """Unavailable: the keeper went away. One that does not run has none; whoever clears up takes its file away."""
        try:
            _have, pidfds = protocol.ask(keeper, "fds", id=container_id, want=["pidfd"])
            for pidfd in pidfds:
                self._resolve(container_id, pidfd, names)
        except errors.NotFound:
            pass
        except OSError as error:
            say(f"no resolver for {container_id[:12]}: {error}")

    def _hold_missing(self) -> None:
        if self._ports.hold_missing():
            self._loop.after(RETRY_S, self._hold_missing)

    # -- what it is asked ------------------------------------------------------------------------

    def _handle(self, _connection: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        op = message.get("op")
        if op == "serve" and len(fds) == 1:
            return self._serve(message, fds[0])
        close_all(fds)
        answer = self._ops.get(str(op))
        if answer is None:
            raise errors.Unsupported(f"netd does not know {op!r}")
        return answer(message)

    def _serve(self, message: dict[str, Any], netns: int) -> dict[str, Any]:
        try:
            container_id, names = str(message["id"]), Names.from_json(message["names"])
        except BaseException:
            os.close(netns)
            raise
        try:
            self._resolve(container_id, netns, names)
        except OSError as error:
            raise errors.Internal(f"no resolver for container {container_id[:12]}: {error}") from error
        return {}

    def _resolve(self, container_id: str, netns: int, names: Names) -> None:
        """``netns`` becomes the resolver's. In the namespace where it is already its sockets stay, and what is asked by them."""
        present = self._resolvers.get(container_id)
        if present is not None and present.is_in(netns):
            os.close(netns)
            present.update(names)
            return
        self._close_resolver(container_id)
        self._resolvers[container_id] = Resolver(self._common, netns, names)

    def _close_resolver(self, container_id: str) -> None:
        resolver = self._resolvers.pop(container_id, None)
        if resolver is not None:
            resolver.close()

    def _update(self, message: dict[str, Any]) -> dict[str, Any]:
        resolver = self._resolvers.get(str(message["id"]))
        if resolver is not None:
            resolver.update(Names.from_json(message["names"]))
        return {}

    def _enter(self, message: dict[str, Any]) -> dict[str, Any]:
        self._directory.enter(str(message["network"]), str(message["name"]), Member.from_json(message["member"]))
        return {}

    def _leave(self, message: dict[str, Any]) -> dict[str, Any]:
        self._directory.leave(str(message["network"]), str(message["id"]))
        return {}

    def _forget(self, message: dict[str, Any]) -> dict[str, Any]:
        self._close_resolver(str(message["id"]))
        return self._release(message)

    def _hold(self, message: dict[str, Any]) -> dict[str, Any]:
        wanted = [port_from_json(port) for port in message["ports"]]
        held = self._ports.hold(str(message["id"]), wanted, str(message["target"]), str(message.get("tenant", "")))
        return {"ports": [port_to_json(port) for port in held]}

    def _target(self, message: dict[str, Any]) -> dict[str, Any]:
        self._ports.target(str(message["id"]), str(message["address"]))
        return {}

    def _release(self, message: dict[str, Any]) -> dict[str, Any]:
        self._ports.release(str(message["id"]))
        return {}

    def _status(self, _message: dict[str, Any]) -> dict[str, Any]:
        return {
            "containers": len(self._resolvers),
            "members": sum(len(network.members) for network in self._directory.networks.values()),
            "ports": self._ports.count,
            "flows": self._ports.flows,
            "waiting": sum(resolver.waiting for resolver in self._resolvers.values()),
        }
