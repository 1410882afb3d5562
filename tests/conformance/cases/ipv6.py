"""Networks with IPv6 beside IPv4. Each engine has a prefix of its own, which its socket's path makes up."""

from tests.conformance.case import UP, Case

_OWN = 'n=$(printf %s "$SOCKET" | cksum | cut -d" " -f1); q=$((1000 + n % 900)); p=$((18000 + n % 200 * 20))'
_REST = "{ docker rm -f c1 c2; docker network rm n6 o6; } >/dev/null 2>&1 || true"
_N6 = "docker network create --ipv6 n6"
_S6 = "docker network create --ipv6 --subnet fd12:$q:5::/64 n6"
_POOLS = "docker network inspect -f '{{.EnableIPv6}} {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{.IPRange}} {{json .AuxAddress}};{{end}}' n6"
_POINT = "docker inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.GlobalIPv6Address}} {{$v.GlobalIPv6PrefixLen}} {{$v.IPv6Gateway}} {{json $v.IPAMConfig}}{{\"\\n\"}}{{end}}' c1"
_MASKS = (r"\bfd12:\d+:", r"\bfd[0-9a-f]{2}:[0-9a-f:]*::[0-9a-f]*", r"<ip>/\d+", r"\b1[89]\d{3}\b|\b2[0-2]\d{3}\b")


def _case(name: str, command: str, setup: str = "", **words: object) -> Case:
    return Case(f"ipv6 {name}", f"{_OWN}\n{command}\n{_REST}", setup=f"{_OWN}\n{_REST}\n{setup}", masks=_MASKS, **words)  # type: ignore[arg-type]


CASES = [
    _case("network create", f"{_N6}; {_POOLS}; docker network ls -q -f name=n6 | wc -l"),
    _case("network create without", "docker network create n6; docker network inspect -f '{{.EnableIPv6}}' n6"),
    _case("network create pool", f"docker network create --ipv6 --subnet fd12:$q:5::/64 --gateway fd12:$q:5::fe --ip-range fd12:$q:5:0:8000::/65 --aux-address a=fd12:$q:5::7 n6; {_POOLS}"),
    _case("network create both pools", f"docker network create --ipv6 --subnet fd12:$q:5::/64 --subnet 10.$((200 + n % 40)).9.0/24 n6; {_POOLS}"),
    _case("network create pool without --ipv6", "docker network create --subnet fd12:$q:5::/64 n6"),
    _case("network create overlap", "docker network create --ipv6 --subnet fd12:$q:5:0:1::/80 o6", _S6),
    _case("network create bad pools", "\n".join(f"docker network create --ipv6 --subnet {words} n6" for words in ("fd12:$q:5::1/64", "fd12:$q:5::/129", "fd12::x/64", "fd12:$q:5::/64 --gateway fd13::1", "fd12:$q:5::/64 --ip-range fd13::/65"))),
    _case("network inspect member", "docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv6Address}}{{end}}' n6", f"{_S6}\ndocker run -d --name c1 --network n6 box sleep 600"),
    _case("run in it", f"docker run -d --name c1 --network n6 box sleep 600; {_POINT}", _S6),
    _case("run with an address", f"docker run -d --name c1 --network n6 --ip6 fd12:$q:5::77 box sleep 600; {_POINT}; docker exec c1 sh -c 'ip -6 -o addr show eth0 | grep -c ::77/64'", _S6),
    _case("run with bad addresses", "docker run --rm --network n6 --ip6 fd13::1 box true; docker run --rm --network n6 --ip6 10.1.2.3 box true; docker run --rm --network n6 --ip6 x box true; docker run --rm --ip6 fd13::1 box true", _S6),
    _case("run with a taken address", "docker run -d --name c2 --network n6 --ip6 fd12:$q:5::77 box sleep 600 2>&1 | grep -o 'Address already in use'", f"{_S6}\ndocker run -d --name c1 --network n6 --ip6 fd12:$q:5::77 box sleep 600"),
    _case("connect", f"docker network connect --ip6 fd12:$q:5::9 n6 c1; {_POINT}; docker network disconnect n6 c1; {_POINT}", f"{_S6}\n{UP}"),
    _case("names", "docker run --rm --network n6 box sh -c 'nslookup -type=aaaa c1 2>&1 | grep -c \"fd12:.*:5::77\"; ping -6 -c 1 -W 3 c1 | sed -n 2p | grep -o seq=0'", f"{_S6}\ndocker run -d --name c1 --network n6 --ip6 fd12:$q:5::77 box sleep 600"),
    _case("run -p", "docker run -d --name c1 --network n6 -p $p:80 -p [::1]:$((p+1)):81 box sleep 600; docker port c1; docker ps --format '{{.Ports}}'", _S6),
    _case("run -p answers", "for i in 1 2 3 4 5 6 7 8 9; do curl -s -m 2 http://[::1]:$p/ && break; sleep 0.2; done", f"{_S6}\ndocker run -d --name c1 --network n6 -p $p:80 box sh -c 'mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w'", out="hello\n"),
]  # fmt: skip
