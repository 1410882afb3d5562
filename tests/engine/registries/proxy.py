"""A TCP proxy of our own between a client and a registry: cuts each connection after so many bytes of answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Proxy:
    """``cuts`` left; a connection is cut when ``after`` bytes have come back over it."""

    target: str
    after: int
    cuts: int = 1
    host: str = ""
    passed: int = 0  # bytes of answers, all in all

    def serve(self, client: socket.socket) -> None:
        name, _colon, port = self.target.partition(":")
        with client, socket.create_connection((name, int(port))) as server, contextlib.suppress(OSError):
            up = threading.Thread(target=self._up, args=(client, server), daemon=True)
            up.start()
            seen = 0
            while data := server.recv(65536):
                if self.cuts and seen + len(data) > self.after:
                    self.cuts -= 1
                    client.sendall(data[: self.after - seen])
                    self.passed += self.after - seen
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                seen += len(data)
                self.passed += len(data)
                client.sendall(data)

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def running(target: str, after: int, cuts: int = 1) -> Iterator[Proxy]:
    proxy = Proxy(target, after, cuts)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.host = f"127.0.0.1:{server.getsockname()[1]}"

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _address = server.accept()
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
