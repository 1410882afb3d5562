"""The filter that a container's process really has, call by call, beside Docker's and Debian's own."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator

import pytest

from engine.model.capabilities import DEFAULT
from engine.spec.seccomp import compile_profile, default_profile
from tests.engine.runtime.launching import Host, host

from . import filters

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

# Where we answer otherwise than Docker 28.5.2 on Debian, and why
HARDER = {"socket(0x26)"}  # AF_ALG: the host's crypto code, which no namespace keeps apart; later releases of moby refuse it, too
# Calls that its profile names and its libseccomp (2.5) does not know yet, so that it answers as if they were not named
NEWER = {
    "getxattrat", "listmount", "listxattrat", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mseal", "removexattrat",
    "setxattrat", "statmount", "uretprobe",
}  # fmt: skip
DANGEROUS = (
    "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "mount", "umount2", "pivot_root", "move_mount",
    "open_tree", "fsopen", "fsmount", "mount_setattr", "setns", "unshare", "swapon", "swapoff", "reboot", "syslog", "acct", "quotactl",
    "settimeofday", "clock_settime", "iopl", "ioperm", "open_by_handle_at", "lookup_dcookie", "nfsservctl", "move_pages", "migrate_pages",
    "uselib", "ustat", "sysfs", "vhangup", "sethostname", "setdomainname", "kcmp", "pidfd_getfd", "process_madvise", "fanotify_init",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


def loaded(pid: int) -> list[bytes]:
    try:
        return filters.of_process(pid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EACCES, errno.EIO):
            pytest.skip(f"this kernel does not show filters ({error.strerror}): CONFIG_CHECKPOINT_RESTORE")
        raise


def test_the_process_has_exactly_the_filters_that_were_compiled(engine: Host) -> None:
    own = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})
    with engine.running("sleep", "60", seccomp=own) as container:
        oldest, newest = loaded(container.pid)
    assert oldest == compile_profile(default_profile(DEFAULT))
    assert filters.word(filters.runs(newest)(filters.X86_64, 83)) == "EPERM"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_the_dangerous_calls_are_refused_on_every_abi() -> None:
    answer = filters.ours()
    for arch, abi in ((filters.X86_64, "x86_64"), (filters.I386, "i386"), (filters.X86_64, "x32")):
        numbers = filters.table(abi)
        allowed = [name for name in DANGEROUS if name in numbers and filters.word(answer(arch, numbers[name])) == "allow"]
        assert allowed == [], abi


@pytest.mark.skipif(not os.environ.get("TEST_REFERENCE"), reason="TEST_REFERENCE names no other engine (unix:///…)")
def test_every_call_is_answered_as_docker_answers_it() -> None:
    with filters.docker_container(os.environ["TEST_REFERENCE"]) as pid:
        theirs = filters.runs(loaded(pid)[0])
    rows = filters.compare({"ours": filters.ours(), "theirs": theirs})
    differing = {call for _abi, call, answers in rows if len(set(answers.values())) > 1}
    for call in sorted(differing):
        print(call, "harder" if call in HARDER else "newer than its libseccomp" if call in NEWER else "UNEXPLAINED")
    assert differing - HARDER - NEWER == set()
    assert len(rows) > 800
