"""Ping, version, info, auth."""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

from controlpanel.containers import projection as containers
from controlpanel.dockerapi import shapes, versions
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.words import rfc3339
from controlpanel.images import projection as images
from controlpanel.tenants.permissions import require
from engine.model.container import Status

_PING = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store, must-revalidate"),
    (b"pragma", b"no-cache"),
    (b"builder-version", b"1"),  # the classic builder: we have no BuildKit
    (b"swarm", b"inactive"),
]


async def ping(exchange: Exchange) -> None:
    await exchange.reply(200, b"" if exchange.method == "HEAD" else b"OK", _PING)


async def version(exchange: Exchange) -> None:
    common = {
        "GitCommit": "",
        "GoVersion": f"python{platform.python_version()}",  # what we are made of; the member is Docker's
        "Os": "linux",
        "Arch": versions.ARCHITECTURE,
        "KernelVersion": platform.release(),
        "BuildTime": "",
    }
    details = {"ApiVersion": versions.API_TEXT, "MinAPIVersion": versions.API_MIN_TEXT, "Experimental": "false", **common}
    await exchange.reply_json(
        {
            "Platform": {"Name": f"Slipway {versions.SLIPWAY}"},
            "Components": [{"Name": "Engine", "Version": versions.ENGINE, "Details": details}],
            "Version": versions.ENGINE,
            "ApiVersion": versions.API_TEXT,
            "MinAPIVersion": versions.API_MIN_TEXT,
            **common,
        }
    )


async def info(exchange: Exchange) -> None:
    require(exchange.actor, "tenant.view")
    tenant = exchange.actor.tenant
    assert tenant is not None
    views = await containers.containers(exchange.actor)
    count = {status: sum(view.status is status for view in views) for status in Status}
    machine = _machine()
    memory, cpus = machine["MemTotal"], machine["NCPU"]
    await exchange.reply_json(
        {
            "ID": f"slipway-{tenant.name}",
            "Containers": len(views),
            "ContainersRunning": count[Status.RUNNING],
            "ContainersPaused": count[Status.PAUSED],
            "ContainersStopped": len(views) - count[Status.RUNNING] - count[Status.PAUSED],
            "Images": len(await images.images(exchange.actor)),
            "Driver": "overlay2",
            "DriverStatus": [["Supports d_type", "true"], ["Native Overlay Diff", "true"], ["userxattr", "false"]],
            "Plugins": {"Volume": [], "Network": ["bridge", "null"], "Authorization": None, "Log": ["json-file"]},
            "MemoryLimit": True,
            "SwapLimit": True,
            "CpuCfsPeriod": True,
            "CpuCfsQuota": True,
            "CPUShares": True,
            "CPUSet": True,
            "PidsLimit": True,
            "IPv4Forwarding": True,
            "Debug": False,
            "NFd": 0,
            "OomKillDisable": machine["CgroupVersion"] == "1",
            "NGoroutines": 0,
            "SystemTime": rfc3339(time.time_ns()),
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "NEventsListener": 0,
            **machine,
            # a tenant sees its wall, not the machine behind it
            "MemTotal": min(memory, tenant.memory_bytes) if tenant.memory_bytes else memory,
            "NCPU": min(cpus, max(1, tenant.nano_cpus // 1_000_000_000)) if tenant.nano_cpus else cpus,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": None},
            "GenericResources": None,
            "DockerRootDir": "/var/lib/slipway",
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Name": tenant.name,
            "Labels": [],
            "ExperimentalBuild": False,
            "ServerVersion": versions.ENGINE,
            "Runtimes": {shapes.RUNTIME: {"path": shapes.RUNTIME}},
            "DefaultRuntime": shapes.RUNTIME,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "tini-static",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns", "name=cgroupns"],
            "CDISpecDirs": None,
            "Warnings": None,
        }
    )


@cache
def _machine() -> dict[str, Any]:
    """What doesn't change while we run. The web process runs beside its host."""
    release = platform.freedesktop_os_release()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "CgroupVersion": "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        "KernelVersion": platform.release(),
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": pages,
    }
