"""The process between launcher and member when a container joins namespaces of another one (``--network container:…``).

    launcher ── clone3 ── helper: the target's /dev/shm when the ipc namespace is joined (a detached mount),
                            setns(2) into the target's user namespace and what else is joined,
                            clone3 (CLONE_PARENT) of the member with the namespaces that are its own
      helper → launcher   {"born": pid} + pidfd · or {"error": …}            and ends; the keeper reaps it
                          then as ever: engine.runtime.member

A namespace belongs to the user namespace that it was made in, and only who is root there may mount its proc, sysfs or mqueue: so who
joins one namespace lives in the target's user namespace, and all that is joined is one container's. Both have the same ids anyway.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from functools import partial
from typing import Any, NoReturn

from engine.errors import FailedPrecondition
from engine.kernel import cgroups, mounts, namespaces, processes, syscalls
from engine.kernel.syscalls import Clone, Resolve
from engine.runtime import last_steps, member
from engine.runtime.last_steps import Filters, Step
from engine.runtime.member import Wires
from engine.runtime.plan import Plan

SHM = "/dev/shm"


def run(plan: Plan, wires: Wires, filters: Filters, target: int) -> NoReturn:
    """Never returns, neither as the helper nor as the member. ``target``: the pidfd of the other container's first process."""
    last_steps.run(wires.control, partial(_bear, plan, wires, filters, target), _describe)


def _bear(plan: Plan, wires: Wires, filters: Filters, target: int, step: Step) -> None:
    step.name = "open /dev/shm of the container to join"
    wires = _with_shm(wires, target)
    step.name = "close descriptors"
    last_steps.close_all_but([*wires.all(), target])
    step.name = "join the namespaces"
    syscalls.setns(target, plan.joined)
    processes.hide()  # new credentials made it visible again, where fs.suid_dumpable says so
    os.close(target)
    step.name = "clone"
    # version 1: the member enters its cgroup by itself, and makes the namespace afterwards
    own = plan.namespaces if cgroups.version() == 2 else plan.namespaces & ~int(Clone.NEWCGROUP)
    pid, pidfd = namespaces.clone(own)
    if pid == 0:
        member.run(plan, wires, filters)
    with socket.socket(fileno=os.dup(wires.control)) as control:
        socket.send_fds(control, [json.dumps({"born": pid}).encode()], [pidfd])


def _with_shm(wires: Wires, target: int) -> Wires:
    """Where a bind has no descriptor yet it is the target's /dev/shm. Still as the host's root, which ``open_tree`` needs."""
    if -1 not in wires.binds:
        return wires
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(target, int(Clone.NEWNS))  # open_tree(2) copies only what lies in the caller's own mount namespace
        try:
            # what the target's root has put there is the target's in any case; a link of its proc could lead elsewhere
            place = syscalls.openat2(syscalls.AT_FDCWD, SHM, os.O_PATH | os.O_DIRECTORY, resolve=Resolve.NO_SYMLINKS)
            try:
                shm = mounts.bind_copy(place, recursive=False)
            finally:
                os.close(place)
        finally:
            syscalls.setns(home, int(Clone.NEWNS))
    finally:
        os.close(home)
    return dataclasses.replace(wires, binds=tuple(shm if fd == -1 else fd for fd in wires.binds))


def _describe(error: BaseException, step: Step) -> dict[str, Any]:
    if isinstance(error, ProcessLookupError):
        return FailedPrecondition("the container to join is not running").to_json()
    return last_steps.describe(error, step)
