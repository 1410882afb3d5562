"""What the host beside this panel can do, as any user of it may read: for answers that can be given without asking it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_CPUSET_FILES: Final = ("cpuset.{}.effective", "cpuset/cpuset.{}", "cpuset,cpu/cpuset.{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``cpuset_cpus`` and ``cpuset_mems`` are the kernel's lists: ``0-3,7``."""

    name: str = "localhost"
    cpus: int = 1
    cpuset_cpus: str = "0"
    cpuset_mems: str = "0"
    cgroup_version: int = 1
    blkio_weight: bool = False  # on version 1: is there a scheduler that knows weights; on version 2 moby always says so


@cache
def here() -> Machine:
    """Read once: cpus that come and go while the panel runs are noticed at its next start."""
    cpus = os.cpu_count() or 1
    version = 2 if (_CGROUPS / "cgroup.controllers").exists() else 1
    return Machine(
        name=os.uname().nodename,
        cpus=cpus,
        cpuset_cpus=_cpuset("cpus") or f"0-{cpus - 1}",
        cpuset_mems=_cpuset("mems") or "0",
        cgroup_version=version,
        blkio_weight=version == 2 or (_CGROUPS / "blkio/blkio.weight").exists() or (_CGROUPS / "blkio/blkio.bfq.weight").exists(),
    )


def _cpuset(kind: str) -> str:
    for name in _CPUSET_FILES:
        try:
            return (_CGROUPS / name.format(kind)).read_text().strip()
        except OSError:
            continue
    return ""
