"""``python -S -m engine.networks.netd``, root. With the standard library alone: it is resident on every host."""

from __future__ import annotations

import gc
import os
import resource
import sys

from engine.config import EngineConfig
from engine.kernel import capabilities, processes, scheduling
from engine.kernel.capabilities import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN, CAP_SYS_PTRACE
from engine.networks.netd.server import Netd
from engine.runtime import protocol

# to enter network namespaces (setns(2), by pidfd too), put rules there, and bind ports below 1024
KEPT = CAP_SYS_ADMIN | CAP_SYS_PTRACE | CAP_NET_ADMIN | CAP_NET_BIND_SERVICE


def main() -> int:
    if os.geteuid() != 0:
        print("engine.networks.netd must run as root: it enters containers' network namespaces", file=sys.stderr)
        return 77  # EX_NOPERM, sysexits.h
    scheduling.prefer_session()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # three a container, two a relayed connection
    capabilities.give_up(~KEPT)
    processes.forbid_new_privileges()
    processes.hide()
    config = EngineConfig.from_environment()
    netd = Netd(config, protocol.listen(config.netd_socket))
    gc.collect()
    gc.freeze()
    netd.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
