"""``events``."""

from tests.conformance.case import UP, Case


def _during(acts: str, flags: str = "") -> str:
    """The events of ``acts``, asked for afterwards."""
    return f"T=$(date +%s.%N); {{ {acts}; }} >/dev/null 2>&1; sleep 0.3; docker events --since $T --until $(date +%s.%N) {flags}"


_SHORT = "--format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'"
_CODES = "--format '{{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.signal}} {{.Actor.Attributes.image}}'"
_ONLY = "--filter type=container"

CASES = [
    Case("events of run", _during("docker run --name c1 box true", f"{_SHORT} {_ONLY}")),
    Case("events of run with networks", _during("docker run --name c1 box true", _SHORT)),
    Case("events of run --rm", _during("docker run --rm --name c1 box true", f"{_SHORT} {_ONLY}")),
    Case("events of run -d and kill", _during("docker run -d --name c1 box sleep 600; docker kill c1; docker wait c1", f"{_CODES} {_ONLY}")),
    Case("events of stop", _during("docker stop -t 0 c1", f"{_CODES} {_ONLY}"), setup=UP),
    Case("events of restart", _during("docker restart -t 0 c1", f"{_CODES} {_ONLY}"), setup=UP),
    Case("events of rm -f", _during("docker rm -f c1", f"{_CODES} {_ONLY}"), setup=UP),
    Case("events of pause", _during("docker pause c1; docker unpause c1", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of rename", _during("docker rename c1 d1", "--format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.oldName}}'"), setup=UP),
    Case("events of update", _during("docker update --cpus 1 c1", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of exec", _during("docker exec c1 echo hi", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of exec -d", _during("docker exec -d c1 true; sleep 0.5", f"--format '{{{{.Action}}}} {{{{.Actor.Attributes.exitCode}}}}' {_ONLY}"), setup=UP),
    Case("events of exec that fails", _during("docker exec c1 nonsense", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of a failed start", _during("docker run --name c1 box nonsense", f"{_CODES} {_ONLY}")),
    Case("events of cp", _during("docker cp c1:/etc/passwd f; docker cp f c1:/tmp", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of commit", _during("docker commit c1 made:1", "--format '{{.Type}} {{.Action}}'"), setup=UP),
    Case("events of export", _during("docker export -o t c1", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of attach", _during("docker attach c1", f"{_SHORT} {_ONLY}"), setup="docker run -d --name c1 box sleep 1"),
    Case("events of top", _during("docker top c1", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of logs", _during("docker logs c1", f"{_SHORT} {_ONLY}"), setup=UP),
    Case("events of resize", _during("api POST '/containers/c1/resize?h=10&w=20'", f"{_SHORT} {_ONLY}"), setup="docker run -dt --name c1 box sleep 600"),
    Case("events of container prune", _during("docker container prune -f", "--format '{{.Type}} {{.Action}}'"), setup="docker create --name c1 box"),
    Case("events of health", _during("docker run -d --name c1 --health-cmd true --health-interval 200ms box sleep 600; until_is c1 '{{.State.Health.Status}}' healthy", f"--format '{{{{.Action}}}}' {_ONLY} --filter event=health_status")),
    Case("events of OOM", _during("docker run --name c1 -m 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x; done'", f"--format '{{{{.Action}}}} {{{{.Actor.Attributes.exitCode}}}}' {_ONLY}"), unordered=True),
    Case("events of a restart policy", _during("docker run -d --name c1 --restart on-failure:1 box sh -c 'exit 3'; until_is c1 '{{.RestartCount}} {{.State.Status}}' '1 exited'", f"{_CODES} {_ONLY}")),
    Case("events of images", _during("docker tag box made:1; docker tag box made:2; docker rmi made:1 made:2", "--format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'")),
    Case("events of load", _during("docker save box | docker load", "--filter type=image --format '{{.Action}} {{.Actor.Attributes.name}}'")),
    Case("events of import", _during("mkdir d1; tar -C d1 -c . | docker import - made:1", "--filter type=image --format '{{.Action}}'")),
    Case("events default format", _during("docker create --name c1 -l a=b box", "")),
    Case("events json", _during("docker create --name c1 -l a=b box", "--format json"), masks=(r'"time(Nano)?":\d+',)),
    Case("events attributes of die", _during("docker run --name c1 -l a=b box sh -c 'exit 3'", "--filter event=die --format '{{json .Actor.Attributes}}'"), masks=(r'"execDuration":"\d+"',)),
    Case("events --filter event", _during("docker run --name c1 box true", "--filter event=die --filter event=start --format '{{.Action}}'"), out="start\ndie\n"),
    Case("events --filter container", _during("docker run --name c1 box true; docker run --name d1 box true", f"--filter container=d1 {_SHORT}")),
    Case("events --filter image", _during("docker run --name c1 box true", f"--filter image=box --filter event=create {_SHORT}"), out="container create c1\n"),
    Case("events --filter label", _during("docker create --name c1 -l a=1 box; docker create --name d1 box", f"--filter label=a=1 {_SHORT}"), out="container create c1\n"),
    Case("events --filter type image", _during("docker create --name c1 box; docker tag box made:1", "--filter type=image --format '{{.Action}}'"), out="tag\n"),
    Case("events --filter scope", _during("docker create --name c1 box", f"--filter scope=local {_SHORT}"), out="container create c1\n"),
    Case("events --filter bad", "docker events --since 1s --until 0s --filter nonsense=1 >/dev/null", code=0),
    Case("events --filter bad type", "docker events --since 1s --until 0s --filter type=nonsense", out="", code=0),
    Case("events --since bad", "docker events --since nonsense --until 0s", code=1),
    Case("events --since after --until", "docker events --since 2030-01-01 --until 2001-01-01", code=1),
    Case("events live", "sleep 1.1; docker events --since 0s --format '{{.Action}}' --filter container=c1 --until $(($(date +%s) + 3)) & sleep 0.7; docker create --name c1 box >/dev/null; docker rm c1 >/dev/null; wait $!", out="create\ndestroy\n"),
    Case("events bad format", "docker events --since 1s --until 0s --format '{{nonsense}}'", code=64),
    Case("system events", _during("docker create --name c1 box", "").replace("docker events", "docker system events")),
]  # fmt: skip
