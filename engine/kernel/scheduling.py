"""When processors are short: who runs first.

What the platform does for one tenant shall not wait for what another's containers compute. A process that wakes runs at once only when the
scheduler (EEVDF, Linux 6.6) finds that it is due and more urgent than who runs; else at the next tick, 4 ms later, which is several times
what a request takes [m]. So the platform's parts weigh more than the containers together, and take shorter turns. Both are hints: where the
kernel knows them not, nothing changes.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import Final

from engine.kernel import syscalls

_NICE: Final = -8  # 6 times the weight (each step is a quarter); a part that never rests leaves containers a seventh of its processor
_SLICE_NS: Final = 300_000  # default: 2.8 ms on two processors, more on more
# struct sched_attr, sched_setattr(2): size, policy, flags, nice, priority, runtime, deadline, period
_ATTR: Final = struct.Struct("=IIQiIQQQ")


def prefer_session() -> None:
    """For the processes of this session, sched(7) autogroup; and short slices for this thread, its threads and children (Linux 6.12).

    Needs root. A child in a cgroup of the cpu controller, as containers are, or in a session of its own has the weight no more.
    """
    with suppress(OSError), open("/proc/self/autogroup", "w") as file:
        file.write(str(_NICE))
    _set_slice(_SLICE_NS)


def as_others() -> None:
    """In what is a tenant's from here on: slices as long as everybody's."""
    _set_slice(0)


def _set_slice(slice_ns: int) -> None:
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        syscalls.sched_setattr(_ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0))
