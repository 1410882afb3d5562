"""What the clients of a fault run do with networks: containers found by name, reached by a port of the host, moved while they run."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.load import Made

REACHED_S = 30.0  # by a port, once everything that was asked for is promised
FIRST_PORT = 21000
WEB = "httpd -p 80 -h /etc; "  # in the background, before the script of one that runs for long


class NetActs:
    """Of a client (tests.faults.load.Client), which has the rest."""

    _number: int
    _chance: random.Random
    insist: Callable[..., tuple[int, bytes]]
    _one: Callable[..., Made | None]
    _make: Callable[..., Made]
    _start: Callable[[Made], None]
    finding: Callable[[str], Exception]
    _all: Callable[[], list[Made]]

    def network(self) -> str:
        """One of the client's two, made when it is not there."""
        name = f"n{self._number}-{self._chance.randrange(2)}"
        self.insist("network create", "POST", "/networks/create", {"Name": name}, fine=(201, 409))
        return name

    def web(self, script: str) -> None:
        port = FIRST_PORT + self._number * 500 + self._chance.randrange(500)
        taken = {made.body.get("HostConfig", {}).get("PortBindings", {}).get("80/tcp", [{}])[0].get("HostPort") for made in self._all()}
        if str(port) in taken:
            return
        host_config = {"NetworkMode": self.network(), "PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}
        self._start(self._make(["sh", "-c", WEB + script], 0, HostConfig=host_config))

    def reach_one(self) -> None:
        """Of what runs, by its port; which no kill of a part takes away for long."""
        made = self._one(running=True, published=True)
        if made is None:
            return
        port = int(made.body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"])
        deadline = time.monotonic() + REACHED_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                    sock.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
                    if made.id[:12].encode() in _all_of(sock) or not made.id:
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise self.finding(f"{made.name} runs, and is not reached by port {port}")
            time.sleep(0.2)

    def move_one(self) -> None:
        """Into another network and out of it again."""
        made = self._one(running=True)
        if made is None:
            return
        name = self.network()
        self.insist("connect", "POST", f"/networks/{name}/connect", {"Container": made.name}, fine=(200, 403, 409))
        _, said = self.insist("inspect", "GET", f"/containers/{made.name}/json", fine=(200, 404))
        networks = json.loads(said).get("NetworkSettings", {}).get("Networks", {})
        if made.body.get("HostConfig", {}).get("NetworkMode") != name and name not in networks:
            raise self.finding(f"{made.name} was connected to {name} and is in {sorted(networks)}")
        if made.body.get("HostConfig", {}).get("NetworkMode") != name:
            words = {"Container": made.name, "Force": True}
            status, said = self.insist("disconnect", "POST", f"/networks/{name}/disconnect", words, fine=(200, 403, 404, 409, 500))
            if status == 500 and b"is not connected to network" not in said:  # moby's, for one that an unanswered try has done
                raise self.finding(f"disconnect {made.name} from {name}: {said!r}")


def _all_of(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(4096):
        data += more
    return data


def is_published(body: dict[str, Any]) -> bool:
    return bool(body.get("HostConfig", {}).get("PortBindings"))
