"""What became of every operation of this host, by operation id: so that the same id twice does the act once.

    engine/journal.db   operation(id text primary key, begun real, mark text, outcome text null)

``mark`` is what was true before the act, ``outcome`` the answer. SQLite in WAL mode without fsync: a killed worker loses
nothing, a power cut may lose the last seconds, and others than the containers' own files: an old answer is given with the state
of now (workers.operation). Rows go after an hour, far longer than anybody re-sends, or when there are too many.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

from engine import wire

KEEP_S: Final = 3600.0
KEEP_ROWS: Final = 500_000  # an hour at 140 a second; about 300 MiB
BUSY_S: Final = 5.0  # that a worker which is just ending may take
_TRIM_EVERY: Final = 1024  # operations

_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS operation(id TEXT PRIMARY KEY, begun REAL, mark TEXT, outcome TEXT) WITHOUT ROWID"


class Journal:
    """Safe for threads. Two statements of about 20 µs an operation."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = self._open(path)
        except sqlite3.OperationalError:  # another process has it
            raise
        except sqlite3.DatabaseError:  # cut off by a power loss: what it knew is worth less than a working host
            for stale in path.parent.glob(f"{path.name}*"):
                stale.unlink()
            self._db = self._open(path)
        self._since_trim = 0

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # the worker's alone (its lock file): a third of the system calls
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -512")  # KiB
        db.execute(_SCHEMA)
        db.execute("CREATE INDEX IF NOT EXISTS operation_begun ON operation(begun)")
        return db

    def find(self, operation: str) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
        """(mark, outcome) of an operation seen before, else None. An outcome of None: begun, and the worker died in it."""
        with self._lock:
            row = self._db.execute("SELECT mark, outcome FROM operation WHERE id = ?", (operation,)).fetchone()
        if row is None:
            return None
        return wire.decode(row[0]), None if row[1] is None else wire.decode(row[1])

    def begin(self, operation: str, mark: dict[str, Any]) -> None:
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO operation VALUES (?, ?, ?, NULL)", (operation, time.time(), wire.encode(mark)))
            self._since_trim += 1
            if self._since_trim >= _TRIM_EVERY:
                self._since_trim = 0
                self._trim()

    def finish(self, operation: str, outcome: dict[str, Any]) -> None:
        with self._lock:
            self._db.execute("UPDATE operation SET outcome = ? WHERE id = ?", (wire.encode(outcome), operation))

    def forget(self, operation: str) -> None:
        """For what may be tried again under the same id."""
        with self._lock:
            self._db.execute("DELETE FROM operation WHERE id = ?", (operation,))

    def close(self) -> None:
        self._db.close()

    def _trim(self) -> None:
        self._db.execute("DELETE FROM operation WHERE begun < ?", (time.time() - KEEP_S,))
        self._db.execute(
            "DELETE FROM operation WHERE begun <= (SELECT begun FROM operation ORDER BY begun DESC LIMIT 1 OFFSET ?)", (KEEP_ROWS,)
        )
