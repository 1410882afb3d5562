#!/bin/sh
# The engine that conformance is measured against: Debian's newest dockerd, unpacked under a scratch folder, nothing installed.
#
#   tests/conformance/reference.sh up [FOLDER]     fetch (once), start, wait, print the address for DOCKER_HOST
#   tests/conformance/reference.sh down [FOLDER]   end exactly what `up` started: dockerd, its containerd, the bridge
#
# FOLDER is /tmp/slipway-reference unless given; it keeps the packages, so that the second `up` takes a second. Run as root.
# Packages come from the mirror that this machine's apt is configured for, suite sid; runc and iptables must be installed.
set -eu
verb=${1:?up or down}
folder=${2:-/tmp/slipway-reference}
socket=$folder/docker.sock
number=$(($(printf %s "$folder" | cksum | cut -d' ' -f1) % 100)) # several may run: each has a bridge and a subnet of its own
bridge=slipref$number
subnet=10.$((100 + number)).0.1/16

debget() { # debget SUITE PACKAGE… → unpacked under $folder/root
    suite=$1
    shift
    state=$folder/apt-$suite
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder/root"
    : > "$state/status"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | head -1)
    echo "deb $mirror $suite main" > "$state/sources"
    set -- -o "Dir::Etc::sourcelist=$state/sources" -o Dir::Etc::sourceparts=- -o "Dir::State=$state" -o "Dir::State::lists=$state/lists" \
        -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root -- "$@"
    options=''
    while [ "$1" != -- ]; do options="$options $1"; shift; done
    shift
    # shellcheck disable=SC2086  # options are words without spaces
    apt-get $options -qq update
    for package; do
        # shellcheck disable=SC2086
        (cd "$state" && apt-get $options -qq download "$package" && dpkg-deb -x "${package}"_*.deb "$folder/root")
    done
}

answers() { curl -sf --max-time 5 --unix-socket "$socket" http://reference/_ping > /dev/null; }

up() {
    mkdir -p "$folder/run"
    [ -x "$folder/root/usr/sbin/dockerd" ] || debget sid docker.io containerd docker-cli >&2
    if ! answers; then
        ip link show "$bridge" > /dev/null 2>&1 || {
            ip link add "$bridge" type bridge
            ip addr add "$subnet" dev "$bridge"
            ip link set "$bridge" up
        }
        echo '{}' > "$folder/run/daemon.json"
        PATH=$folder/root/usr/sbin:$folder/root/usr/bin:$PATH setsid "$folder/root/usr/sbin/dockerd" --config-file "$folder/run/daemon.json" \
            --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/run/dockerd.pid" -H "unix://$socket" \
            --bridge "$bridge" --iptables=false --ip6tables=false --storage-driver overlay2 > "$folder/run/dockerd.log" 2>&1 < /dev/null &
        tries=0
        until answers; do
            tries=$((tries + 1))
            [ $tries -lt 150 ] || { tail -5 "$folder/run/dockerd.log" >&2; exit 1; }
            sleep 0.2
        done
    fi
    echo "unix://$socket"
}

down() {
    pid=$(cat "$folder/run/dockerd.pid" 2> /dev/null || true)
    if [ -n "$pid" ] && kill "$pid" 2> /dev/null; then
        while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    fi
    if ip link show "$bridge" > /dev/null 2>&1; then ip link del "$bridge"; fi
    # what dockerd leaves behind: network namespaces, and empty cgroups (those of another dockerd are not empty, or made again)
    awk -v below="$folder/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
    find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name docker -exec rmdir {} + 2> /dev/null || true
    rm -rf "$folder/data" "$folder/exec" "$folder/run" "$socket"
}

case $verb in
    up | down) "$verb" ;;
    *) echo "reference.sh up|down [FOLDER]" >&2; exit 2 ;;
esac
