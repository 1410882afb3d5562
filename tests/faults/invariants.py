"""What must hold once all parts are back: what clients were promised, and nothing beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from engine import disk
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.model.container import Status
from engine.records import Records
from engine.runtime.client import KeeperClient
from tests.faults.load import API, Client, Finding
from tests.support import leftovers
from tests.support.platform import Platform
from tests.support.raw import ask
from workers.platform.places import Places
from workers.resp import Address, Redis


def promised(platform: Platform, tenant: str, clients: Iterable[Client]) -> list[str]:
    """No container lost or doubled; states, exit codes and logs as each client knows them."""
    found: list[str] = []
    known = {name: made for client in clients for name, made in client.containers.items()}
    _, said = ask(platform.socket(tenant), "GET", f"{API}/containers/json?all=1")
    listed = {item["Names"][0][1:]: item for item in json.loads(said)}
    found += [f"lost: {name}" for name in known.keys() - listed.keys()]
    found += [f"nobody's: {name}" for name in listed.keys() - known.keys()]
    for client in clients:
        for name, made in client.containers.items():
            if name not in listed:
                continue
            if made.starts and made.running != (listed[name]["State"] == "running"):
                found.append(f"{name} is {listed[name]['State']}, its client left it {'running' if made.running else 'ended'}")
            if made.codes:
                code = json.loads(ask(platform.socket(tenant), "GET", f"{API}/containers/{name}/json")[1])["State"]["ExitCode"]
                if code not in made.codes:
                    found.append(f"{name} has exit code {code}, not {made.codes}")
            try:
                if made.starts:
                    client.check_log(made)
            except Finding as finding:
                found.append(str(finding))
    return found


def agreed(platform: Platform, tenant: str) -> list[str]:
    """Rows, the engine's files, names and processes say the same."""
    config = EngineConfig(platform.data, platform.run)
    records, found = Records(config), []
    _, said = ask(platform.socket(tenant), "GET", f"{API}/containers/json?all=1")
    rows = {item["Id"]: item for item in json.loads(said)}
    mine = {number: records.spec(number) for number in records.ids() if disk.read_json(config.container(number) / "spec.json")}
    mine = {number: spec for number, spec in mine.items() if spec.tenant == tenant}
    found += [f"only a row: {number[:12]}" for number in rows.keys() - mine.keys()]
    found += [f"only on the host: {number[:12]} {mine[number].name}" for number in mine.keys() - rows.keys()]
    for number in rows.keys() & mine.keys():
        state = records.state(number)
        if rows[number]["State"] != state.status.value:
            found.append(f"{mine[number].name}: the row says {rows[number]['State']}, the host {state.status.value}")
        if state.status is Status.RUNNING and not os.path.exists(f"/proc/{state.pid}"):
            found.append(f"{mine[number].name}: process {state.pid} is gone, and its exit is not recorded")
    names = {path.name: path.read_text() for path in (config.names / tenant).glob("[!.]*")}
    if names != {spec.name: number for number, spec in mine.items()}:
        found.append(f"names on the host: {sorted(names)} instead of {sorted(spec.name for spec in mine.values())}")
    return found


def outside(platform: Platform) -> set[str]:
    """What the instance has on the machine beside its folders, one line each: compare before and after."""
    instance = (platform.data / "engine" / "instance").read_text().strip()
    ours = ("mount ", "link ", "cgroup ")
    found = {line for line in leftovers.found() if line.startswith(ours) and (instance in line or str(platform.data) in line)}
    cgroups = (path for place in _cgroup_places() for path in place.glob(f"slipway-{instance}/**/"))
    found |= {f"cgroup {path}" for path in cgroups if path.name != "files"}  # of copies, which stays as its tenant's does
    found |= {f"nft element {element}" for element in _elements(instance)}
    found |= {f"process {line}" for line in _doubled(platform)}
    keeper = _keeper(platform)
    if keeper:
        rows = (row.split() for row in Path(f"/proc/{keeper}/mountinfo").read_text().splitlines())
        found |= {f"keeper's mount {row[4]}" for row in rows if str(platform.data) in row[4]}
    return found


def inside(platform: Platform) -> set[str]:
    """Files in the instance's folders that belong to nothing any more."""
    config = EngineConfig(platform.data, platform.run)
    engine, found = config.engine, set()
    alive = {path.parent.name for path in config.containers.glob("*/spec.json") if disk.read_json(path)}
    for folder in (config.containers, config.rootfs):
        found |= {str(path.relative_to(engine)) for path in folder.iterdir() if path.name not in alive}
    found |= {str(path.relative_to(engine)) for path in config.trash.iterdir()}
    found |= {str(path.relative_to(engine)) for path in engine.rglob(".*.????????") if re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name)}
    networks = engine / "networks"
    files = [path for path in networks.rglob("*") if not path.is_dir() and not path.name.startswith(".")]
    found |= {str(path.relative_to(engine)) for path in files if path.parent.name != "departed"}  # which wait a minute to be counted
    running = {state.id for number in alive if (state := Records(config).state(number)).status in (Status.RUNNING, Status.PAUSED)}
    found |= {f"run/{path.name}" for path in (config.run / "running").glob("*") if path.name.split(".")[0] not in running}
    return found


def queues(platform: Platform) -> set[str]:
    """Messages that nobody has taken or acknowledged."""
    redis = Redis(Address.parse(Places.from_environment(platform.environment).redis_url("admin")), timeout_s=5.0)
    found = set()
    try:
        for key in redis.execute(("KEYS", "*"))[0]:
            name = key.decode() if isinstance(key, bytes) else key
            if name in ("panel",) or name.startswith(("host.", "unacked.")):
                found.add(f"redis {name}")
    finally:
        redis.close()
    return found


def descriptors(platform: Platform) -> dict[str, int]:
    """How many each kept part has open; it must not grow with the number of containers that came and went."""
    return {part["name"]: len(os.listdir(f"/proc/{part['pid']}/fd")) for part in platform.status()["parts"] if part["pid"]}


def _cgroup_places() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return (
        [root] if (root / "cgroup.controllers").exists() else [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
    )


def _elements(instance: str) -> list[str]:
    done = subprocess.run(["/usr/sbin/nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=False)
    found, lasting = [], ("ports", "bridges", "pairs", "subnets", "internals", "published", "addressed")
    lasting += tuple(f"{name}6" for name in ("ports", "targets", "subnets", "published", "addressed"))
    for item in json.loads(done.stdout or '{"nftables": []}')["nftables"]:
        table = item.get("set") or item.get("map")
        if table and instance in table["table"] and table["name"] in lasting:
            found += [f"{table['name']} {json.dumps(element)}" for element in table.get("elem", [])]
    return found


def _keeper(platform: Platform) -> int:
    return int(platform.part("keeper")["pid"] or 0)


def _doubled(platform: Platform) -> list[str]:
    """Processes of the keeper's family that it knows nothing of."""
    config = EngineConfig(platform.data, platform.run)
    try:
        parts = KeeperClient(config).parts()
    except EngineError:
        return []
    known = {part["pid"] for part in parts.values()}
    with suppress(OSError):  # who lets go of roots (engine.runtime.roots)
        known |= set(map(int, Path(f"/proc/{parts['launcher']['pid']}/task/{parts['launcher']['pid']}/children").read_text().split()))
    wanted, found = f"SLIPWAY_DATA={platform.data}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ours = wanted in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) not in known
            if ours and (b"engine.runtime.foster" in words or b"workers.agent" in words):
                found.append(f"{entry.name} {b' '.join(words).decode().strip()}")
        except OSError:
            continue  # it ended
    return found
