"""Links that live long: bridges, made and removed through pyroute2, once for a tenant and never for a container.

The library is imported when first needed (249 ms, 20 MiB [m]): a process that finds its bridges in place never pays. What
each container needs is in netlink.py, packed by hand for that reason. Raises OSError with the kernel's errno.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def add_bridge(name: str, *, mac: str, mtu: int) -> int:
    """A bridge that is down; its link number. A fixed ``mac``: else it changes with each port, and neighbours' caches go stale."""
    with _route(f"create bridge {name}") as route:
        route.link("add", ifname=name, kind="bridge", address=mac, mtu=mtu)
        return int(route.link_lookup(ifname=name)[0])


def delete(name: str) -> None:
    """17 to 26 ms for a veth: never on the path of a container, whose namespace takes its links with it. ENODEV: no such link."""
    with _route(f"delete link {name}") as route:
        found = route.link_lookup(ifname=name)
        if not found:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
        route.link("del", index=found[0])


@contextmanager
def _route(doing: str) -> Iterator[Any]:
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as route:
        try:
            yield route
        except NetlinkError as error:
            raise OSError(error.code, f"{doing}: {os.strerror(error.code)}") from error
