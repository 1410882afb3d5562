"""What must be on the machine before the parts start: the user, the folders with their modes, the keys, Redis' configuration.

All of it is idempotent and happens at each ``up``: /run is empty after a reboot. Root writes no file by name in a folder that
another user may write; what such a user needs lies in <data>/etc.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import secrets
import stat
import subprocess
from pathlib import Path
from typing import Final

from engine import disk
from workers import witness
from workers.platform import parts
from workers.platform.places import REDIS_USER, USER, Places
from workers.platform.say import Refusal, step
from workers.platform.spawn import Identity

_DATABASE: Final = "slipway.sqlite3"
_REDIS_USERS: Final = ("panel", "host", "admin")
_MADE_USER: Final = "made-user"  # in <data>/etc: this platform created the unix user


def prepare(places: Places, release: Path) -> None:
    ensure_user(places)
    make_folders(places)
    make_keys(places)
    if places.private_redis:
        write_redis_configuration(places)
    migrate(places, release)
    if places.tls and places.panel_here:
        make_certificates(places, release)


def ensure_user(places: Places) -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        step(f"making the system user {USER}")
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", USER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refusal(f"useradd {USER} failed: {done.stderr.strip()}") from None
        places.etc.mkdir(mode=0o755, parents=True, exist_ok=True)
        (places.etc / _MADE_USER).touch()


def made_user(places: Places) -> bool:
    return (places.etc / _MADE_USER).exists()


def make_folders(places: Places) -> None:
    """Modes as engine/config.py and places.py draw them."""
    panel = parts.identity(USER)
    folders: list[tuple[Path, int, int, int]] = [
        (places.data, 0, 0, 0o755),
        (places.engine.engine, 0, 0, 0o700),
        (places.data / "content", 0, panel.gid, 0o750),
        (places.data / "content" / "blobs", 0, panel.gid, 0o750),
        (places.engine.blobs, 0, panel.gid, 0o750),
        (places.etc, 0, 0, 0o755),
        (places.data / witness.FOLDER, 0, panel.gid, 0o2750),
        (places.panel, panel.uid, panel.gid, 0o700),
        (places.log, 0, panel.gid, 0o2750),
        (places.run, 0, 0, 0o755),
        (places.run / "tenants", panel.uid, panel.gid, 0o711),
    ]
    if places.private_redis:
        redis = parts.identity(REDIS_USER)
        folders += [
            (places.redis_folder, redis.uid, redis.gid, 0o700),
            # set-group-id: the socket Redis makes in it belongs to the group slipway
            (places.run / "redis", redis.uid, panel.gid, 0o2710),
        ]
    for path, uid, gid, mode in folders:
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, uid, gid)
        path.chmod(mode)
    if places.private_redis and not places.redis_socket.is_symlink():
        places.redis_socket.unlink(missing_ok=True)
        places.redis_socket.symlink_to("redis/redis.sock")


def make_keys(places: Places) -> None:
    """The keys of Django, of sealed secrets and of the agent's tickets, readable by the panel's user; the passwords of Redis, by root."""
    panel = parts.identity(USER)
    for name in ("secret.key", "seal.key", "ticket.key"):
        if os.path.lexists(places.panel / name):
            _regain(places.panel / name, panel)
        else:
            give(places.panel / name, secrets.token_urlsafe(48).encode(), panel)
    if places.private_redis and not places.redis_key.exists():
        disk.write_json(places.redis_key, {user: secrets.token_hex(24) for user in _REDIS_USERS}, sync=True)


def give(path: Path, data: bytes, owner: Identity) -> None:
    """A new file for its owner alone in a folder that he may write: never through a name that he put there (a link to /etc/shadow)."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fchown(fd, owner.uid, owner.gid)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)


def _regain(path: Path, owner: Identity) -> None:
    """Its owner's again, also when root made it (a command run by hand); a link, hard or symbolic, to another file is left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.fchown(fd, owner.uid, owner.gid)
    finally:
        os.close(fd)


def write_redis_configuration(places: Places) -> None:
    """Three users, by role; ``default`` is off. What the host may touch: queues, answers and announcements, no session or channel."""
    redis = parts.identity(REDIS_USER)
    words = json.loads(places.redis_key.read_bytes())
    hashed = {user: hashlib.sha256(password.encode()).hexdigest() for user, password in words.items()}
    no_administration = "-@admin -@dangerous +keys +info"
    acl = [
        # nobody can be "default", but Redis reads its own append-only file as that user: without rights it would drop transactions
        "user default off resetpass ~* &* +@all",
        f"user panel on #{hashed['panel']} ~* &* +@all {no_administration}",
        f"user host on #{hashed['host']} ~host.* ~panel ~reply.* ~unacked.* ~_kombu.* &* +@all {no_administration} -keys",
        f"user admin on #{hashed['admin']} ~* &* +@all",
    ]
    configuration = [
        "port 0",
        f"unixsocket {places.run}/redis/redis.sock",
        "unixsocketperm 770",
        f"dir {places.redis_folder}",
        f"aclfile {places.etc}/users.acl",
        "appendonly yes",  # a queued task outlives a restart
        'save ""',  # the append-only file is the copy on disk
        "maxmemory-policy noeviction",
        "databases 1",
        "daemonize no",
        "always-show-logo no",
        "loglevel notice",
    ]
    for path, lines in ((places.etc / "users.acl", acl), (places.redis_conf, configuration)):
        disk.write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
        os.chown(path, 0, redis.gid)
        path.chmod(0o640)


def migrate(places: Places, release: Path) -> None:
    """The database's tables, as the panel's user. A SQLite file that this release has migrated is left alone: that saves a second."""
    mark, database = places.etc / "migrated", places.panel / _DATABASE
    if places.embedded_database:
        for path in (database, *(places.panel / f"{_DATABASE}-{suffix}" for suffix in ("wal", "shm"))):
            if os.path.lexists(path):
                _regain(path, parts.identity(USER))
        if database.exists() and mark.exists() and mark.read_text() == release.name:
            return
    step("bringing the database up to date")
    done = django(places, release, "migrate", "--no-input", "--verbosity", "0")
    if done.returncode:
        raise Refusal(f"the database could not be migrated: {last_line(done.stderr)}")
    mark.write_text(release.name)


def make_certificates(places: Places, release: Path) -> None:
    """The server's, as root; the panel makes its authority for clients itself."""
    from workers.platform import certificates

    if certificates.make(places):
        step(f"the certificate for TLS is for {', '.join((places.tls_folder / 'names').read_text().split())}")
    if not (places.panel / "clients.pem").exists():
        done = django(places, release, "context", "authority")
        if done.returncode:
            raise Refusal(f"the authority for clients' certificates could not be made: {last_line(done.stderr)}")


def django(places: Places, release: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """A management command as the panel's user."""
    panel = parts.identity(USER)
    return subprocess.run(
        [release / "venv" / "bin" / "python", "-m", "django", *words],
        cwd=release,
        env=places.panel_environment(release),
        user=panel.uid,
        group=panel.gid,
        extra_groups=panel.groups,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
