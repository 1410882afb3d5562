"""Networks of one's own, containers in them, links, and published ports."""

from tests.conformance.case import UP, Case

# Both engines are on one machine: each has a subnet and ports of its own, which its socket's path makes up
_OWN = 'n=$(printf %s "$SOCKET" | cksum | cut -d" " -f1); q=$((200 + n % 40)); p=$((24000 + n % 300 * 20))'
_N1 = "docker network create n1"
_S1 = "docker network create --subnet 10.$q.5.0/24 s1"
_IN = f"{_N1}\ndocker run -d --name c1 --network n1 box sleep 600"
_FORM = "'{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.Labels}} {{json .Options}}'"
_POINT = "docker inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{json $v}}{{\"\\n\"}}{{end}}' c1"
_PORTS = "docker inspect -f '{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' c1"
_REST = "{ docker rm -f c1 c2 c3; docker network rm n1 n2 s1; } >/dev/null 2>&1 || true"
_SUBNET = (r"/\d\d\b", r'"IPPrefixLen":\d+', r'"(DriverOpts|IPAMConfig)":({}|null)')  # what is empty is null here


def _case(name: str, command: str, setup: str = "", **words: object) -> Case:
    """What it made goes away with it: the endpoints are emptied of containers alone."""
    masks = (*words.pop("masks", ()), r"\b10\.2\d\d\.", r"\b2[4-9]\d{3}\b|\b30\d{3}\b")  # type: ignore[misc]
    return Case(f"network {name}", f"{_OWN}\n{command}\n{_REST}", setup=f"{_OWN}\n{_REST}\n{setup}", masks=masks, **words)  # type: ignore[arg-type]


def _create(name: str, words: str) -> Case:
    return _case(f"create API {name}", f"api POST /networks/create '{words}'")


def _connect(name: str, network: str, words: str, setup: str) -> Case:
    return _case(f"connect API {name}", f"api POST /networks/{network}/connect '{words}'".replace("$q", "'$q'"), setup)


CASES = [
    _case("create", f"docker network create n1; docker network inspect -f {_FORM} n1; docker network create n1"),
    _case("create options", f"docker network create --internal --attachable --label a=b --label c -o foo=bar -o com.docker.network.driver.mtu=1400 n1; docker network inspect -f {_FORM} n1"),
    _case("create pool", "docker network create --subnet 10.$q.5.0/24 --gateway 10.$q.5.254 --ip-range 10.$q.5.128/25 --aux-address a=10.$q.5.7 n1; docker network inspect -f '{{json .IPAM}}' n1"),
    _case("create overlap", "docker network create --subnet 10.$q.5.0/25 n1", _S1),
    _case("create bad names", "docker network create ''; docker network create bridge; docker network create host; docker network create none"),
    _case("create drivers", "for d in overlay host null nosuch; do docker network create -d $d n1; done"),
    _case("create bad pool", "docker network create --subnet 10.1.2.3/24 n1; docker network create --subnet x n1; docker network create --gateway 10.1.2.3 n1"),
    _case("create two pools", "docker network create --subnet 10.$q.5.0/24 --subnet 10.$q.6.0/24 n1"),
    _create("range outside", '{"Name":"n1","IPAM":{"Config":[{"Subnet":"10.77.0.0/24","IPRange":"10.78.0.0/24","Gateway":"10.79.0.1","AuxiliaryAddresses":{"a":"x"}}]}}'),
    _create("range larger", '{"Name":"n1","IPAM":{"Config":[{"Subnet":"10.77.0.0/24","IPRange":"10.77.0.0/16"}]}}'),
    _create("mtu", '{"Name":"n1","Options":{"com.docker.network.driver.mtu":"x"}}'),
    _create("mtu negative", '{"Name":"n1","Options":{"com.docker.network.driver.mtu":"-1"}}'),
    _create("icc", '{"Name":"n1","Options":{"com.docker.network.bridge.enable_icc":"x"}}'),
    _create("scope", '{"Name":"n1","Scope":"swarm"}'),
    _create("ingress", '{"Name":"n1","Ingress":true}'),
    _create("config from", '{"Name":"n1","ConfigFrom":{"Network":"x"}}'),
    _create("ipam driver", '{"Name":"n1","IPAM":{"Driver":"nosuch"}}'),
    _create("types", '{"Name":7}'),
    _create("types of ipam", '{"Name":"n1","IPAM":[]}'),
    _create("array", "[]"),
    _case("ls of several", "docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' | grep -v host", f"{_N1}\n{_S1}", unordered=True),
    _case("ls filters", "for f in name=^n driver=null label=a=b scope=global dangling=true type=custom; do echo $f; docker network ls -q --no-trunc -f $f | wc -l; done", f"{_S1}\ndocker network create --label a=b n1"),
    _case("ls bad filters", "docker network ls -f dangling=x; docker network ls -f bogus=x"),
    _case("inspect by parts", "docker network inspect -f '{{.Name}}' $(docker network ls -q -f name=n1); api GET '/networks/n1?scope=swarm'; api GET /networks/nosuch", _N1),
    _case("inspect member", "docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{end}}' n1", _IN, masks=_SUBNET),
    _case("rm", "docker network rm n1 nosuch; docker network rm bridge none host", _N1),
    _case("rm in use", "docker network rm n1; docker stop -t 0 c1; docker network rm n1", _IN),
    _case("start without its network", "docker stop -t 0 c1; docker network rm n1; docker start c1", _IN, masks=(r"(failed to set up container networking: )?network <id>",)),
    _case("prune", "docker network prune -f; docker network prune -f", f"{_IN}\n{_S1}"),
    _case("prune filters", "docker network prune -f --filter label!=a; docker network ls -q -f type=custom | wc -l; docker network prune -f --filter bogus=x", "docker network create --label a=b n1; docker network create n2"),
    _case("connect", f"docker network connect --ip 10.$q.5.9 --alias al s1 c1; {_POINT}; docker network connect s1 c1; docker network disconnect n1 c1; {_POINT}; docker network disconnect n1 c1", f"{_IN}\n{_S1}", masks=_SUBNET),
    _case("connect stopped", f"docker network connect --alias al s1 c1; docker network connect s1 c1; docker network disconnect n1 c1; docker network disconnect n1 c1; {_POINT}; docker start c1; {_POINT}", f"{_N1}\n{_S1}\ndocker create --name c1 --network n1 box sleep 600", masks=_SUBNET),
    _case("connect reaches", "docker network connect s1 c1; docker exec c1 ping -c 1 -W 3 c2 | head -2", f"{_IN}\n{_S1}\ndocker run -d --name c2 --network s1 box sleep 600", masks=(r"time=\S+ ms", r"seq=\d ttl=\d+")),
    _connect("nobody", "n1", '{"Container":"nosuch"}', _N1),
    _connect("nowhere", "nosuch", '{"Container":"c1"}', UP),
    _connect("without words", "n1", "{}", _N1),
    _connect("an array", "n1", "[]", _N1),
    _connect("none", "none", '{"Container":"c1"}', _IN),
    _connect("of none", "n1", '{"Container":"c1"}', f"{_N1}\ndocker run -d --name c1 --network none box sleep 600"),
    _connect("host", "host", '{"Container":"c1"}', _IN),
    _connect("shared", "n1", '{"Container":"c2"}', f"{_IN}\ndocker run -d --name c2 --network container:c1 box sleep 600"),
    _connect("address", "n1", '{"Container":"c1","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.1.1.1"}}}', f"{_N1}\n{UP}"),
    _connect("address outside", "s1", '{"Container":"c1","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.1.1.1"}}}', f"{_S1}\n{UP}"),
    _connect("address of the gateway", "s1", '{"Container":"c1","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.$q.5.1"}}}', f"{_S1}\n{UP}"),
    _connect("bad mac", "n1", '{"Container":"c1","EndpointConfig":{"MacAddress":"zz"}}', f"{_N1}\n{UP}"),
    _connect("alias in bridge", "bridge", '{"Container":"c1","EndpointConfig":{"Aliases":["al"]}}', _IN),
    _case("disconnect nobody", "docker network disconnect n1 nosuch; docker network disconnect -f n1 nosuch; docker network disconnect nosuch c1", f"{_N1}\n{UP}"),
    _case("run in it", f"docker run -d --name c1 --network n1 --network-alias al --hostname h box sleep 600; {_POINT}; docker inspect -f '{{{{.HostConfig.NetworkMode}}}} {{{{.NetworkSettings.IPAddress}}}}' c1", _N1, masks=_SUBNET),
    _case("run with an address", "docker run --rm --network s1 --ip 10.$q.5.77 box ip -4 -o addr show eth0 | grep -o '5.77/24'; docker run --rm --network n1 --ip 10.9.9.9 box true; docker run --rm --network s1 --ip 10.9.9.9 box true", f"{_N1}\n{_S1}"),
    _case("run with a mac", "docker run --rm --network n1 --mac-address 02:11:22:33:44:55 box cat /sys/class/net/eth0/address; docker run --rm --mac-address 02:11:22:33:44:66 box cat /sys/class/net/eth0/address", _N1, masks=(r"nothing",)),
    _case("run in several", "docker run --rm --network n1 --network s1 box sh -c 'ls /sys/class/net | grep -c eth'", f"{_N1}\n{_S1}"),
    _case("names", "docker run --rm --network n1 box sh -c 'ping -c 1 -W 3 c1 | head -1; ping -c 1 -W 3 al | head -1'", f"{_N1}\ndocker run -d --name c1 --network n1 --network-alias al box sleep 600"),
    _case("events", "docker events --since $(cat s) --until $(date +%s.%N) --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}'", f"date +%s.%N > s\n{_N1}\ndocker run -d --name c1 --network n1 box sleep 600\ndocker network disconnect n1 c1\ndocker network rm n1"),
    _case("ps filter", "docker ps -q -f network=n1 | wc -l; docker ps -q -f network=$(docker network ls -q -f name=n1) | wc -l; docker ps -q -f network=bridge | wc -l", _IN),
    _case("run -p", f"docker run -d --name c1 -p $p:80 -p 127.0.0.1:$((p+1)):81/udp --expose 99 box sleep 600; docker ps --format '{{{{.Ports}}}}'; docker port c1; docker port c1 80; docker port c1 7; {_PORTS}"),
    _case("run -p range", f"docker run -d --name c1 -p $p-$((p+2)):90-92 box sleep 600; docker ps --format '{{{{.Ports}}}}'; {_PORTS}"),
    _case("run -p of a range", "docker run -d --name c1 -p $((p+3))-$((p+7)):80 box sleep 600; docker port c1"),
    _case("run -P", f"docker run -d --name c1 -P --expose 1000 --expose 1001/udp box sleep 600; docker port c1; {_PORTS}", masks=(r"\b3[2-9]\d{3}\b|\b[45]\d{4}\b",)),
    _case("run -p taken", "docker run -d --name c2 -p $p:81 box sleep 600 2>&1 | grep -o 'Bind for .* already allocated'; docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' c2", "docker run -d --name c1 -p $p:80 box sleep 600", masks=(r"for (0\.0\.0\.0|::):",)),
    _case("run -p stopped", f"docker stop -t 0 c1; docker port c1; docker ps -a --format '{{{{.Ports}}}}'; {_PORTS}", "docker run -d --name c1 -p $p:80 box sleep 600"),
    _case("run -p answers", "for i in 1 2 3 4 5 6 7 8 9; do curl -s -m 2 http://127.0.0.1:$p/ && break; sleep 0.2; done", "docker run -d --name c1 -p $p:80 box sh -c 'mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w'", out="hello\n"),
    _case("ps by ports", "for f in publish=$p publish=80 expose=80 expose=99 expose=$p publish=24000-31000/tcp publish=$p/udp publish=x publish=1:2; do echo $f; docker ps -q -f $f | wc -l; done", "docker run -d --name c1 -p $p:80 --expose 99 box sleep 600"),
    _case("links", "docker run --rm --link c1:db --link c1 box sh -c 'grep -c c1 /etc/hosts; ping -c 1 -W 3 db | head -1'; docker run -d --name c2 --link c1:db box sleep 600; docker inspect -f '{{json .HostConfig.Links}}' c2", UP),
    _case("links that are none", "docker create --link nosuch:x box; docker create --link c1:a:b box", UP),
    *(
        Case(f"create API PortBindings {name}", f"api POST /containers/create '{{\"Image\":\"box\",\"HostConfig\":{{\"PortBindings\":{words}}}}}'")
        for name, words in {
            "host port": '{"80/tcp":[{"HostPort":"x"}]}', "host port large": '{"80/tcp":[{"HostPort":"70000"}]}',
            "port large": '{"70000/tcp":[{}]}', "port range": '{"80-82/tcp":[{}]}', "host range": '{"80/tcp":[{"HostPort":"9-5"}]}',
            "object": '{"80/tcp":{}}', "number": '{"80/tcp":[{"HostPort":80}]}',
        }.items()
    ),
]  # fmt: skip
