"""``logs``."""

from tests.conformance.case import Case

_BOTH = "docker run --name c1 box sh -c 'echo one; echo two >&2; echo three' 2>/dev/null"
_FIVE = "docker run --name c1 box sh -c 'for i in 1 2 3 4 5; do echo line $i; done'"
_SLOW = "docker run -d --name c1 box sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done'"
# three lines, a second apart, and the times between them
_TIMED = (
    "docker run -d --name c1 box sh -c 'echo first; until [ -e /go1 ]; do sleep 0.05; done; echo second; sleep 600'\n"
    "until_says c1 first; sleep 1.1; date +%s.%N >mark; docker exec c1 touch /go1; until_says c1 second"
)

CASES = [
    Case("logs", "docker logs c1", setup=_FIVE, out="line 1\nline 2\nline 3\nline 4\nline 5\n", code=0),
    Case("logs stdout", "docker logs c1 2>/dev/null", setup=_BOTH, out="one\nthree\n", code=0),
    Case("logs stderr", "docker logs c1 2>&1 >/dev/null", setup=_BOTH, out="two\n", code=0),
    Case("logs --tail", "docker logs --tail 2 c1", setup=_FIVE, out="line 4\nline 5\n"),
    Case("logs -n", "docker logs -n 1 c1", setup=_FIVE, out="line 5\n"),
    Case("logs --tail 0", "docker logs --tail 0 c1", setup=_FIVE, out=""),
    Case("logs --tail all", "docker logs --tail all c1 | wc -l", setup=_FIVE, out="5\n"),
    Case("logs --tail more than there is", "docker logs --tail 50 c1 | wc -l", setup=_FIVE, out="5\n"),
    Case("logs --tail nonsense", "docker logs --tail nonsense c1", setup=_FIVE),
    Case("logs --tail negative", "docker logs --tail -1 c1 | wc -l", setup=_FIVE, out="5\n"),
    Case("logs -t", "docker logs -t c1", setup=_FIVE),
    Case("logs -t --tail", "docker logs -t -n 1 c1", setup=_FIVE, out="<time> line 5\n"),
    Case("logs -f ends with the container", "docker logs -f c1", setup=_SLOW, out="line 1\nline 2\nline 3\n", code=0),
    Case("logs -f --tail 0", "docker logs -f --tail 0 c1 & sleep 0.7; docker exec c1 touch /go; wait $!", setup="docker run -d --name c1 box sh -c 'echo old; until [ -e /go ]; do sleep 0.05; done; echo new'\nuntil_says c1 old", out="new\n"),
    Case("logs -f --tail 1", "docker logs -f --tail 1 c1 & sleep 0.7; docker exec c1 touch /go; wait $!", setup="docker run -d --name c1 box sh -c 'echo older; echo old; until [ -e /go ]; do sleep 0.05; done; echo new'\nuntil_says c1 old$", out="old\nnew\n"),
    Case("logs -f of what has ended", "docker logs -f c1", setup=_FIVE, code=0),
    Case("logs -f --until", "sleep 1; docker logs -f --until 1s c1 | head -1", setup=_TIMED, out="first\n"),
    Case("logs --since", "docker logs --since $(cat mark) c1", setup=_TIMED, out="second\n"),
    Case("logs --until", "docker logs --until $(cat mark) c1", setup=_TIMED, out="first\n"),
    Case("logs --since --until", "docker logs --since 1m --until $(cat mark) c1", setup=_TIMED, out="first\n"),
    Case("logs --since duration", "docker logs --since 10m c1", setup=_FIVE, code=0),
    Case("logs --since in the future", "docker logs --since 2099-01-01 c1", setup=_FIVE, out=""),
    Case("logs --until long ago", "docker logs --until 2001-01-01 c1", setup=_FIVE, out=""),
    Case("logs --since RFC 3339", "docker logs --since 2001-01-01T00:00:00Z c1 | wc -l", setup=_FIVE, out="5\n"),
    Case("logs --since nonsense", "docker logs --since nonsense c1", setup=_FIVE, code=1),
    Case("logs --since and --tail", "docker logs --since 10m --tail 1 c1", setup=_FIVE, out="line 5\n"),
    Case("logs --details", "docker logs --details c1", setup="docker run --name c1 -l color=red -e KIND=test --log-opt labels=color --log-opt env=KIND box echo hi"),
    Case("logs --details without any", "docker logs --details c1", setup="docker run --name c1 box echo hi"),
    Case("logs of a terminal", "docker logs c1 | od -c | head", setup="docker run -t --name c1 box echo hi"),
    Case("logs of a terminal -t", "docker logs -t c1", setup="docker run -t --name c1 box echo hi", out="<time> hi\n"),
    Case("logs of two runs", "docker logs c1", setup="docker run --name c1 box echo hi\ndocker start -a c1", out="hi\nhi\n"),
    Case("logs without a newline at the end", "docker logs c1 | od -c", setup="docker run --name c1 box printf 'a\\nb'"),
    Case("logs without a newline -t", "docker logs -t c1", setup="docker run --name c1 box printf 'a\\nb'"),
    Case("logs of a long line", "docker logs c1 | cksum", setup="docker run --name c1 box sh -c 'head -c 100000 /dev/zero | tr \"\\0\" x; echo'", code=0),
    Case("logs of a long line -n 1", "docker logs -n 1 c1 | wc -c", setup="docker run --name c1 box sh -c 'echo first; head -c 40000 /dev/zero | tr \"\\0\" x; echo'", out="40001\n"),
    Case("logs of empty lines", "docker logs c1", setup="docker run --name c1 box printf '\\n\\na\\n\\n'", out="\n\na\n\n"),
    Case("logs of a created container", "docker logs c1", setup="docker create --name c1 box", out="", code=0),
    Case("logs absent", "docker logs absent", code=1),
    Case("logs of many lines", "docker logs c1 | cksum", setup="docker run --name c1 box seq 50000 >/dev/null", code=0),
    Case("logs --tail of many lines", "docker logs -n 3 c1", setup="docker run --name c1 box seq 50000 >/dev/null", out="49998\n49999\n50000\n"),
    Case("logs after rename", "docker rename c1 d1; docker logs d1", setup="docker run --name c1 box echo hi", out="hi\n"),
    Case("logs API no stream", "api GET /containers/c1/logs", setup=_FIVE),
    Case("logs API bad since", "api GET '/containers/c1/logs?stdout=1&since=nonsense'", setup=_FIVE),
    Case("logs API bad tail", "api GET '/containers/c1/logs?stdout=1&tail=nonsense' | wc -l", setup=_FIVE),
    Case("logs API frames", "curl -s --unix-socket $SOCKET 'http://d/v1.51/containers/c1/logs?stdout=1&stderr=1' | od -c", setup="docker run --name c1 box echo hi"),
    Case("logs API type", "curl -si --unix-socket $SOCKET 'http://d/v1.51/containers/c1/logs?stdout=1' | tr A-Z a-z | grep -a ^content-type", setup="docker run --name c1 box echo hi"),
    Case("container logs", "docker container logs c1 | wc -l", setup=_FIVE, out="5\n"),
]  # fmt: skip
