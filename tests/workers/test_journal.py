from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from workers import journal
from workers.journal import Journal


def test_an_operation_goes_from_unknown_to_begun_to_finished(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.db")
    assert book.find("a") is None
    book.begin("a", {"seq": 3})
    assert book.find("a") == ({"seq": 3}, None)
    book.finish("a", {"ok": {}})
    assert book.find("a") == ({"seq": 3}, {"ok": {}})


def test_the_mark_of_the_first_beginning_stays(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.db")
    book.begin("a", {"seq": 3})
    book.begin("a", {"seq": 4})
    assert book.find("a") == ({"seq": 3}, None)


_KILLED = """
import os, signal, sys
from pathlib import Path
from workers.journal import Journal
Journal(Path(sys.argv[1])).begin("a", {})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_s_next_finds_what_was_written(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "journal.db")], check=False)
    assert Journal(tmp_path / "journal.db").find("a") == ({}, None)


def test_a_second_process_neither_reads_nor_breaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(tmp_path / "journal.db")
    book.begin("a", {})
    monkeypatch.setattr(journal, "BUSY_S", 0.1)
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "journal.db")
    assert book.find("a") == ({}, None)


def test_a_file_that_is_no_database_any_more_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"\0" * 9000)
    book = Journal(tmp_path / "journal.db")
    book.begin("a", {})
    assert book.find("a") == ({}, None)


def test_old_operations_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(tmp_path / "journal.db")
    book.begin("old", {})
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + journal.KEEP_S + 1)
    for number in range(1100):
        book.begin(str(number), {})
    assert book.find("old") is None
    assert book.find("1099") is not None


def test_too_many_operations_go_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEEP_ROWS", 100)
    book = Journal(tmp_path / "journal.db")
    for number in range(2048):
        book.begin(str(number), {})
    assert book.find("0") is None
    assert book.find("2047") is not None


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.db")

    def work(thread: int) -> None:
        for number in range(100):
            book.begin(f"{thread}.{number}", {})
            book.finish(f"{thread}.{number}", {"ok": number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(book.find(f"{thread}.99") == ({}, {"ok": 99}) for thread in range(16))
