"""An HTTP proxy on loopback: CONNECT and absolute addresses, all of which it leads to one place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Forward:
    """``asked``: first lines that came to it. ``wants``: the Proxy-Authorization that it asks for."""

    target: str
    wants: str = ""
    asked: list[str] = field(default_factory=list)
    host: str = ""

    def serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            first = head.partition(b"\r\n")[0].decode()
            self.asked.append(first)
            if self.wants and f"proxy-authorization: {self.wants}".lower() not in head.decode().lower():
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            name, _colon, port = self.target.partition(":")
            with socket.create_connection((name, int(port))) as server:
                if first.startswith("CONNECT "):
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    method, address, version = first.split(" ")
                    path = "/" + address.split("/", 3)[3]
                    server.sendall(f"{method} {path} {version}\r\nConnection: close\r\n".encode() + head.partition(b"\r\n")[2])
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def running(target: str, wants: str = "") -> Iterator[Forward]:
    proxy = Forward(target, wants)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.host = f"127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _address = listener.accept()
                    threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
