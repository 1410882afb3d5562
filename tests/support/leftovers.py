"""What a session must not leave on the machine: processes, mounts, cgroups, links, nft tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

_OURS = re.compile(r"slipway", re.IGNORECASE)
_MODULES = ("engine.runtime", "engine.networks.netd", "workers.", "controlpanel.")


def found() -> set[str]:
    """One line for each thing on the machine that is, or looks like, ours. Compare before and after."""
    return {*_processes(), *_mounts(), *_cgroups(), *_links(), *_tables()}


def _processes() -> set[str]:
    lines = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended
            if "-m" in words[:-1] and words[words.index("-m") + 1].startswith(_MODULES):
                lines.add(f"process {entry.name}: {' '.join(words).strip()}")
    return lines


def _mounts() -> set[str]:
    rows = (row.split() for row in Path("/proc/self/mountinfo").read_text().splitlines())
    return {f"mount {row[4]}" for row in rows if _OURS.search(row[4])}


def _cgroups() -> set[str]:
    return {f"cgroup {path}" for path in (*Path("/sys/fs/cgroup").glob("slipway*"), *Path("/sys/fs/cgroup").glob("*/slipway*"))}


def _links() -> set[str]:
    """Of bridges and veths: names begin with an instance's four hex digits."""
    return {f"link {name}" for name in os.listdir("/sys/class/net") if re.fullmatch(r"[0-9a-f]{4}[a-z]\w*", name)}


def _tables() -> set[str]:
    if not os.access("/usr/sbin/nft", os.X_OK) or os.geteuid() != 0:
        return set()
    said = subprocess.run(["/usr/sbin/nft", "-j", "list", "tables"], capture_output=True, text=True, check=False).stdout
    tables = [item["table"] for item in json.loads(said or '{"nftables": []}')["nftables"] if "table" in item]
    return {f"nft table {table['family']} {table['name']}" for table in tables if _OURS.search(table["name"])}
