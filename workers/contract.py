"""What the panel and the hosts agreed: queue names, task names, payloads, and the agent's streams.

Celery (JSON only), panel → host. Queue ``host.<name>``; every task has the header ``key`` (order per object) and

    kwargs = {"operation": uuid, "reply_to": redis list, "expires_at": unix time, "payload": {…}}

The host answers with ONE ``LPUSH reply_to`` of ``{"operation", "ok": …}`` or ``{"operation", "error": {code, message,
detail}}`` and journals the outcome by operation id: the same id twice does the act once and answers twice. What was not begun
by ``expires_at`` (0 = never) is answered with an error instead: nobody waits any more, and it must not happen later by surprise.

| task                      | payload                                                   | ok                                    |
|---------------------------|-----------------------------------------------------------|---------------------------------------|
| slipway.container.create  | {"spec": ContainerSpec}                                   | {"state", "volumes": [VolumeSpec]}    |
| slipway.container.start   | {"tenant", "id"}                                          | {"state"}                             |
| slipway.container.stop    | {"tenant", "id", "signal": name or "", "timeout_s"}       | {"state"}; answers at once, see below |
| slipway.container.restart | {"tenant", "id", "signal": name or "", "timeout_s"}       | {"state"}; of what runs: at once, see below |
| slipway.container.kill    | {"tenant", "id", "signal": number}                        | {"state"}                             |
| slipway.container.remove  | {"tenant", "id", "force", "volumes": bool}                | {"volumes": [name] that went with it} |
| slipway.container.rename  | {"tenant", "id", "name"}                                  | {}                                    |
| slipway.container.pause   | {"tenant", "id"}; the same for unpause                    | {"state"}                             |
| slipway.container.update  | {"tenant", "id", "resources", "restart" or null, "host_config", "layer_size_bytes"} | {"state"} |
| slipway.container.publish | {"tenant", "id", "ports": [PortBinding]}: these from now on | {"state"}                         |
| slipway.container.limit   | {"tenant", "id", "rules": Rules}: its allow-lists from now on | {"state"}                         |
| slipway.container.shape   | {"tenant", "id", "bandwidth": Bandwidth}: from now on     | {"state"}                             |
| slipway.network.create    | {"spec": NetworkSpec}                                     | {"spec"}: with the pool it got        |
| slipway.network.remove    | {"tenant", "id"}                                          | {}                                    |
| slipway.network.connect   | {"tenant", "id", "endpoint": EndpointSpec}                | {"state"}                             |
| slipway.network.disconnect | {"tenant", "id", "network": its id, "force"}             | {"state"}                             |
| slipway.network.limit     | {"tenant", "id", "rules": Rules}: its allow-lists from now on | {"spec"}                          |
| slipway.volume.create     | {"volume": VolumeSpec}                                    | {"volume"}: the one of that name      |
| slipway.volume.remove     | {"volume": VolumeSpec}                                    | {"volume"}: the one that is gone      |
| slipway.volume.prune      | {"tenant", "names": [name]}                               | {"volumes": those that are gone, "bytes"} |
| slipway.volume.rename     | {"volume": VolumeSpec, "name": the new one}               | {"volume"}                            |
| slipway.volume.clone      | {"volume": VolumeSpec, "name": the copy's}                | {"volume"}                            |
| slipway.volume.resize     | {"volume": VolumeSpec, "size": as of -o size}             | {"volume"}                            |
| slipway.volume.snapshot   | {"volume": VolumeSpec, "snapshot": name, "act": take, restore or remove} | {}                     |
| slipway.image.tag         | {"tenant", "image_id", "ref"}                             | {}                                    |
| slipway.image.remove      | {"tenant", "ref" or "image_id", "force", "no_prune"}      | {"untagged", "deleted", "images", "image_id"} |
| slipway.image.prune       | {"tenant", "images": [id], "all": also named ones}        | {"untagged": {ref: id}, …, "bytes"} |
| slipway.tenant.ensure     | {"tenant", …what of TenantHost is the panel's to say}      | {"host": TenantHost}                  |
| slipway.tenant.remove     | {"tenant"}; with all it has here                          | {"before", "left"}: engine.remains     |
| slipway.audit.witness     | {"heads": [[chain, number, hash]]}: workers/witness.py    | {"contradicted": [chain]}             |
| slipway.ping              | {} (on both queues)                                       | {"pid", "started_at_ns"}              |

``deleted`` are ids of images and layers as Docker tells them, ``images`` those of images that the tenant has no longer.
``stop`` sends the signal and returns; the host escalates to SIGKILL after the timeout on its own timer (no task slot
is held), and the panel's answer waits for the exit event. ``restart`` of what runs is a stop after which the agent starts it
again, whatever becomes of the asker. ``wait`` is never a task.

Host → panel, durable: task ``slipway.panel.ingest`` on queue ``panel`` with kwargs {"events": [Event, …]}.

Agent (SLIPWAY_RUN/agent.sock, SOCK_STREAM). The caller (SO_PEERCRED: root or the panel's uid) sends one line of JSON

    {"v": 1, "ticket": str, "op": str, "tenant": str, "id": str, …words}\\n

and gets one line back, ``{"ok": {…}}\\n`` or ``{"error": {…}}\\n``; then the stream, until either side closes.
The ticket is signed by the panel over op, tenant, id and an expiry (workers/tickets.py); root needs none.

| op      | words                                                                  | stream                                      |
|---------|------------------------------------------------------------------------|---------------------------------------------|
| attach  | stdin, stdout, stderr, logs, raw: bool, detach_keys: "ctrl-p,ctrl-q"    | up: raw stdin, half-close = EOF; down: output |
| logs    | stdout, stderr, follow, timestamps, details: bool, since_ns, until_ns, tail: -1 = all | down: output                  |
| stats   | interval_s, count (0 = for ever)                                        | down: JSON lines, Docker's stats shape      |
| sample  | –                                                                      | none; the ok line is one stats object       |
| top     | options: ps(1)'s, "" = -ef                                             | none; the ok line is {"titles", "processes"} |
| load    | platform                                                               | up: tar, half-close; down: JSON lines       |
| import  | ref, changes: [str], message, platform                                 | up: tar, half-close; down: JSON lines       |
| pull    | ref, platform, credentials, every_tag: bool                            | down: JSON lines, then {"images", "digest", "ref"} |
| push    | ref, credentials, every_tag                                            | down: JSON lines, as of pull for each tag   |
| distribution | ref, credentials                                                 | none; the ok line is Docker's DistributionInspect |
| login   | domain, credentials                                                    | none; the ok line is {"identity_token"}     |
| save    | names: [str], platform                                                 | down: tar; ok: {"images": [{"id", "refs"}]} |
| resize  | rows, columns                                                          | none                                        |
| size    | –                                                                      | none; the ok line is {"bytes"} of its writable layer |
| spec    | –                                                                      | none; the ok line is {"spec", "state"} of it |
| volume  | –                                                                    | none; the ok line is {"bytes", "snapshots": {name: ns}} |
| volume_files | what: stat, get, export, list, remove, put; path                  | as archive_…; of list and remove the ok line is all |
| volume_usage | –                                                                 | none; the ok line is {"volumes": {name: bytes}} |
| health  | –                                                                      | none; the ok line is {"health": HealthState or null} |
| exec    | exec: ExecSpec, detach, hang_up: bool, detach_keys                      | up: raw stdin, half-close = EOF; down: output |
| exec_resize | exec (its id), rows, columns                                        | none                                        |
| exec_state  | exec (its id)                                                       | none; the ok line is {"state": ExecState}   |
| archive_stat | path, shown (the container as the caller named it)                | none; the ok line is {"stat"}: Docker's path stat |
| archive_get | path, shown                                                        | down: tar; the ok line has {"stat"}         |
| archive_put | path, shown, no_overwrite, copy_owner: bool                        | up: tar, half-close; down: {"done": {}}     |
| export  | –                                                                      | down: tar                                   |
| user    | user: words as of ``--user``                                           | none; InvalidArgument when it is not known there |
| changes | –                                                                      | down: {"done": {}}, then Docker's list or null |
| diff    | old, new: {"kind": "container" or "image", "id"}                       | down: {"done": {"count"}}, then JSON lines  |
| diff_text | old, new, path                                                       | down: {"done": …} of engine.files.textdiff  |
| commit  | config (or null), container_config, changes, ref, author, comment, pause | down: {"done": {"image": {"refs", "record"}}} |
| build   | request: BuildRequest, registries: {host: AuthConfig}, detached: bool  | up: tar, half-close; down: JSON lines       |
| build_follow | – (of a detached build: it outlives its client, workers/agent/detached.py) | down: all its lines, to its end    |
| build_end | –                                                                    | none; it is cancelled, its lines are gone   |
| build_prune | filters: {name: [text]}                                            | none; the ok line is {"caches": [key], "bytes"} |
| build_usage | –                                                                  | none; the ok line is {"steps": […]}         |
| search  | ids, pattern, ignore_case, stdout, stderr, since_ns, until_ns, limit   | down: a JSON line a match, then {"done": …} |
| log_use | –                                                                      | none; the ok line is {"containers": {id: bytes}} |
| ceiling | –                                                                      | none; the ok line is {"granted"}: engine.ceilings |
| events  | since_seq: {container id: seq} or null                                 | down: JSON lines of Event; inventory first  |

*Output* is Docker's 8-byte frames, or raw bytes for a container with a tty (the ok line says ``{"tty": bool}``).
Where a stream has {"done": …}, {"error": …} may come instead. Progress lines are Docker's (engine-api.md 3.3); load and import
end with {"images": [{"refs": […], "record": ImageRecord}]}.
``attach`` of a container that is not running yet waits for its start; the ok line is sent when the reader is in place.
``exec`` answers {"tty", "pid", "started_at_ns"} when the command has executed; its end is an Event (exec.exited) before the stream ends.
``events`` begins with one line for each container (created, started or exited, whichever is the last), image, volume and network of
the host, whatever ``since_seq`` left out, then one line ``{"inventory": "done"}``: what the panel knows and was not named is gone
from the host. While nothing happens there is a line ``{"beat": unix time in ns}`` each BEAT_S; a stream that is silent for
BEAT_LOST_S is of an agent that hangs.
"""

from __future__ import annotations

from typing import Final

CREATE_CONTAINER: Final = "slipway.container.create"
START_CONTAINER: Final = "slipway.container.start"
STOP_CONTAINER: Final = "slipway.container.stop"
RESTART_CONTAINER: Final = "slipway.container.restart"
KILL_CONTAINER: Final = "slipway.container.kill"
REMOVE_CONTAINER: Final = "slipway.container.remove"
RENAME_CONTAINER: Final = "slipway.container.rename"
PAUSE_CONTAINER: Final = "slipway.container.pause"
UNPAUSE_CONTAINER: Final = "slipway.container.unpause"
UPDATE_CONTAINER: Final = "slipway.container.update"
PUBLISH_PORTS: Final = "slipway.container.publish"
LIMIT_CONTAINER: Final = "slipway.container.limit"
SHAPE_CONTAINER: Final = "slipway.container.shape"
CREATE_NETWORK: Final = "slipway.network.create"
REMOVE_NETWORK: Final = "slipway.network.remove"
CONNECT_NETWORK: Final = "slipway.network.connect"
DISCONNECT_NETWORK: Final = "slipway.network.disconnect"
LIMIT_NETWORK: Final = "slipway.network.limit"
CREATE_VOLUME: Final = "slipway.volume.create"
REMOVE_VOLUME: Final = "slipway.volume.remove"
RENAME_VOLUME: Final = "slipway.volume.rename"
CLONE_VOLUME: Final = "slipway.volume.clone"
RESIZE_VOLUME: Final = "slipway.volume.resize"
SNAPSHOT_VOLUME: Final = "slipway.volume.snapshot"
PRUNE_VOLUMES: Final = "slipway.volume.prune"
TAG_IMAGE: Final = "slipway.image.tag"
REMOVE_IMAGE: Final = "slipway.image.remove"
PRUNE_IMAGES: Final = "slipway.image.prune"
ENSURE_TENANT: Final = "slipway.tenant.ensure"
REMOVE_TENANT: Final = "slipway.tenant.remove"
WITNESS: Final = "slipway.audit.witness"
PING: Final = "slipway.ping"
INGEST: Final = "slipway.panel.ingest"

PANEL_QUEUE: Final = "panel"
REPLY_PREFIX: Final = "reply."  # + random: the list of one asking process
BEAT_S: Final = 2.0
BEAT_LOST_S: Final = 8.0
REPLY_KEEP_S: Final = 600  # answers nobody fetches go after this


def host_queue(host: str) -> str:
    return f"host.{host}"
