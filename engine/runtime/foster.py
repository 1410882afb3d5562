"""The foster: a parent for the containers of a killed keeper. ``python -m engine.runtime.foster [--detach]``

It makes the private mount namespace in which all tenants' id-mapped mounts live, becomes a subreaper, and forks the keeper;
then it only waits. When the keeper dies, its children become foster's: it notes each of their exits before reaping
(engine.runtime.exits) and forks the next keeper, at once the first time. A keeper that ends with 0 was asked to stop: so
does foster. One that ends with 75 was asked to make room for another code, which foster executes in its own process.

When foster itself is killed, the keeper becomes the foster (engine.runtime.keeper), so there are always two. Only when both
are killed at once do containers pass to init, where nobody notes how they end: a new keeper then asks the kernel, which
shows a zombie's exit code, or remembers it (Linux 6.15), and says 137 where it does neither.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterable

from engine.config import EngineConfig
from engine.disk import read_json
from engine.kernel import mounts, processes, scheduling, syscalls
from engine.runtime import keeper, lock
from engine.runtime.exits import ExitFile, Process, next_exit, reap, start_time
from engine.runtime.loop import say

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 5.0
HEALTHY_AFTER_S = 10.0
FIRST_FD = 3
OOM_SCORE_ADJ = -999  # proc(5): the kernel takes anybody else first


class Foster:
    def __init__(self, config: EngineConfig, lock_fd: int, *, renewed: bool) -> None:
        self._config, self._lock_fd, self._renewed = config, lock_fd, renewed
        self._exits = ExitFile(config.run / "foster.exits")

    def run(self, keeper_pid: int = 0) -> int:
        """Until the keeper was stopped. ``keeper_pid``: the one this process forked before it became the foster."""
        syscalls.prctl(syscalls.Prctl.SET_CHILD_SUBREAPER, 1)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        started, delay_s, due = time.monotonic(), 0.0, 0.0
        while True:
            if not keeper_pid and time.monotonic() >= due:
                if not self._owns_run_folder():
                    say("the run folder was removed: nothing is left to keep")
                    return 1
                keeper_pid, started = self._fork_keeper(), time.monotonic()
            while (found := next_exit()) is not None:
                pid, ended = found
                if pid != keeper_pid:
                    self._exits.append(Process(pid, start_time(pid)), ended)
                    reap(pid)
                    continue
                reap(pid)
                keeper_pid = 0
                if ended.exit_code == 0:
                    return 0
                if ended.exit_code == keeper.RENEW:
                    self._renew()  # returns only when that can't be: then with the present code
                if time.monotonic() - started > HEALTHY_AFTER_S:
                    delay_s = 0.0
                due = time.monotonic() + delay_s
                say(f"keeper {pid} ended: exit code {ended.exit_code}; the next one in {delay_s:.1f} s")
                delay_s = min(LAST_DELAY_S, max(FIRST_DELAY_S, 2 * delay_s))
            self._sleep(keeper_pid, due)

    def _sleep(self, keeper_pid: int, due: float) -> None:
        signals = {signal.SIGCHLD, signal.SIGTERM}
        if not keeper_pid:
            signal.sigtimedwait(signals, max(0.0, due - time.monotonic()))
        elif signal.sigwaitinfo(signals).si_signo == signal.SIGTERM:
            os.kill(keeper_pid, signal.SIGTERM)  # it stops when no container runs

    def _fork_keeper(self) -> int:
        foster = os.getpid()
        pid = os.fork()
        renewed, self._renewed = self._renewed, False
        if pid:
            return pid
        code = 1
        try:
            ending = keeper.main(self._config, self._exits, foster, renewed=renewed)
            code = self._take_over(ending.successor) if ending.successor else ending.exit_code
        except Exception:
            say(f"keeper failed: {traceback.format_exc()}")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _owns_run_folder(self) -> bool:
        """A folder that was removed may have been made again, and belong to another foster."""
        try:
            return os.path.samestat(os.stat(lock.path(self._config)), os.fstat(self._lock_fd))
        except FileNotFoundError:
            return False

    def _take_over(self, keeper_pid: int) -> int:
        """Foster died; this process was the keeper and has forked its successor, which holds all the descriptors now."""
        signal.set_wakeup_fd(-1)
        close_all_but({self._lock_fd, *self._exits.fds()})
        return self.run(keeper_pid)

    def _renew(self) -> None:
        """Executes the new code in this very process: it stays the parent of what it fosters, with lock and mounts."""
        wanted = read_json(self._config.run / "renew.json")
        if wanted is None:
            return
        env = {**os.environ, "PYTHONPATH": wanted["home"]}
        argv = [wanted["python"], "-S", "-m", "engine.runtime.foster"]
        try:
            trial = os.posix_spawn(argv[0], [*argv, "--check"], env, setsigmask=[])
            if os.waitstatus_to_exitcode(os.waitpid(trial, 0)[1]) != 0:
                say(f"{wanted['home']} does not work: the present code goes on")
                return
            os.set_inheritable(self._lock_fd, True)
            os.execve(argv[0], [*argv, "--renewed", str(self._lock_fd)], env)
        except OSError as error:
            os.set_inheritable(self._lock_fd, False)
            say(f"{wanted['home']} can't be executed: {error}; the present code goes on")


def close_all_but(kept: Iterable[int]) -> None:
    first = FIRST_FD
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def protect() -> None:
    """The last to be killed for want of memory, and many descriptors; as far as we are allowed to."""
    try:
        processes.set_oom_score_adj(os.getpid(), OOM_SCORE_ADJ)
    except PermissionError:
        pass  # no CAP_SYS_RESOURCE here: a value below the inherited one can't be had
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        wanted = max(hard, 1 << 20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (PermissionError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    config = EngineConfig.from_environment()
    words = sys.argv[1:]
    if words == ["--check"]:
        return 0
    os.umask(0o022)
    if words[:1] == ["--renewed"]:
        lock_fd = int(words[1])
        os.set_inheritable(lock_fd, False)
        return serve(config, lock_fd, renewed=True)
    close_all_but(())  # what the one who starts us left open is not ours to hold: a lock, a pipe that somebody reads to its end
    for folder in (config.run, config.data, config.data / "log"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if words == ["--detach"]:
        if os.fork():
            os._exit(0)
        os.setsid()
    os.chdir("/")
    taken = lock.take(config)
    if taken is None:
        say("another foster or keeper serves this run folder already")
        return 0
    protect()
    mounts.private_namespace()
    return serve(config, taken, renewed=False)


def serve(config: EngineConfig, lock_fd: int, *, renewed: bool) -> int:
    scheduling.prefer_session()  # the keeper's too, which is born in it
    gc.collect()
    gc.freeze()
    return Foster(config, lock_fd, renewed=renewed).run()


if __name__ == "__main__":
    sys.exit(main())
