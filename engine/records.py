"""What the engine knows of its containers, in files: one folder each, written by whoever knows the fact.

    spec.json    Engine.create        what was asked for; a rename replaces it
    config.json  Engine.create        the OCI runtime-spec config made from it
    networks.json Engine.create       engine.connecting: networks and ports, where they are not the usual ones
    start.json   Engine.start         {"run", "pid", "started_at_ns", "endpoint", "health": bool, "restart_count", "restart_delay_ms",
                                      "endpoints", "ports": engine.connecting};
                                      of a failed one {"run", "error", "code", "exit_code", and of the run before "started_at_ns" and
                                      "finished_at_ns"}
    exit.json    keeper               {"run", "exit_code", "signal", "oom_killed", "finished_at_ns", "started_at_ns"}
    stop.json    engine.endings       {"run", "by_hand", "deadline_ns": when SIGKILL follows, "restart"}
    restart.json agent                engine.restarts: what follows the run that ended
    health.json  agent                {"run", "change", "status", "failing_streak", "log"}: engine.health
    pause.json   engine.freezing      {"run", "paused", "change"}
    oom.json     agent                {"run", "kills", "change"}: processes of that run that the kernel killed for memory
    lock         flock(2)             held by whoever starts, settles or removes the container, in any process

The state is what these say together (``state``); there is no further copy that could disagree.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine import disk, errors
from engine.config import EngineConfig
from engine.model.codec import from_json, to_json
from engine.model.container import (
    ContainerSpec,
    ContainerState,
    HealthState,
    RestartPolicy,
    Status,
    check_name,
    endpoints_of,
    is_container_id,
)
from engine.model.network import DEFAULT, EndpointSpec, EndpointState, PortBinding
from engine.restarts import Ending, Restart


class Records:
    """Reads and writes container folders. Finding another tenant's container is finding none."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config

    def folder(self, container_id: str) -> Path:
        """Where its files lie. Ids come from messages, so anything but an id is nobody's: no path is made of it."""
        if not is_container_id(container_id):
            raise errors.NotFound(f"No such container: {container_id}")
        return self._config.container(container_id)

    def add(self, spec: ContainerSpec, config: dict[str, Any]) -> None:
        """Claims the name and makes the folder; spec.json comes last and makes it a container.

        AlreadyExists for a name that another container has. What a process that was killed in here left is taken over.
        """
        with self._naming(spec.tenant) as names:
            self._check_free(spec.tenant, spec.name, but_for=spec.id)
            disk.write_atomic(names / spec.name, spec.id.encode())
            try:
                folder = self.folder(spec.id)
                folder.mkdir(mode=0o700, exist_ok=True)
                (folder / "log").mkdir(mode=0o700, exist_ok=True)
                disk.write_json(folder / "config.json", config)
                if spec.networks or spec.ports:
                    wanted = {"endpoints": to_json(endpoints_of(spec)), "ports": to_json(spec.ports), "change": 0}
                    disk.write_json(folder / "networks.json", wanted)
                disk.write_json(folder / "spec.json", to_json(spec))
            except BaseException:
                self.drop(spec)
                raise

    def drop(self, spec: ContainerSpec) -> None:
        """Folder and name; the folder first: a name whose container has no spec.json is a leftover, and free.

        Who watches the trash reads there whose container went (``removed``), however soon the trash is emptied.
        """
        disk.to_trash(self.folder(spec.id), self._config.trash, name=f"{spec.id}.{spec.tenant}")
        (self._config.names / spec.tenant / spec.name).unlink(missing_ok=True)

    @staticmethod
    def removed(trashed: str) -> tuple[str, str] | None:
        """(container id, tenant) of the name of something in the trash; None: it was no container."""
        parts = trashed.split(".")
        return (parts[0], parts[1]) if len(parts) == 3 and is_container_id(parts[0]) else None

    def rename(self, spec: ContainerSpec, name: str) -> ContainerSpec:
        """AlreadyExists for a name that another container has. To the name it has: its claim of that is written anew."""
        check_name(name)
        with self._naming(spec.tenant) as names:
            self._check_free(spec.tenant, name, but_for=spec.id)
            disk.write_atomic(names / name, spec.id.encode())
            if name == spec.name:
                return spec
            renamed = dataclasses.replace(spec, name=name)
            self.replace_spec(renamed)
            if self.by_name(spec.tenant, spec.name) == spec.id:
                (names / spec.name).unlink(missing_ok=True)
            return renamed

    def claim_name(self, spec: ContainerSpec) -> None:
        """Again, should a power loss have emptied its file. If another has the name by now, this one is called after its id, too."""
        if self.by_name(spec.tenant, spec.name) == spec.id:
            return
        try:
            self.rename(spec, spec.name)
        except errors.AlreadyExists:
            self.rename(spec, f"{spec.name}-{spec.id[:12]}")

    def replace_spec(self, spec: ContainerSpec) -> None:
        """For what may change after the create. The caller holds the container's lock."""
        disk.write_json(self.folder(spec.id) / "spec.json", to_json(spec))

    @contextmanager
    def _naming(self, tenant: str) -> Iterator[Path]:
        """The folder of the tenant's names: {name: id} as files. Under its lock, nobody else gives or checks one."""
        names = self._config.names / tenant
        names.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk.locked(names / ".lock"):
            yield names

    def _check_free(self, tenant: str, name: str, *, but_for: str) -> None:
        holder = self.by_name(tenant, name)
        if holder not in ("", but_for) and self.is_recorded(holder):
            raise errors.AlreadyExists(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}".'
                " You have to remove (or rename) that container to be able to reuse that name."
            )

    def by_name(self, tenant: str, name: str) -> str:
        """The id, or "" when no container has that name."""
        try:
            return (self._config.names / tenant / name).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def spec(self, container_id: str, *, tenant: str | None = None) -> ContainerSpec:
        """NotFound also for another tenant's container; ``tenant`` None asks for any."""
        record = disk.read_json(self.folder(container_id) / "spec.json")
        if record is None or tenant not in (None, record["tenant"]):
            raise errors.NotFound(f"No such container: {container_id}")
        return from_json(ContainerSpec, record)

    def is_recorded(self, container_id: str) -> bool:
        """Not merely that a file is there: a power loss leaves empty ones."""
        return disk.read_json(self.folder(container_id) / "spec.json") is not None

    def oci_config(self, container_id: str) -> dict[str, Any]:
        record: dict[str, Any] | None = disk.read_json(self.folder(container_id) / "config.json")
        if record is None:
            raise errors.NotFound(f"No such container: {container_id}")
        return record

    def state(self, container_id: str) -> ContainerState:
        """What the files say together. ``seq`` as drawn at ContainerState."""
        folder = str(self.folder(container_id))  # joining text costs a tenth of joining paths, and each act looks at the state a few times
        ended: dict[str, Any] = disk.read_json(f"{folder}/exit.json") or {}
        # start.json is read second: the keeper may write an exit before Engine.start has written the start
        begun: dict[str, Any] = disk.read_json(f"{folder}/start.json") or {}
        run = max(int(begun.get("run", 0)), int(ended.get("run", 0)))
        networks, moved = _networks(folder, begun if begun.get("run") == run != ended.get("run") and not begun.get("error") else {})
        if run == 0:
            return ContainerState(id=container_id, change=moved, **networks)
        common: dict[str, Any] = {
            "id": container_id,
            "run": run,
            **networks,
            # an engine that was killed in the start has not written start.json
            "started_at_ns": int((begun if begun.get("run") == run else ended).get("started_at_ns", 0)),
            "restart_count": self._began(folder, begun, run)[0],
        }
        failed, has_ended = bool(begun.get("error")) and begun["run"] == run, ended.get("run") == run
        changes, common["health"] = self._health(folder, begun, ended=has_ended)
        if failed or has_ended:
            restart = self._of_run(f"{folder}/restart.json", run)
            common |= {"seq": 2 * run, "change": int(restart.get("change", 0)) + moved}
            common["restart_count"] = int(restart.get("count", common["restart_count"]))
            # a start that failed leaves a container that never ran as it was created
            status = Status.EXITED if common["started_at_ns"] or not failed else Status.CREATED
            common["status"] = Status.RESTARTING if restart and not restart.get("given_up") else status
            if failed:
                finished_at_ns = int(begun.get("finished_at_ns", 0))
                return ContainerState(**common, exit_code=int(begun["exit_code"]), error=str(begun["error"]), finished_at_ns=finished_at_ns)
            return ContainerState(
                **common,
                exit_code=int(ended["exit_code"]),
                oom_killed=bool(ended["oom_killed"]),
                # who saw the program begin may have looked at the clock after it had ended
                finished_at_ns=max(int(ended["finished_at_ns"]), common["started_at_ns"]),
            )
        endpoint: dict[str, Any] = begun.get("endpoint") or {}
        pause, oom = self._of_run(f"{folder}/pause.json", run), self._of_run(f"{folder}/oom.json", run)
        return ContainerState(
            **common,
            seq=2 * run - 1,
            change=changes + int(pause.get("change", 0)) + int(oom.get("change", 0)) + moved,
            status=Status.PAUSED if pause.get("paused") else Status.RUNNING,
            oom_killed=bool(oom),
            pid=int(begun.get("pid", 0)),
            finished_at_ns=int(ended.get("finished_at_ns", 0)),
            ip_address=str(endpoint.get("ip_address", "")),
            prefix_len=int(endpoint.get("prefix_len", 0)),
            gateway=str(endpoint.get("gateway", "")),
            mac_address=str(endpoint.get("mac_address", "")),
        )

    @staticmethod
    def _of_run(path: Path | str, run: int) -> dict[str, Any]:
        """A record that is about one run; {} when it is about another, or not there."""
        record: dict[str, Any] = disk.read_json(path) or {}
        return record if record.get("run") == run else {}

    def _health(self, folder: str, begun: dict[str, Any], *, ended: bool) -> tuple[int, HealthState | None]:
        """(its part of ``change``, what the health check says). Without the probes, which are long: ``probes``.

        What ended is unhealthy, as moby has it.
        """
        if not begun.get("health"):
            return 0, None
        record = self._of_run(f"{folder}/health.json", int(begun["run"]))
        status = "unhealthy" if ended else str(record.get("status", "starting"))
        return int(record.get("change", 0)), HealthState(status=status, failing_streak=int(record.get("failing_streak", 0)))

    def health(self, container_id: str) -> HealthState | None:
        """With its probes. None: no health check, or never started."""
        state = self.state(container_id)
        if state.health is None:
            return None
        return dataclasses.replace(state.health, log=self.health_of_run(container_id, state.run)[0].log)

    def health_of_run(self, container_id: str, run: int) -> tuple[HealthState, int]:
        """What its probes said so far, and how many changes of status that were. The probes of earlier runs stay, as in moby."""
        record = disk.read_json(self.folder(container_id) / "health.json") or {}
        known = from_json(HealthState, {"log": record.get("log", ())} if record.get("run") != run else record)
        return known, int(record.get("change", 0)) if record.get("run") == run else 0

    def write_health(self, container_id: str, run: int, health: HealthState, *, change: int) -> None:
        """``change``: how many status changes of this run have been told."""
        disk.write_json(self.folder(container_id) / "health.json", {"run": run, "change": change, **to_json(health)})

    def ending(self, state: ContainerState) -> Ending:
        """Of a run that has ended, for engine.restarts."""
        folder = self.folder(state.id)
        begun: dict[str, Any] = disk.read_json(folder / "start.json") or {}
        stop = self.stopping(state.id, state.run)
        count, delay_ms = self._began(folder, begun, state.run)
        return Ending(
            run=state.run,
            exit_code=state.exit_code,
            ran_ns=state.finished_at_ns - state.started_at_ns if state.started_at_ns else 0,
            finished_at_ns=state.finished_at_ns,
            by_hand=bool(stop.get("by_hand")),
            wanted=str(stop.get("restart", "")),
            count=count,
            delay_ms=delay_ms,
        )

    def _began(self, folder: Path | str, begun: dict[str, Any], run: int) -> tuple[int, int]:
        """(restarts so far, the delay before it in ms) of a run. One that was over before its start was written was begun by what
        was decided after the run before it, or by hand."""
        if begun.get("run") == run:
            return int(begun.get("restart_count", 0)), int(begun.get("restart_delay_ms", 0))
        decided = self._of_run(f"{folder}/restart.json", run - 1)
        return (0, 0) if decided.get("given_up") else (int(decided.get("count", 0)), int(decided.get("delay_ms", 0)))

    def restart_policy(self, container_id: str) -> RestartPolicy:
        """Without the rest of the spec: it is asked for at each exit."""
        record = disk.read_json(self.folder(container_id) / "spec.json") or {}
        return from_json(RestartPolicy, record.get("restart") or {})

    def restart(self, container_id: str, run: int) -> Restart | None:
        """What was decided after that run and still waits."""
        record = self._of_run(self.folder(container_id) / "restart.json", run)
        if not record or record.get("given_up"):
            return None
        return from_json(Restart, record)

    def is_decided(self, container_id: str, run: int) -> bool:
        """Whether a restart after that run waits, or was given up."""
        return bool(self._of_run(self.folder(container_id) / "restart.json", run))

    def write_restart(self, container_id: str, restart: Restart) -> None:
        disk.write_json(self.folder(container_id) / "restart.json", {**to_json(restart), "change": 1})

    def give_up_restart(self, state: ContainerState) -> None:
        """It stays ended, whatever its policy says."""
        record = {"run": state.run, "count": state.restart_count, "given_up": True, "change": 2}
        disk.write_json(self.folder(state.id) / "restart.json", record)

    def stopping(self, container_id: str, run: int) -> dict[str, Any]:
        """stop.json when it is about that run, else {}."""
        return self._of_run(self.folder(container_id) / "stop.json", run)

    def write_pause(self, container_id: str, run: int, *, paused: bool) -> None:
        path = self.folder(container_id) / "pause.json"
        before = self._of_run(path, run)
        disk.write_json(path, {"run": run, "paused": paused, "change": int(before.get("change", 0)) + 1})

    def was_paused(self, container_id: str, run: int) -> bool:
        """Whether that run was paused at any time."""
        return bool(self._of_run(self.folder(container_id) / "pause.json", run))

    def write_oom(self, container_id: str, run: int, kills: int) -> bool:
        """False when that was known."""
        path = self.folder(container_id) / "oom.json"
        before = self._of_run(path, run)
        if kills <= int(before.get("kills", 0)):
            return False
        disk.write_json(path, {"run": run, "kills": kills, "change": int(before.get("change", 0)) + 1})
        return True

    def is_start_recorded(self, container_id: str, run: int) -> bool:
        return bool(self._of_run(self.folder(container_id) / "start.json", run))

    def begun(self, container_id: str) -> dict[str, Any]:
        """start.json; {} of one that was never started."""
        record: dict[str, Any] = disk.read_json(self.folder(container_id) / "start.json") or {}
        return record

    def failure(self, state: ContainerState) -> errors.EngineError:
        """What the start of this state's run failed with."""
        code = self.begun(state.id).get("code", errors.FailedPrecondition.code)
        return errors.from_json({"code": code, "message": state.error, "detail": {"exit_code": state.exit_code}})

    def wanted(self, spec: ContainerSpec) -> tuple[tuple[EndpointSpec, ...], tuple[PortBinding, ...]]:
        """The networks that it is in, the default bridge first, and the ports asked for."""
        record = disk.read_json(f"{self.folder(spec.id)}/networks.json")
        if record is None:
            return endpoints_of(spec), spec.ports
        return from_json(tuple[EndpointSpec, ...], record["endpoints"]), from_json(tuple[PortBinding, ...], record["ports"])

    def write_wanted(self, spec: ContainerSpec, endpoints: tuple[EndpointSpec, ...], ports: tuple[PortBinding, ...]) -> None:
        """A change of state. The caller holds the container's lock."""
        path = self.folder(spec.id) / "networks.json"
        change = int((disk.read_json(path) or {}).get("change", 0)) + 1
        disk.write_json(path, {"endpoints": to_json(endpoints), "ports": to_json(ports), "change": change})

    def write_start(self, container_id: str, record: dict[str, Any]) -> None:
        disk.write_json(self.folder(container_id) / "start.json", record)

    def write_exit(self, container_id: str, run: int, *, exit_code: int, signal: int) -> None:
        """For an end that no keeper lived to record; elsewhere the keeper writes it."""
        record = {"run": run, "exit_code": exit_code, "signal": signal, "oom_killed": False, "finished_at_ns": time.time_ns()}
        disk.write_json(self.folder(container_id) / "exit.json", record)

    def write_stop(self, container_id: str, record: dict[str, Any]) -> None:
        disk.write_json(self.folder(container_id) / "stop.json", record)

    def ids(self) -> Iterator[str]:
        """Every container of every tenant."""
        for entry in os.scandir(self._config.containers):
            if is_container_id(entry.name):
                yield entry.name

    def free_names(self, *, older_than_s: float) -> None:
        """Names of containers that have no record: free already, and now not even there. A creation writes its name first."""
        before = time.time() - older_than_s
        for tenant in self._config.names.iterdir():
            with self._naming(tenant.name):
                for path in tenant.glob("[!.]*"):
                    holder = path.read_text()
                    if path.stat().st_mtime < before and not (is_container_id(holder) and self.is_recorded(holder)):
                        path.unlink()

    def unfinished(self, *, older_than_s: float) -> list[str]:
        """Ids that have files and no spec.json: their creation was killed."""
        found, before = set(), time.time() - older_than_s
        for folder in (self._config.containers, self._config.rootfs):
            for entry in os.scandir(folder):
                if is_container_id(entry.name) and entry.stat().st_mtime < before:
                    found.add(entry.name)
        return [container_id for container_id in found if not self.is_recorded(container_id)]


_OF_RUN: Final = tuple(name for name in EndpointState.__slots__ if name != "spec")


def _networks(folder: str, begun: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """(``endpoints`` and ``ports`` of the state, how often they changed); ``begun``: of a run that goes on, else {}."""
    record = disk.read_json(f"{folder}/networks.json")
    if record is None:
        return {}, 0
    live = {each.get("network_id", DEFAULT): each for each in (begun.get("endpoint") or {}, *begun.get("endpoints", ())) if each}
    endpoints = []
    for wanted in from_json(tuple[EndpointSpec, ...], record["endpoints"]):
        known = live.get(wanted.network_id, {})
        words = {name: known[name] for name in _OF_RUN if name in known}
        endpoints.append(EndpointState(spec=wanted, **words))
    ports = begun.get("ports", ()) if begun else record["ports"]
    return {"endpoints": tuple(endpoints), "ports": from_json(tuple[PortBinding, ...], ports)}, int(record["change"])
