"""Which capabilities a container's root has, and how ``--cap-add`` and ``--cap-drop`` change that. Pure."""

from __future__ import annotations

from collections.abc import Collection

from engine.errors import InvalidArgument

# linux/capability.h, by number
ALL = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

# What Docker gives (docs.docker.com, "Runtime privilege and Linux capabilities")
DEFAULT = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
    "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip


def full_name(word: str, option: str) -> str:
    """``CAP_NET_ADMIN`` of ``net_admin``; ``ALL`` stays. InvalidArgument for none, naming the ``option``."""
    name = word.upper()
    if name != "ALL" and not name.startswith("CAP_"):
        name = f"CAP_{name}"
    if name not in ALL and name != "ALL":
        raise InvalidArgument(f'invalid {option}: unknown capability: "{name}"')
    return name


def effective(add: Collection[str], drop: Collection[str]) -> list[str]:
    """The default set as changed by ``add`` and ``drop`` (``ALL`` and names with or without CAP_), in kernel order.

    Order as moby's oci/caps.TweakCapabilities: ``--cap-drop ALL`` empties the default first, additions win over it.
    """
    adding, dropping = {full_name(word, "CapAdd") for word in add}, {full_name(word, "CapDrop") for word in drop}
    if "ALL" in adding:
        have = set(ALL) - dropping
    elif "ALL" in dropping:
        have = adding
    else:
        have = (set(DEFAULT) - dropping) | adding
    return [name for name in ALL if name in have]
