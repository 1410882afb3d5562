"""``ps`` and ``inspect``."""

from tests.conformance.case import UP, Case

# one of each state
_MANY = (
    "docker create --name made -l color=red -l size=2 box\n"
    "docker run --name ended -l color=blue box sh -c 'exit 3' || true\n"
    "docker run --name zero box true\n"
    "docker run -d --name up -l color=red --network none box sleep 600"
)
_NAMES = "--format '{{.Names}}'"
_FULL = (
    "docker create --name c1 -it -e A=1 -u user -w /tmp -h host1 --domainname example.org -l a=b --entrypoint sh --stop-signal INT --stop-timeout 3"
    " -m 64m --cpus 0.5 --cap-add SYS_PTRACE --cap-drop MKNOD --read-only --tmpfs /t:size=1m --shm-size 2m --dns 192.0.2.1 --dns-search example.org"
    " --add-host db:192.0.2.9 --security-opt no-new-privileges --pids-limit 20 --log-opt max-size=1m --init box -c 'echo hi'"
)


def _shown(template: str) -> str:
    return f"docker inspect -f '{template}' c1"


CASES = [
    Case("ps none", "docker ps", out="CONTAINER ID  IMAGE  COMMAND  CREATED  STATUS  PORTS  NAMES\n", code=0),
    Case("ps", "docker ps", setup=_MANY, code=0),
    Case("ps -a", "docker ps -a", setup=_MANY, masks=(r"Exited \(\d+\)",), code=0),
    Case("ps -q", "docker ps -q", setup=_MANY, out="<short>\n"),
    Case("ps -aq", "docker ps -aq | wc -l", setup=_MANY, out="4\n"),
    Case("ps --no-trunc", "docker ps --no-trunc", setup=_MANY),
    Case("ps -n 2", f"docker ps -n 2 {_NAMES}", setup=_MANY, out="up\nzero\n"),
    Case("ps -l", f"docker ps -l {_NAMES}", setup=_MANY, out="up\n"),
    Case("ps -s", "docker ps -s --format '{{.Names}} {{.Size}}'", setup=_MANY, masks=("size",)),
    Case("ps --format table", "docker ps -a --format 'table {{.Names}}\\t{{.State}}\\t{{.Labels}}'", setup=_MANY),
    Case("ps --format all fields", "docker ps -a --format '{{.ID}}|{{.Image}}|{{.Command}}|{{.CreatedAt}}|{{.RunningFor}}|{{.Ports}}|{{.State}}|{{.Status}}|{{.Names}}|{{.Labels}}|{{.Mounts}}|{{.Networks}}|{{.LocalVolumes}}'", setup=_MANY),
    Case("ps --format json", "docker ps --format json", setup=_MANY, masks=("size",)),
    Case("ps --format one label", "docker ps -a --format '{{.Label \"color\"}}'", setup=_MANY, out="red\n\nblue\nred\n"),
    Case("ps --format bad", "docker ps --format '{{.Nonsense}}'", setup=_MANY, code=1),
    Case("ps long command", "docker ps -a --format '{{.Command}}'", setup="docker create --name c1 box sh -c 'echo a long command that is cut'"),
    Case("ps command with spaces", "docker ps -a --no-trunc --format '{{.Command}}'", setup="docker create --name c1 box sh -c 'echo \"a b\"' x 'y z'"),
    *(
        Case(f"ps --filter {filters}", f"docker ps -a {' '.join(f'--filter {each}' for each in filters.split())} {_NAMES}", setup=_MANY)
        for filters in (
            "status=running", "status=created", "status=exited", "status=paused", "status=running status=created", "status=nonsense",
            "exited=3", "exited=0", "exited=x", "name=up", "name=^/up$", "name=e", "name=absent", "label=color", "label=color=red",
            "label=color=red label=size", "label=absent", "ancestor=box", "ancestor=box:latest", "ancestor=absent", "before=zero", "since=zero",
            "since=absent", "network=none", "network=bridge", "network=absent", "volume=x", "publish=80", "expose=80", "is-task=true",
            "is-task=nonsense", "health=none", "health=nonsense", "nonsense=1", "id=0", "name=[", "publish=x",
        )
    ),
    Case("ps --filter id", "docker ps -a --filter id=$(docker ps -aq --filter name=zero) --format '{{.Names}}'", setup=_MANY, out="zero\n"),
    Case("ps --filter ancestor id", "docker ps -a --filter ancestor=$(docker images -q box) --format '{{.Names}}' | wc -l", setup=_MANY, out="4\n"),
    Case("ps --filter no value", "docker ps --filter name", code=125),
    Case("ps paused", "docker ps --format '{{.Names}} {{.State}} {{.Status}}'", setup=f"{UP}\ndocker pause c1"),
    Case("ps API limit bad", "api GET '/containers/json?limit=x'; api GET '/containers/json?filters=nonsense'; api GET '/containers/json?filters=%7B%22status%22%3A7%7D'"),
    Case("container ls", "docker container ls -a --format '{{.Names}}'", setup=_MANY, out="up\nzero\nended\nmade\n"),
    Case("container list", "docker container list -q", setup=_MANY, out="<short>\n"),
    # inspect
    Case("inspect absent", "docker inspect absent", code=1),
    Case("inspect one of two", "docker inspect -f '{{.Name}}' c1 absent", setup="docker create --name c1 box", code=1),
    Case("inspect --type container absent", "docker inspect --type container absent", code=1),
    Case("inspect --type image", "docker inspect --type image -f '{{json .RepoTags}}' box", out='["box:latest"]\n'),
    Case("inspect --type nonsense", "docker inspect --type nonsense box", code=1),
    Case("inspect bad template", "docker inspect -f '{{.Nonsense}}' c1", setup="docker create --name c1 box", code=1),
    Case("inspect -s", "docker inspect -s -f '{{.SizeRw}} {{.SizeRootFs}}' c1", setup="docker create --name c1 box", masks=("number",)),
    Case("inspect by prefix", "docker inspect -f '{{.Name}}' $(docker ps -aq | cut -c1-5)", setup="docker create --name c1 box", out="/c1\n"),
    Case("inspect members", "docker inspect c1 | grep -oE '^ {4,8}\"[A-Za-z]+\"' | sort", setup="docker create --name c1 box"),
    Case("inspect members running", "docker inspect c1 | grep -oE '^ {4,12}\"[A-Za-z0-9]+\"' | sort | uniq -c", setup=UP),
    Case("inspect Config", _shown("{{json .Config}}"), setup=_FULL),
    Case("inspect Config of little", _shown("{{json .Config}}"), setup="docker create --name c1 box true"),
    Case("inspect HostConfig", _shown("{{json .HostConfig}}"), setup=_FULL),
    Case("inspect HostConfig of little", _shown("{{json .HostConfig}}"), setup="docker create --name c1 box true"),
    Case("inspect State created", _shown("{{json .State}}"), setup="docker create --name c1 box true"),
    Case("inspect State running", _shown("{{json .State}}"), setup=UP, masks=(r'"Pid":\d+',)),
    Case("inspect State exited", _shown("{{json .State}}"), setup="docker run --name c1 box sh -c 'exit 3' || true"),
    Case("inspect State killed", _shown("{{json .State}}"), setup=f"{UP}\ndocker kill c1\ndocker wait c1"),
    Case("inspect State paused", _shown("{{json .State}}"), setup=f"{UP}\ndocker pause c1", masks=(r'"Pid":\d+',)),
    Case("inspect Path and Args", _shown("{{.Path}} {{json .Args}}"), setup=_FULL, out='sh ["-c","echo hi"]\n'),
    Case("inspect NetworkSettings created", _shown("{{json .NetworkSettings}}"), setup="docker create --name c1 box true"),
    Case("inspect NetworkSettings running", _shown("{{json .NetworkSettings}}"), setup=UP),
    Case("inspect NetworkSettings exited", _shown("{{json .NetworkSettings}}"), setup="docker run --name c1 box true"),
    Case("inspect NetworkSettings none", _shown("{{json .NetworkSettings}}"), setup="docker run -d --name c1 --network none box sleep 600"),
    Case("inspect NetworkSettings container", "docker inspect -f '{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}}' d1", setup=f"{UP}\ndocker run -d --name d1 --network container:c1 box sleep 600"),
    Case("inspect other members", _shown("{{.Image}} {{.Driver}} {{.Platform}} {{.RestartCount}} {{json .Mounts}} {{json .ExecIDs}} {{.MountLabel}}{{.ProcessLabel}}"), setup="docker create --name c1 box"),
    Case("inspect AppArmor", _shown("{{.AppArmorProfile}}"), setup=UP),
    Case("inspect GraphDriver", _shown("{{.GraphDriver.Name}}"), setup="docker create --name c1 box", out="overlay2\n"),
    Case("inspect paths", _shown("{{.LogPath}} {{.HostsPath}} {{.HostnamePath}} {{.ResolvConfPath}}"), setup=UP),
    Case("inspect ImageManifestDescriptor", "docker inspect c1 | grep -c ImageManifestDescriptor", setup="docker create --name c1 box"),
    Case("inspect after start again", _shown("{{.State.StartedAt}} {{.State.FinishedAt}} {{.State.ExitCode}}"), setup="docker run --name c1 box false || true\ndocker start c1\ndocker wait c1"),
    Case("inspect with a prefix of two", "for i in $(seq 16); do docker create box >/dev/null; done; docker create box >/dev/null; docker inspect $(docker ps -aq | cut -c1 | sort | uniq -d | head -1) 2>&1 | sed 's/: .$/: P/'"),
    Case("container inspect", "docker container inspect -f '{{.Name}}' c1", setup="docker create --name c1 box", out="/c1\n"),
    Case("container inspect absent", "docker container inspect absent", code=1),
    Case("container inspect of an image", "docker container inspect box", code=1),
    Case("port", "docker port c1", setup=UP, out="", code=0),
    Case("port absent", "docker port absent", code=1),
    Case("port of one", "docker port c1 80", setup=UP, code=1),
]  # fmt: skip
