"""More than the quota: the same probe in a tenant with limits and, as the control, in one without."""

from __future__ import annotations

import re
import time

from engine.log_use import log_bytes
from tests.attack.attempt import Impossible, Who, attempt
from tests.attack.ground import IMAGE, Ground, Tenant, got
from tests.attack.image import COMMAND
from tests.support import machine

QUOTA = ("--pids", "150", "--memory", "192m", "--cpus", "0.2", "--networks", "2")
GREEDY, FREE = "greedy", "free"


def tenant(ground: Ground, walled: bool) -> Tenant:
    if not walled:
        return ground.tenant(FREE)
    ground.grant(GREEDY, layer_size="24m", log_size="4m")
    return ground.tenant(GREEDY, *QUOTA, policy=("--deny", "ports", "--allow", "ports=40000-40001"))


def run(ground: Ground, walled: bool, *words: object, options: tuple[str, ...] = ()) -> str:
    """What the probe got in a container of its own; killed or refused, it got nothing."""
    done = tenant(ground, walled).docker("run", "--rm", *options, IMAGE, *COMMAND, *map(str, words), check=False)
    return "" if done.returncode in (1, 125, 137) and "got:" not in done.stdout else got(done.stdout, done.stderr)


@attempt("c", Who.CONTAINER, "pids.max of the tenant")
def fork_bomb(ground: Ground, walled: bool) -> str:
    """400 processes where 150 are allowed"""
    return run(ground, walled, "forks", 400)


@attempt("c", Who.CONTAINER, "pids.max of the tenant, not of a container")
def fork_bomb_of_several(ground: Ground, walled: bool) -> str:
    """the same in four containers and their execs at once"""
    who = tenant(ground, walled)
    boxes = [who.say("run", "-d", IMAGE, "sh", "-c", "for i in $(seq 60); do sleep 600 & done; exec sleep 600") for _ in range(4)]
    time.sleep(2)
    count = sum(len(who.docker("top", box, "-eo", "pid", check=False).stdout.split()) - 1 for box in boxes)
    who.docker("rm", "-f", *boxes)
    return f"{count} processes" if count > 200 else ""


@attempt("c", Who.CONTAINER, "memory.max of the tenant")
def memory(ground: Ground, walled: bool) -> str:
    """320 MiB where 192 are allowed"""
    return run(ground, walled, "memory", 320)


@attempt("c", Who.CONTAINER, "memory.max of the tenant")
def memory_in_a_tmpfs(ground: Ground, walled: bool) -> str:
    """the same in files of a tmpfs, which no process has"""
    return run(ground, walled, "fill", "/big", 320, options=("--tmpfs", "/big:size=400m"))


@attempt("c", Who.CONTAINER, "memory.max of the tenant")
def memory_in_volumes(ground: Ground, walled: bool) -> str:
    """the same in a volume in memory, which outlives who filled it"""
    who = tenant(ground, walled)
    who.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=400m", "ram")
    try:
        return run(ground, walled, "fill", "/big", 320, options=("-v", "ram:/big"))
    finally:
        who.docker("volume", "rm", "-f", "ram", check=False)


@attempt("c", Who.CONTAINER, "cpu.max of the tenant")
def processor(ground: Ground, walled: bool) -> str:
    """two busy processes for four seconds where a fifth of one processor is allowed"""
    if not walled and machine.slowness() > 3:
        raise Impossible("this machine is too busy to give anybody a third of a processor")
    return run(ground, walled, "burn", 4, 0.33)


@attempt("c", Who.CONTAINER, "the size of a writable layer")
def disk(ground: Ground, walled: bool) -> str:
    """40 MiB in a container where 24 are allowed"""
    return run(ground, walled, "fill", "/tmp", 40)


@attempt("c", Who.CONTAINER, "the size of a writable layer")
def inodes(ground: Ground, walled: bool) -> str:
    """20,000 empty files in the same"""
    return run(ground, walled, "files", "/tmp", 20_000)


@attempt("c", Who.CONTAINER, "the size of a volume")
def disk_of_a_volume(ground: Ground, walled: bool) -> str:
    """40 MiB in a volume of 24"""
    who = tenant(ground, walled)
    who.docker("volume", "create", *(("-o", "size=24m") if walled else ()), "sized")
    try:
        return run(ground, walled, "fill", "/v", 40, options=("-v", "sized:/v"))
    finally:
        who.docker("volume", "rm", "-f", "sized", check=False)


@attempt("c", Who.CONTAINER, "the ceiling of a tenant's logs")
def log_flood(ground: Ground, walled: bool) -> str:
    """24 MB of output where 4 MiB are kept"""
    who = tenant(ground, walled)
    box = who.say("run", "-d", IMAGE, "sh", "-c", "yes | head -c 24000000")
    who.docker("wait", box)
    time.sleep(2)
    kept = sum(log_bytes(ground.engine.config, who.name).values())
    who.docker("rm", box)
    return f"{kept >> 20} MiB of log" if kept > 6 << 20 else ""


@attempt("c", Who.USER, "the tenant's policy")
def port_of_the_host(ground: Ground, walled: bool) -> str:
    """a port of the host's beyond those the tenant was given"""
    who = tenant(ground, walled)
    made = who.docker("create", "-p", "127.0.0.1:40023:80", IMAGE, "true", check=False)
    if made.returncode == 0:
        who.docker("rm", made.stdout.strip())
    return "port 40023" if made.returncode == 0 else ""


@attempt("c", Who.USER, "the quota of networks")
def networks(ground: Ground, walled: bool) -> str:
    """a third network where two are allowed, five at the same time"""
    who = tenant(ground, walled)
    names = [f"many{number}" for number in range(5)]
    made = [name for name in names if who.docker("network", "create", name, check=False).returncode == 0]
    for name in made:
        who.docker("network", "rm", name)
    return f"{len(made)} networks" if len(made) > 2 else ""


@attempt("c", Who.USER, "that a limit of a container's stands below its tenant's")
def limit_above_the_tenants(ground: Ground, walled: bool) -> str:
    """docker run -m 1g --pids-limit 1000 in a tenant of 192 MiB"""
    return run(ground, walled, "memory", 320, options=("-m", "1g", "--pids-limit", "1000"))


@attempt("c", Who.CONTAINER, "that a command of an exec is in the container's cgroup")
def memory_by_exec(ground: Ground, walled: bool) -> str:
    """320 MiB by a command that joins later, in which every cgroup file it finds is written to first"""
    who = tenant(ground, walled)
    box = who.say("run", "-d", "--cap-add", "ALL", IMAGE, "sleep", "1000")
    escape = "for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do echo max > $f; echo -1 > $f; done; "
    done = who.docker("exec", box, "sh", "-c", f"({escape}) 2>/dev/null; exec {' '.join(COMMAND)} memory 320", check=False)
    who.docker("rm", "-f", box)
    return got(done.stdout, done.stderr) if re.search("^(got|kept)", done.stdout, re.MULTILINE) else ""
