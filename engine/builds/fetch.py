"""Fetches one thing of the network for a build: ``python -S -m engine.builds.fetch``, a process of its own in the tenant's network.

Whoever names an address in a Dockerfile shall reach what the tenant's containers reach, and nothing else: so this process leaves the host's
network namespace first, gets a veth on the tenant's bridge like a container, and then gives up being root for the tenant's own id.

    us → asker   {"ready": true}\\n                when the namespaces are new
    asker → us   {"uid", "resolv_conf", "what": "url" | "git", …}\\n        when the network is there
    us → asker   {"ok": {…}}\\n and the bytes      url: {"name", "mtime_s", "size" or -1}; git: {"commit"}, its checkout in ``folder``
                 {"error": sentence}\\n
"""

from __future__ import annotations

import email.utils
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from engine.kernel import mounts, processes, syscalls
from engine.kernel.syscalls import MS, Clone

_CHUNK: Final = 256 << 10
_TIMEOUT_S: Final = 30.0  # without a byte
_AGENT: Final = "slipway-builder"
_FOLDER: Final = "/tmp"


def main() -> int:
    processes.die_with_parent()
    syscalls.unshare(Clone.NEWNET | Clone.NEWIPC | Clone.NEWUTS)
    mounts.private_namespace()
    _say({"ready": True})
    line = sys.stdin.buffer.readline()
    if not line:
        return 1
    asked = json.loads(line)
    try:
        syscalls.mount(asked["resolv_conf"], "/etc/resolv.conf", "none", MS.BIND)
        if asked["what"] == "git":  # no path of the platform's is open to this process: the folder is where everybody's /tmp was
            syscalls.mount(asked["folder"], _FOLDER, "none", MS.BIND)
    except OSError as error:
        _say({"error": f"the host cannot fetch anything: {error}"})
        return 1
    _become(int(asked["uid"]))
    try:
        _url(asked["url"], int(asked["limit_bytes"])) if asked["what"] == "url" else _git(asked)
    except _Failed as error:
        _say({"error": str(error)})
    except BrokenPipeError:
        return 1
    return 0


class _Failed(Exception):
    pass


def _become(uid: int) -> None:
    """What is imported or looked up late is brought in before: the interpreter may lie where only root reads."""
    "host".encode("idna")
    ssl.create_default_context()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    processes.forbid_new_privileges()
    processes.die_with_parent()  # the change of ids took it back
    os.umask(0o022)


def _say(words: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(words).encode() + b"\n")
    sys.stdout.buffer.flush()


# -- http ------------------------------------------------------------------------------------------


def _url(url: str, limit_bytes: int) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameKind())
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            size = answer.headers.get("Content-Length") or ""
            length = int(size) if size.isdecimal() else -1
            if length > limit_bytes:
                raise _Failed(f"{url} is larger than {limit_bytes} bytes, the limit of this host")
            _say({"ok": {"name": _name(url, answer.headers), "mtime_s": _mtime(answer.headers), "size": length}})
            _copy(answer, url, length, limit_bytes)
    except urllib.error.HTTPError as error:
        raise _Failed(f"failed to GET {url} with status {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _Failed(f"failed to GET {url}: {error.reason}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise _Failed(f"failed to GET {url}: {error}") from None


def _copy(answer: Any, url: str, length: int, limit_bytes: int) -> None:
    """Each piece is preceded by its length as a line; 0 ends them, so that a cut is seen."""
    done, out = 0, sys.stdout.buffer
    while data := answer.read(_CHUNK):
        done += len(data)
        if done > limit_bytes:
            break
        out.write(b"%d\n" % len(data) + data)
    if done <= limit_bytes and (length < 0 or done == length):
        out.write(b"0\n")
    out.flush()


class _SameKind(urllib.request.HTTPRedirectHandler):
    """A redirect stays with HTTP."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise _Failed(f"{req.full_url} leads to {newurl}: only http and https are followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _name(url: str, headers: Any) -> str:
    """Of the file: the path's end, else what the server says; "" when nobody says."""
    path = unquote(urlsplit(url).path)
    if path and not path.endswith("/"):
        return PurePosixPath(path).name
    said = headers.get_filename() or ""
    return PurePosixPath(said).name if said and not said.endswith("/") else ""


def _mtime(headers: Any) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(headers.get("Last-Modified") or "").timestamp())
    except (TypeError, ValueError, IndexError):
        return 0


# -- git -------------------------------------------------------------------------------------------


def _git(asked: dict[str, Any]) -> None:
    """Only what was named is fetched: one commit of one branch, tag or digest."""
    folder, remote, ref = _FOLDER, asked["remote"], asked["ref"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": folder,
        "GIT_ALLOW_PROTOCOL": "http:https:git",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_ASKPASS": "true",
        "LANG": "C.UTF-8",
    }
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.symlinks=true", "-c", "protocol.ext.allow=never"]

    def git(*words: str) -> str:
        try:
            done = subprocess.run(
                ["git", *safe, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False
            )
        except FileNotFoundError:
            raise _Failed("git is not installed on this host: its operator has to (apt-get install git)") from None
        except subprocess.TimeoutExpired:
            raise _Failed(f"unable to 'git clone' to temporary context directory: {remote} took too long") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise _Failed(f"unable to 'git clone' to temporary context directory: error fetching: {said[-1000:]}")
        return done.stdout.decode(errors="replace").strip()

    git("init", "--quiet", ".")
    git("remote", "add", "--", "origin", remote)
    try:
        git("fetch", "--quiet", "--depth", "1", "--no-tags", "--", "origin", ref or "HEAD")
        found = "FETCH_HEAD"
    except _Failed:  # a server that gives no part of a history, or does not know what is meant: the short form of a commit
        git("fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*")
        if not ref:
            with suppress(_Failed):
                git("remote", "set-head", "origin", "--auto")
        found = _named(git, ref)
    git("checkout", "--quiet", "--force", "--detach", found)
    git("submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1")
    _say({"ok": {"commit": git("rev-parse", "HEAD")}})


def _named(git: Callable[..., str], ref: str) -> str:
    """What a reference means when all branches and tags are here."""
    branches = [ref] if ref else ["HEAD", "main", "master"]
    for candidate in (*(f"refs/remotes/origin/{branch}" for branch in branches), *((f"refs/tags/{ref}", ref) if ref else ())):
        try:
            return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}")
        except _Failed:
            continue
    raise _Failed(f"unable to 'git clone' to temporary context directory: pathspec '{ref}' did not match any file(s) known to git")


if __name__ == "__main__":
    sys.exit(main())
