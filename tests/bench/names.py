"""How fast a container's resolver answers: a netd of its own, 100 network namespaces, questions at an even pace from all of them in turn.

    python -m tests.bench.names [--containers 100] [--rate 5000] [--seconds 5]        root; touches nothing of the machine's network

Half of them are the container's own names and half others'. Prints one markdown table.
"""

from __future__ import annotations

import argparse
import os
import platform
import select
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from engine.kernel.netns import Opener
from engine.networks.names import Names
from tests.engine.networks import netd as netds
from tests.engine.networks.machine import own_host, process
from tests.engine.networks.netd import RESOLVER, identity, member, query

NETWORK = "f" * 64
LATE_S = 1.0  # an answer that took longer is none


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.names", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--rate", type=int, default=5000, help="questions a second, of all together")
    parser.add_argument("--seconds", type=int, default=5)
    words = parser.parse_args()
    with own_host(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        netd = netds.Process(Path(folder))
        netd.start()
        stack.callback(netd.kill)
        since = time.perf_counter()
        socks = [_container(netd, stack, number) for number in range(1, words.containers + 1)]
        made_s = time.perf_counter() - since
        _measure(socks, words.rate, 1)
        before = netd.cpu_s()
        times, lost = _measure(socks, words.rate, words.seconds)
        busy_s = netd.cpu_s() - before
    print(f"kernel {platform.release()}, {os.cpu_count()} cpus, python {platform.python_version()}\n")
    print("| containers | questions/s | p50, ms | p95, ms | p99, ms | lost | netd's CPU | made in, s |\n|---|---|---|---|---|---|---|---|")
    cuts = [1000 * cut for cut in statistics.quantiles(times, n=100)]
    shown = f"{cuts[49]:.3f} | {cuts[94]:.3f} | {cuts[98]:.3f}"
    print(f"| {words.containers} | {words.rate} | {shown} | {lost} | {busy_s / words.seconds:.0%} | {made_s:.1f} |")
    return 0


def _container(netd: netds.Process, stack: ExitStack, number: int) -> socket.socket:
    """A socket in its namespace, connected to its resolver."""
    pid = stack.enter_context(process())
    netds.up(pid)
    netd.client.enter(NETWORK, "front", member(number, f"web-{number}", address=f"172.20.{number >> 8}.{number & 255}"))
    netd.serve(pid, identity(number), Names((NETWORK,)))
    opener = Opener()
    with open(f"/proc/{pid}/ns/net") as netns:
        sock = opener.make(netns.fileno(), _socket)
    opener.close()
    return stack.enter_context(sock)


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.connect(RESOLVER)
    return sock


def _measure(socks: list[socket.socket], rate: int, seconds: int) -> tuple[list[float], int]:
    """(seconds of each answer, how many did not come)."""
    epoll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    questions = [query(f"web-{number % len(socks) + 1}") for number in range(2 * len(socks))]
    sent: dict[tuple[int, int], float] = {}
    times: list[float] = []
    count, total = 0, rate * seconds
    began = time.perf_counter()
    while count < total or (sent and time.perf_counter() - began < seconds + LATE_S):
        due = began + count / rate
        wait_s = due - time.perf_counter() if count < total else 0.01
        if wait_s <= 0:
            sock, number = socks[count % len(socks)], count & 0xFFFF
            own = questions[count % len(socks)] if count & 1 else questions[(count * 7 + 3) % len(questions)]
            sent[sock.fileno(), number] = time.perf_counter()
            sock.send(number.to_bytes(2, "big") + own[2:])
            count += 1
            wait_s = 0
        for fd, _events in epoll.poll(wait_s):
            data = by_fd[fd].recv(512)
            since = sent.pop((fd, int.from_bytes(data[:2], "big")), None)
            if since is not None:
                times.append(time.perf_counter() - since)
    epoll.close()
    return times, len(sent)


if __name__ == "__main__":
    sys.exit(main())
