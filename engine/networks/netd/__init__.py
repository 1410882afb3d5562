"""netd: the one process that networks need besides the kernel. Supervised by the keeper, root, one thread and one that changes namespaces.

It answers names: a resolver at 127.0.0.11 inside each container of a user-defined network (resolver), which knows the members of the
networks that its container is in (directory) and asks the rest elsewhere (forwarding). And it holds ports (ports): a socket for each
port of the host that is published, so that conflicts are seen and nobody else takes it; what the firewall cannot lead by IPv6 it carries
itself (relay).

It may be killed at any time: what it must know is in files (engine.networks.facts), and the next one reads them.

<run>/netd.sock, SOCK_SEQPACKET, root only (engine.runtime.protocol): any number of questions on one connection, answered in order.
The client is engine.networks.netd_client; ``names``, ``member`` and ``ports`` are Names, Member and PortBinding as JSON.

    {"op": "serve", "id", "names"} + fd of its network namespace → {"ok": {}}          its sockets listen
    {"op": "update", "id", "names"} → {"ok": {}}
    {"op": "enter", "network": key, "name", "member"} → {"ok": {}}      again: instead of what it was
    {"op": "leave", "network": key, "id"} → {"ok": {}}
    {"op": "forget", "id"} → {"ok": {}}                                 resolver and ports; not its networks
    {"op": "hold", "id", "ports", "target", "tenant"} → {"ok": {"ports"}}         all or none; target "": as it is
        or {"error": {"code": "failed_precondition", "message": "Bind for 0.0.0.0:8080 failed: port is already allocated"}}
    {"op": "target", "id", "address"} → {"ok": {}}
    {"op": "release", "id"} → {"ok": {}}                                ports only
    {"op": "status"} → {"ok": {"containers", "members", "ports", "flows", "waiting"}}
"""
