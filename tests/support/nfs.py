"""This machine's own NFS server, for tests that ``requires("nfs")``: exports to loopback alone, and a way to let it fall silent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.scratch import open_folder

SERVER = "127.0.0.1"
_TABLE = ("inet", "slipway-test-nfs")
_SUPERBLOCKS = Path("/proc/fs/nfsfs/volumes")


@contextmanager
def exported(folders: Mapping[str, str]) -> Iterator[Path]:
    """A folder with these, which all may write to; name → more options of exports(5)."""
    was_active = subprocess.run(["systemctl", "is-active", "-q", "nfs-server"], check=False).returncode == 0
    with open_folder() as place, ExitStack() as undo:
        place.chmod(0o755)
        subprocess.run(["systemctl", "start", "nfs-server"], check=True)
        if not was_active:
            undo.callback(subprocess.run, ["systemctl", "stop", "nfs-server"], check=False)
        for name, more in folders.items():
            (place / name).mkdir()
            (place / name).chmod(0o777)
            words = f"rw,sync,no_subtree_check,fsid={os.urandom(4).hex()}{'0' * 24}{more}"
            subprocess.run(["exportfs", "-o", words, f"{SERVER}:{place / name}"], check=True)
            undo.callback(subprocess.run, ["exportfs", "-u", f"{SERVER}:{place / name}"], check=False)
        yield place


@contextmanager
def silent() -> Iterator[None]:
    """It gets no packet any more, and so answers none: neither a question nor a new connection."""
    subprocess.run(["nft", "add", "table", *_TABLE], check=True)
    try:
        subprocess.run(["nft", "add", "chain", *_TABLE, "in", "{ type filter hook input priority -300; }"], check=True)
        subprocess.run(["nft", "add", "rule", *_TABLE, "in", "tcp", "dport", "2049", "drop"], check=True)
        yield
    finally:
        subprocess.run(["nft", "delete", "table", *_TABLE], check=True)


def mounted() -> list[str]:
    """What this machine's kernel has of ours, in any mount namespace or in none: lines of the nfs client's own list."""
    return [line for line in _SUPERBLOCKS.read_text().splitlines()[1:] if " 7f000001 " in line] if _SUPERBLOCKS.exists() else []
