"""Output on its way from the container to the log: whole, in order, rotated, and at what cost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.kernel.capabilities import CAP_SYS_RESOURCE
from engine.runtime.allowance import BURST, RATE
from engine.runtime.logs import LogReader
from engine.runtime.segments import segment_numbers
from tests.support.capabilities import sets_of

from .keeping import Keeping, keeping, until, whole_output_of

pytestmark = pytest.mark.requires("root")

LINES = 1_000_000
WRITER = r"""
#include <string.h>
#include <unistd.h>
int main(void) {
    char line[64];
    memset(line, 'x', 63);
    line[63] = '\n';
    for (int i = 0; i < 1000000; i++)
        if (write(1, line, 64) != 64) return 1;
    return 0;
}
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


@pytest.mark.guest
def test_both_streams_keep_their_bytes_and_their_names(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "echo out; echo err >&2; printf unended")
    keeper.wait(container)
    assert whole_output_of(keeper, container, stderr=False) == b"out\nunended"
    assert whole_output_of(keeper, container, stdout=False) == b"err\n"


def test_binary_output_is_not_touched(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "head -c 3000000 /dev/urandom | tee /dev/stderr", max_size=1 << 30)
    keeper.wait(container)
    out = whole_output_of(keeper, container, stderr=False)
    assert len(out) == 3_000_000 and out == whole_output_of(keeper, container, stdout=False)


@pytest.mark.guest
def test_it_writes_without_the_right_to_exceed_a_quota(keeper: Keeping) -> None:
    """The launcher, beside it, keeps the right: it raises limits of containers."""
    parts = keeper.client.parts()
    mine = sets_of(os.getpid())
    assert sets_of(parts["launcher"]["pid"]) == mine
    assert sets_of(parts["logger"]["pid"]) == {name: have & ~CAP_SYS_RESOURCE for name, have in mine.items()}


def test_the_log_rotates_by_size_and_the_oldest_goes(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "seq 1 200000", max_size=100_000, max_files=3)
    keeper.wait(container)
    folder = str(keeper.log_dir(container))
    out = whole_output_of(keeper, container)
    numbers = segment_numbers(folder)
    assert len(numbers) == 3 and numbers[0] > 1
    assert sorted(os.listdir(folder)) == sorted(f"{number}.{kind}" for number in numbers for kind in ("data", "idx"))
    for number in numbers:
        size = sum(os.stat(f"{folder}/{number}.{kind}").st_size for kind in ("data", "idx"))
        assert size <= 100_000 + 4096
    whole = b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert len(out) > 150_000 and whole.endswith(out)


def test_a_follower_goes_across_rotations(keeper: Keeping) -> None:
    script = "i=0; while [ $i -lt 40 ]; do seq $((i*500+1)) $((i*500+500)); i=$((i+1)); sleep 0.01; done"
    container, _pid = keeper.run("sh", "-c", script, max_size=10_000, max_files=50)
    out = b"".join(LogReader(keeper.log_dir(container), frames=False).follow())
    assert out == b"".join(b"%d\n" % number for number in range(1, 20_001))
    assert len(segment_numbers(str(keeper.log_dir(container)))) > 5


def test_a_slow_follower_slows_nobody_and_reads_all(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "seq 1 300000; exit 4")
    reader = LogReader(keeper.log_dir(container), frames=False)
    out = bytearray(reader.read())
    assert keeper.wait(container)["exit_code"] == 4  # though nobody read on
    for piece in reader.follow():
        out += piece
        time.sleep(0.01)
    assert out == b"".join(b"%d\n" % number for number in range(1, 300_001))


def test_a_second_run_is_appended_and_each_end_is_marked(keeper: Keeping) -> None:
    container, _pid = keeper.run("echo", "one")
    keeper.wait(container)
    first = LogReader(keeper.log_dir(container), frames=False)
    assert (b"".join(first), first.complete) == (b"one\n", True)
    with keeper.launch(container, ["sh", "-c", "echo two; sleep 0.3; echo three"], run=2):
        follower = LogReader(keeper.log_dir(container), frames=False)
        assert b"".join(follower.follow()) == b"one\ntwo\nthree\n"
    keeper.wait(container, run=2)


def test_the_logger_killed_in_the_flood_loses_and_doubles_nothing(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "seq 1 6000000", max_size=1 << 30)
    kills = 0
    pid = 0
    while keeper.exit_record(container) is None and kills < 5:
        pid = keeper.wait_for("logger", other_than=pid)
        os.kill(pid, signal.SIGKILL)
        kills += 1
        time.sleep(0.03)
    keeper.wait(container)
    assert kills >= 2
    seq = shutil.which("seq")
    assert seq is not None
    assert whole_output_of(keeper, container) == subprocess.run([seq, "1", "6000000"], capture_output=True, check=True).stdout


@pytest.mark.guest
def test_a_full_disk_makes_writers_wait_and_loses_nothing(keeper: Keeping) -> None:
    container = keeper.new_id()
    log = keeper.log_dir(container)
    logger = keeper.wait_for("logger")
    inside = ["nsenter", "-m", "-t", str(logger)]  # the mount is for the keeper's mount namespace only
    subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", "size=256k", "none", str(log)], check=True)
    try:
        with keeper.launch(container, ["sh", "-c", "seq 1 200000"]):
            complaints = keeper.config.data / "log" / "logger.log"
            until(lambda: "No space left" in complaints.read_text(), what="the complaint")
        subprocess.run([*inside, "mount", "-o", "remount,size=64m", str(log)], check=True)
        keeper.wait(container)
        whole = b"".join(b"%d\n" % number for number in range(1, 200_001))
        until(lambda: Path(f"/proc/{logger}/root{log}/1.data").read_bytes() == whole, what="the whole log")
    finally:
        subprocess.run([*inside, "umount", "-l", str(log)], check=False)


def test_other_containers_are_served_beside_a_flood(keeper: Keeping) -> None:
    flood, _pid = keeper.run("sh", "-c", "yes", max_size=1 << 20, max_files=2)
    try:
        for _ in range(5):
            started = time.monotonic()
            container, _pid = keeper.run("echo", "hello")
            assert b"".join(LogReader(keeper.log_dir(container), frames=False).follow()) == b"hello\n"
            assert time.monotonic() - started < 2.0
    finally:
        keeper.client.signal(flood, signal.SIGKILL)
        assert keeper.wait(flood)["exit_code"] == 137


def test_a_tenants_flood_goes_on_at_its_rate_and_is_not_anothers(keeper: Keeping) -> None:
    began = time.monotonic()
    floods = [keeper.run("yes", max_size=1 << 20, max_files=2, tenant="flood")[0] for _ in range(2)]
    logs = [str(keeper.log_dir(flood)) for flood in floods]
    limit = int(BURST + 2 * RATE) >> 20  # segments of 1 MiB

    def written() -> int:
        return sum(max(segment_numbers(log), default=0) for log in logs)

    until(lambda: written() > limit, what="burst and two seconds")
    assert time.monotonic() - began > 1.5
    calm, _pid = keeper.run("sh", "-c", "yes | head -c 20000000", tenant="calm")
    keeper.wait(calm)
    assert len(whole_output_of(keeper, calm, stderr=False)) == 20_000_000
    for flood in floods:
        keeper.client.signal(flood, signal.SIGKILL)
        assert keeper.wait(flood)["exit_code"] == 137
        assert set(whole_output_of(keeper, flood)) <= set(b"y\n")


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: no other writer is fast enough to measure with")
    folder = tmp_path_factory.mktemp("writer")
    (folder / "writer.c").write_text(WRITER)
    subprocess.run([compiler, "-O2", "-o", str(folder / "writer"), str(folder / "writer.c")], check=True)
    return str(folder / "writer")


@pytest.mark.bench
def test_a_million_lines_one_by_one(keeper: Keeping, writer: str, record_property: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    subprocess.run(["sh", "-c", f"{writer} | cat > {keeper.config.data}/plain"], check=True)
    plain = time.monotonic() - started  # what the machine needs for it just now
    pid = keeper.wait_for("logger")
    cpu, started = cpu_seconds(pid), time.monotonic()
    container, _pid = keeper.run(writer, max_size=1 << 30)
    keeper.wait(container)
    seconds = time.monotonic() - started
    record_property("seconds", seconds)
    record_property("logger_cpu_seconds", cpu_seconds(pid) - cpu)
    print(f"1,000,000 lines of 64 B: {seconds:.2f} s (into cat: {plain:.2f} s), logger {cpu_seconds(pid) - cpu:.2f} s of cpu")
    started = time.monotonic()
    read = sum(map(len, LogReader(keeper.log_dir(container))))
    speed = read / (time.monotonic() - started)
    print(f"read as frames: {speed / 1e6:.0f} MB/s")
    record_property("read_mb_per_s", speed / 1e6)
    assert read > 64 * LINES
    assert seconds < max(1.4, 2 * plain) and speed > 500e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
