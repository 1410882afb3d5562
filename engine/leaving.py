"""How an engine leaves the machine: for a while (``down --containers``), or for good (``uninstall``). After its keeper."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine.kernel import cgroups

if TYPE_CHECKING:
    from engine.engine import Engine


def leave_kernel(engine: Engine) -> None:
    """Once nothing runs: bridges, rules and cgroups go, and come back when the next container starts.

    What a killed keeper left behind is not ended: then all of it stays.
    """
    root = engine.root_cgroup
    for tenant in cgroups.names(root):
        engine.end_file_work(tenant)
    if cgroups.exists(root) and cgroups.pids(root):
        return
    with suppress(OSError):  # a disk that is full keeps nobody here
        engine.traffic.count()
    engine.networks.remove_all()
    cgroups.remove(root)


def remove_all(engine: Engine) -> None:
    """Containers, and what lies outside of the folders: cgroups, networks, id ranges."""
    root = engine.root_cgroup
    if cgroups.exists(root):
        cgroups.kill_all(root)  # whom a killed keeper left behind
    for spec, _state in engine.list():
        engine.remove(spec.tenant, spec.id, force=True)
    engine.networks.remove_all()
    cgroups.remove(root)
    engine.tenants.release()
