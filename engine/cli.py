"""The engine of one host without panel, database or Redis: ``python3 -m engine run -it busybox sh``.

For newcomers, for debugging, and for machines where a panel would be too much. It speaks Docker's words and exit codes.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from engine import ceilings, cli_build, cli_exec, cli_registry, errors, terminal
from engine.config import EngineConfig
from engine.engine import Engine
from engine.images.demo import NAME as DEMO_IMAGE
from engine.images.demo import load as load_demo
from engine.model.bandwidth import parse_rate, spelled
from engine.model.container import ContainerSpec, ContainerState, Status
from engine.model.image import ImageRecord, merge_config
from engine.model.nfs import Export
from engine.model.reference import Reference
from engine.model.resources import Resources
from engine.runtime import log_ceiling
from engine.runtime.logs import FIRST, LogReader, end_position

DAEMON_ERROR = 125  # docker run's own failures


def main(words: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(words)
    if os.geteuid() != 0:
        print("engine: this needs root: namespaces of a tenant's ids, mounts and cgroups are made for it (try sudo)", file=sys.stderr)
        return 1
    try:
        engine = Engine(EngineConfig.from_environment())
        engine.keeper.ensure_running()
        command: Callable[[Engine, argparse.Namespace], int] = asked.command
        return command(engine, asked)
    except errors.EngineError as error:
        print(f"engine: {error.message}", file=sys.stderr)
        return _exit_code(asked.verb, error)
    except BrokenPipeError:
        return 0


def _exit_code(verb: str, error: errors.EngineError) -> int:
    """As docker's: what the image lacks is told by 126 and 127, what else keeps ``run`` from running by 125."""
    code = int(error.detail.get("exit_code", 1))
    return DAEMON_ERROR if verb == "run" and code not in (126, 127) else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m engine", description=__doc__)
    parser.add_argument("--tenant", default="local", help="whose containers and images (local)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="make and start a container")
    run.add_argument("-i", "--interactive", action="store_true", help="keep stdin open")
    run.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    run.add_argument("-d", "--detach", action="store_true", help="print its id and leave it running")
    run.add_argument("--rm", action="store_true", help="remove it when it ends")
    run.add_argument("--name", default="")
    run.add_argument("--network", default="bridge", choices=["bridge", "none", "host"])
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME=value")
    run.add_argument("-m", "--memory", type=int, default=0, metavar="BYTES")
    run.add_argument("--cpus", type=float, default=0.0)
    run.add_argument("--pids-limit", type=int, default=0)
    run.add_argument("-u", "--user", default="")
    run.add_argument("-w", "--workdir", default="")
    run.add_argument("image")
    run.add_argument("args", nargs=argparse.REMAINDER)
    run.set_defaults(command=_run)
    ps = verbs.add_parser("ps", help="list containers")
    ps.add_argument("-a", "--all", action="store_true")
    ps.set_defaults(command=_ps)
    cli_exec.add_parser(verbs)
    logs = verbs.add_parser("logs", help="what a container wrote")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--tail", type=int, default=-1)
    logs.add_argument("container")
    logs.set_defaults(command=_logs)
    stop = verbs.add_parser("stop", help="stop signal, then SIGKILL")
    stop.add_argument("-t", "--time", type=int, default=None)
    stop.add_argument("container")
    stop.set_defaults(command=_stop)
    rm = verbs.add_parser("rm", help="remove a container")
    rm.add_argument("-f", "--force", action="store_true")
    rm.add_argument("container")
    rm.set_defaults(command=_rm)
    images = verbs.add_parser("images", help="list images")
    images.set_defaults(command=_images)
    load = verbs.add_parser("load", help="docker-archive or OCI layout from a file or stdin")
    load.add_argument("-i", "--input", default="-")
    load.set_defaults(command=_load)
    save = verbs.add_parser("save", help="images as one archive, to a file or stdout")
    save.add_argument("-o", "--output", default="-")
    save.add_argument("images", nargs="+", metavar="IMAGE")
    save.set_defaults(command=_save)
    rmi = verbs.add_parser("rmi", help="remove a name, and the image with its last one")
    rmi.add_argument("-f", "--force", action="store_true")
    rmi.add_argument("image")
    rmi.set_defaults(command=_rmi)
    cli_registry.add_parsers(verbs)
    cli_build.add_parser(verbs)
    ceiling = verbs.add_parser("ceiling", help="what the tenant may have beyond what every tenant may; root of this machine says so")
    ceiling.add_argument("--grant", action="append", default=[], metavar="/dev/NAME[:rwm]", help="a device that it may ask for")
    ceiling.add_argument("--revoke", action="append", default=[], metavar="/dev/NAME")
    ceiling.add_argument("--bind", action="append", default=[], metavar="/FOLDER[:ro][,uid=N]", help="a folder that it may mount")
    ceiling.add_argument("--unbind", action="append", default=[], metavar="/FOLDER")
    seccomp = ceiling.add_mutually_exclusive_group()
    seccomp.add_argument("--seccomp-unconfined", action="store_true", default=None, help="no filter, or its own instead of the platform's")
    seccomp.add_argument("--seccomp-confined", action="store_false", dest="seccomp_unconfined")
    ceiling.add_argument("--ports", metavar="8000-8999,443", help='ports of the host that it may publish; "" = any')
    for way in ("in", "out"):
        words = f"of all its networks together, {way}; 0: as much as the panel says"
        ceiling.add_argument(f"--bandwidth-{way}", type=parse_rate, metavar="10mbit", help=words)
    ceiling.add_argument("--layer-size", metavar="10g", help="what each container may write beside its volumes; 0 = no limit")
    ceiling.add_argument("--log-size", metavar="16g", help="output that is kept of all its containers together; 0 = 16g")
    ceiling.add_argument(
        "--host-network", action=argparse.BooleanOptionalAction, default=None, help="containers may have the machine's own"
    )
    ceiling.add_argument(
        "--privileged",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="containers without filter and masks, with every capability of their own user namespace",
    )
    ceiling.add_argument("--capabilities", metavar="NET_ADMIN,…", help="beyond Docker's own that it may add; all; none")
    ceiling.add_argument("--registries", metavar="HOST[:PORT],…", help="that it may speak to; all; none")
    ceiling.add_argument("--addresses", metavar="ADDRESS,…", help="of this machine on which it may publish ports, or networks; all; none")
    nfs_words = "an export of an NFS server that its volumes may be of, and what is below"
    ceiling.add_argument("--nfs", action="append", default=[], metavar="SERVER:/PATH[:ro][,port=N]", help=nfs_words)
    ceiling.add_argument("--no-nfs", action="append", default=[], metavar="SERVER:/PATH")
    ceiling.set_defaults(command=_ceiling)
    demo = verbs.add_parser("demo-image", help=f"make {DEMO_IMAGE} from this machine's busybox")
    demo.set_defaults(command=_demo_image)
    return parser


def _ceiling(engine: Engine, asked: argparse.Namespace) -> int:
    """Prints what holds afterwards. Containers that were made keep what they were given."""
    ceiling = ceilings.change(
        engine.config,
        asked.tenant,
        grant=tuple(asked.grant),
        revoke=tuple(asked.revoke),
        seccomp_unconfined=asked.seccomp_unconfined,
        ports=asked.ports,
        bind=tuple(asked.bind),
        unbind=tuple(asked.unbind),
        bandwidth_in=asked.bandwidth_in,
        bandwidth_out=asked.bandwidth_out,
        layer_size=asked.layer_size,
        log_size=asked.log_size,
        host_network=asked.host_network,
        privileged=asked.privileged,
        capabilities=asked.capabilities,
        registries=asked.registries,
        addresses=asked.addresses,
        nfs=tuple(asked.nfs),
        no_nfs=tuple(asked.no_nfs),
    )
    engine.networks.shape_tenants()
    print(f"privileged containers: {'may be had' if ceiling.privileged else 'no'}")
    print(f"devices: {', '.join(ceiling.devices) or 'none'}")
    for kind in ("capabilities", "registries", "addresses"):
        print(f"{kind}: {', '.join(getattr(ceiling, kind)) or 'none'}")
    print(f"ports: {ceiling.ports or 'any'}")
    print(f"bandwidth: in {spelled(ceiling.bandwidth.into) or 'any'}, out {spelled(ceiling.bandwidth.out) or 'any'}")
    print(f"folders: {', '.join(map(str, ceiling.binds)) or 'none'}")
    print(f"NFS exports: {', '.join(map(_export_words, ceiling.exports)) or 'none'}{_first_id(engine, asked.tenant, ceiling)}")
    print(f"layer of a container: {f'{ceiling.layer_size} bytes at most' if ceiling.layer_size else 'no limit'}")
    print(f"logs: {ceiling.log_size or log_ceiling.DEFAULT} bytes at most")
    print(f"host's network: {'may be had' if ceiling.host_network else 'no'}")
    print(f"seccomp: {'may be switched off' if ceiling.seccomp_unconfined else 'always on'}")
    return 0


def _export_words(export: Export) -> str:
    return str(export) + (f" at {export.address}" if export.address != export.server else "")


def _first_id(engine: Engine, tenant: str, ceiling: ceilings.Ceiling) -> str:
    """What an administrator of a server needs to know."""
    if not ceiling.exports:
        return ""
    try:
        return f" (there the root of its containers is uid and gid {engine.tenants.get(tenant).uid_start}, 1 the next, and so on)"
    except errors.NotFound:
        return ""


def _run(engine: Engine, asked: argparse.Namespace) -> int:
    spec = _spec(engine, asked)
    engine.create(spec)
    try:
        return _start_and_follow(engine, spec, detach=asked.detach)
    finally:
        if asked.rm and not asked.detach:
            engine.remove(spec.tenant, spec.id, force=True)


def _spec(engine: Engine, asked: argparse.Namespace) -> ContainerSpec:
    image = _image(engine, asked.tenant, asked.image)
    words: dict[str, Any] = {"Cmd": asked.args or None, "Env": asked.env, "User": asked.user, "WorkingDir": asked.workdir}
    config = merge_config(image.config, words)
    container_id = secrets.token_hex(32)
    return ContainerSpec(
        id=container_id,
        tenant=asked.tenant,
        name=asked.name or f"{asked.image.rpartition('/')[2].partition(':')[0]}-{container_id[:6]}",
        image_id=image.id,
        image=asked.image,
        args=(*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])),
        env=tuple(config["Env"]),
        cwd=config.get("WorkingDir") or "/",
        user=config.get("User") or "",
        tty=asked.tty,
        open_stdin=asked.interactive,
        stdin_once=asked.interactive,
        network_mode=asked.network,
        resources=Resources(memory_bytes=asked.memory, nano_cpus=int(asked.cpus * 1e9), pids_limit=asked.pids_limit),
        stop_signal=config.get("StopSignal") or "SIGTERM",
        auto_remove=asked.rm,
    )


def _image(engine: Engine, tenant: str, name: str) -> ImageRecord:
    """The demo image is made on the spot when it is asked for, so that a first try needs nothing else; another is pulled."""
    try:
        return engine.images.resolve(tenant, name)
    except errors.NotFound:
        wanted = Reference.parse(name)
        if str(wanted) == DEMO_IMAGE:
            load_demo(engine.images)
        else:
            print(f"Unable to find image '{wanted}' locally", file=sys.stderr)
            cli_registry.pull(engine, tenant, name)
        return engine.images.resolve(tenant, name)


def _start_and_follow(engine: Engine, spec: ContainerSpec, *, detach: bool) -> int:
    engine.start(spec.tenant, spec.id)
    if detach:
        print(spec.id)
        return 0
    if spec.open_stdin:
        terminal.feed(engine.keeper, spec.id, has_tty=spec.tty)
    log = engine.config.container(spec.id) / "log"
    if spec.tty and spec.open_stdin and sys.stdin.isatty():
        with terminal.raw():
            terminal.follow_size(engine.keeper, spec.id)
            terminal.follow(log, start=FIRST, has_tty=True)
    else:
        signal.signal(signal.SIGINT, lambda number, _frame: _forward(engine, spec, number))
        signal.signal(signal.SIGTERM, lambda number, _frame: _forward(engine, spec, number))
        terminal.follow(log, start=FIRST, has_tty=spec.tty)
    engine.wait(spec.id)
    return engine.settle(spec.id).exit_code


def _forward(engine: Engine, spec: ContainerSpec, number: int) -> None:
    try:
        engine.kill(spec.tenant, spec.id, number)
    except errors.EngineError:
        pass  # it has ended: its exit code follows anyway


def _ps(engine: Engine, asked: argparse.Namespace) -> int:
    print(f"{'CONTAINER ID':<14}{'IMAGE':<24}{'STATUS':<24}NAME")
    for spec, state in engine.list(asked.tenant):
        if asked.all or state.status is Status.RUNNING:
            print(f"{spec.id[:12]:<14}{spec.image[:22]:<24}{_status_words(state):<24}{spec.name}")
    return 0


def _status_words(state: ContainerState) -> str:
    if state.status is Status.RUNNING:
        return f"up {int(time.time() - state.started_at_ns / 1e9)} s"
    return f"exited ({state.exit_code})" if state.status is Status.EXITED else state.status.value


def _logs(engine: Engine, asked: argparse.Namespace) -> int:
    spec = engine.find(asked.tenant, asked.container)
    log = engine.config.container(spec.id) / "log"
    running = engine.state(spec.tenant, spec.id).status is Status.RUNNING
    start = end_position(log)
    for piece in LogReader(log, frames=False, tail=asked.tail):
        sys.stdout.buffer.write(piece)
    sys.stdout.flush()
    if asked.follow and running:
        terminal.follow(log, start=start, has_tty=True)
    return 0


def _stop(engine: Engine, asked: argparse.Namespace) -> int:
    spec = engine.find(asked.tenant, asked.container)
    engine.stop(spec.tenant, spec.id, timeout_s=asked.time)
    engine.wait(spec.id)
    engine.settle(spec.id)
    print(asked.container)
    return 0


def _rm(engine: Engine, asked: argparse.Namespace) -> int:
    spec = engine.find(asked.tenant, asked.container)
    engine.remove(spec.tenant, spec.id, force=asked.force)
    print(asked.container)
    return 0


def _images(engine: Engine, asked: argparse.Namespace) -> int:
    print(f"{'REPOSITORY:TAG':<40}{'IMAGE ID':<16}SIZE")
    for record, refs in engine.images.list(asked.tenant):
        for ref in refs or ["<none>"]:
            print(f"{ref:<40}{record.id.removeprefix('sha256:')[:12]:<16}{record.size_bytes}")
    return 0


def _load(engine: Engine, asked: argparse.Namespace) -> int:
    if asked.input == "-":
        return _print_progress(engine, asked.tenant, sys.stdin.buffer)
    try:
        with open(asked.input, "rb") as file:
            return _print_progress(engine, asked.tenant, file)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise errors.InvalidArgument(f"{asked.input}: {error.strerror}") from error


def _save(engine: Engine, asked: argparse.Namespace) -> int:
    chosen = engine.images.choose(asked.tenant, asked.images)  # before a file is made
    if asked.output == "-":
        if sys.stdout.isatty():
            raise errors.InvalidArgument("cowardly refusing to save to a terminal: use -o, or redirect")
        engine.images.save(chosen, sys.stdout.fileno())
        return 0
    try:
        with open(asked.output, "wb", buffering=0) as file:
            engine.images.save(chosen, file.fileno())
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise errors.InvalidArgument(f"{asked.output}: {error.strerror}") from error
    return 0


def _rmi(engine: Engine, asked: argparse.Namespace) -> int:
    done = engine.remove_image(asked.tenant, asked.image, force=asked.force)
    for word, names in (("Untagged", done["untagged"]), ("Deleted", done["deleted"])):
        for name in names:
            print(f"{word}: {name}")
    return 0


def _print_progress(engine: Engine, tenant: str, stream: BinaryIO) -> int:
    for line in engine.load(tenant, stream):
        if "stream" in line:
            sys.stdout.write(line["stream"])
    return 0


def _demo_image(engine: Engine, _asked: argparse.Namespace) -> int:
    load_demo(engine.images)
    print(DEMO_IMAGE)
    return 0
