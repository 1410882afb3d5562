"""update, top, stats."""

from tests.conformance.case import UP, Case


def _updated(flags: str, shown: str) -> str:
    return f"docker update {flags} c1 && docker inspect -f '{shown}' c1"


_CREATED = "docker create --name c1 box sleep 600"

CASES = [
    Case("update -m", _updated("-m 64m --memory-swap 128m", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), setup=UP, out="c1\n67108864 134217728\n", code=0),
    Case("update -m in force", "docker update -m 64m --memory-swap -1 c1; docker exec c1 sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'", setup=UP, out="c1\n67108864\n"),
    Case("update -m above swap", "docker update -m 300m c1", setup="docker run -d --name c1 -m 64m --memory-swap 128m box sleep 600", code=1),
    Case("update -m too small", "docker update -m 1m c1", setup=UP, code=1),
    Case("update --memory-reservation", _updated("--memory-reservation 32m", "{{.HostConfig.MemoryReservation}}"), setup=UP, out="c1\n33554432\n"),
    Case("update --cpus", _updated("--cpus 0.5", "{{.HostConfig.NanoCpus}}"), setup=UP, out="c1\n500000000\n"),
    Case("update --cpus too many", "docker update --cpus 999 c1", setup=UP, code=1),
    Case("update -c", _updated("-c 512", "{{.HostConfig.CpuShares}}"), setup=UP, out="c1\n512\n"),
    Case("update --cpu-quota --cpu-period", _updated("--cpu-quota 50000 --cpu-period 100000", "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}}"), setup=UP, out="c1\n50000 100000\n"),
    Case("update --cpus over --cpu-quota", "docker update --cpus 0.5 c1", setup="docker run -d --name c1 --cpu-quota 50000 box sleep 600", code=1),
    Case("update --cpuset-cpus", _updated("--cpuset-cpus 0", "{{.HostConfig.CpusetCpus}}"), setup=UP, out="c1\n0\n"),
    Case("update --cpuset-cpus bad", "docker update --cpuset-cpus nonsense c1", setup=UP, code=1),
    Case("update --pids-limit", _updated("--pids-limit 50", "{{.HostConfig.PidsLimit}}"), setup=UP, out="c1\n50\n"),
    Case("update --blkio-weight", _updated("--blkio-weight 300", "{{.HostConfig.BlkioWeight}}"), setup=_CREATED),
    Case("update --restart", _updated("--restart always", "{{json .HostConfig.RestartPolicy}}"), setup=UP, out='c1\n{"Name":"always","MaximumRetryCount":0}\n'),
    Case("update --restart bad", "docker update --restart nonsense c1", setup=UP, code=1),
    Case("update --restart of an --rm container", "docker update --restart always c1", setup="docker run -d --rm --name c1 box sleep 600", code=1),
    Case("update two", "docker update --cpus 1 c1 d1", setup=f"{UP}\ndocker create --name d1 box", out="c1\nd1\n"),
    Case("update created", _updated("-m 64m --memory-swap 64m", "{{.HostConfig.Memory}}"), setup=_CREATED, out="c1\n67108864\n"),
    Case("update absent", "docker update -m 64m absent", code=1),
    Case("update nothing", "docker update c1", setup=UP, code=1),
    Case("update paused", _updated("--cpus 1", "{{.HostConfig.NanoCpus}}"), setup=f"{UP}\ndocker pause c1"),
    Case("update --kernel-memory", "docker update --kernel-memory 64m c1", setup=UP),
    Case("update API", "api POST /containers/c1/update '{\"Memory\":67108864,\"MemorySwap\":-1}'", setup=UP),
    Case("update API wrong type", "api POST /containers/c1/update '{\"Memory\":\"much\"}'; api POST /containers/c1/update '7'; api POST /containers/c1/update", setup=UP),
    Case("container update", "docker container update --cpus 1 c1", setup=UP, out="c1\n"),
    Case("top", "docker top c1 | awk '{print $1, $NF}'", setup=UP),
    Case("top header", "docker top c1 | head -1 | tr -s ' '", setup=UP),
    Case("top -o", "docker top c1 -o pid,comm | tail -1 | awk '{print $2}'", setup=UP, out="sleep\n"),
    Case("top -eo", "docker top c1 -eo pid,args | tail -1 | awk '{print $2, $3}'", setup=UP, out="sleep 600\n"),
    Case("top aux", "docker top c1 aux | awk '{print $11, $12}'", setup=UP),
    Case("top without pid", "docker top c1 -o comm", setup=UP),
    Case("top bad", "docker top c1 --nonsense", setup=UP),
    Case("top created", "docker top c1", setup=_CREATED, code=1),
    Case("top absent", "docker top absent", code=1),
    Case("top paused", "docker top c1 | wc -l", setup=f"{UP}\ndocker pause c1", out="2\n"),
    Case("top of two processes", "docker exec -d c1 sleep 77; sleep 0.5; docker top c1 -o pid,args | tail -n +2 | awk '{print $2, $3}' | sort", setup=UP, out="sleep 600\nsleep 77\n"),
    Case("top API", "api GET /containers/c1/top | tr -d ' ' | grep -o '\"Titles\":[^]]*'", setup=UP),
    Case("container top", "docker container top c1 -o pid,comm | tail -1 | awk '{print $2}'", setup=UP, out="sleep\n"),
    Case("stats --no-stream", "docker stats --no-stream c1 | head -1", setup=UP, code=0),
    Case("stats --format", "docker stats --no-stream --format '{{.Name}} {{.PIDs}}' c1", setup=UP, out="c1 1\n"),
    Case("stats --format all", "docker stats --no-stream --format '{{.Container}} {{.ID}} {{.CPUPerc}} {{.MemUsage}} {{.MemPerc}} {{.NetIO}} {{.BlockIO}}' c1", setup="docker run -d --name c1 -m 64m box sleep 600", masks=("percent", r"\d+(\.\d+)?(B|kB|KiB|MiB|MB)")),
    Case("stats --format json", "docker stats --no-stream --format json c1 | tr , '\\n' | cut -d: -f1", setup=UP),
    Case("stats memory limit", "docker stats --no-stream --format '{{.MemUsage}}' c1", setup="docker run -d --name c1 -m 64m box sleep 600", masks=(r"^.* /",)),
    Case("stats all", "docker stats --no-stream --format '{{.Name}}' | sort", setup=f"{UP}\ndocker run -d --name d1 box sleep 600\ndocker create --name e1 box", out="c1\nd1\n"),
    Case("stats -a", "docker stats -a --no-stream --format '{{.Name}} {{.PIDs}}' | sort", setup=f"{UP}\ndocker create --name e1 box"),
    Case("stats created", "docker stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}' c1", setup=_CREATED),
    Case("stats absent", "docker stats --no-stream absent", code=1),
    Case("stats paused", "docker stats --no-stream --format '{{.Name}} {{.PIDs}}' c1", setup=f"{UP}\ndocker pause c1"),
    Case("stats --no-trunc", "docker stats --no-stream --no-trunc --format '{{.ID}}' c1", setup=UP, out="<id>\n"),
    Case("stats API members", "api GET '/containers/c1/stats?stream=0' | head -1 | tr ',{' '\\n\\n' | grep -o '^\"[a-z_]*\":' | sort -u", setup=UP),
    Case("stats API one-shot", "api GET '/containers/c1/stats?stream=0&one-shot=1' | tail -1", setup=UP, out="200\n"),
    Case("stats API created", "api GET '/containers/c1/stats?stream=0'", setup=_CREATED),
    Case("container stats", "docker container stats --no-stream --format '{{.Name}}' c1", setup=UP, out="c1\n"),
    Case("OOM", "docker wait c1; docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' c1", setup="docker run -d --name c1 -m 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x; done'", out="137\ntrue 137\n"),
]  # fmt: skip
