"""Backups and restores on real files: verified or not there at all, and bounded."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from agent.domain.lane import Lane
from agent.node.daemon import open_life
from agent.node.store import actions, backup
from agent.node.store.backup import BackupImpossible, list_backups, make_backup, verify
from agent.node.store.connection import open_for_writing
from agent.node.store.damage import StoreDamaged, StoreUnavailable, understand
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.restoring import CORRUPT_DIR, CORRUPT_KEPT, Opened, open_store, restore
from agent.node.store.threaded import ThreadedStore
from agent.node.store.versions import bring_up_to_date
from tests.integration.node.database import make_ledger
from tests.unit.domain.builders import NOW, make_definition

pytestmark = pytest.mark.timeout(60)
GO_ON = threading.Event()
PAGE = 4096


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "agent.db"
    with closing(open_for_writing(path)) as connection:
        bring_up_to_date(connection)
        add(connection, 20)
    return path


def add(connection: sqlite3.Connection, number: int) -> None:
    ledger = make_ledger()
    first = actions.next_row(connection)
    connection.execute("BEGIN")
    for name in range(first, first + number):
        definition = make_definition(id=f"a{name}", payload={"text": "x" * 500})
        ledger.accept(connection, definition, NOW, lane=Lane.EXCLUSIVE)
    connection.execute("COMMIT")


def open_quickly(database: Path) -> Opened:
    """Opened, closed again, and how it was opened."""

    async def run() -> Opened:
        opened = open_store(database.parent, NOW)
        await opened.store.close()
        return opened

    return asyncio.run(run())


def count(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM actions").fetchone()[0])


def test_a_backup_is_verified_private_and_whole(database: Path) -> None:
    made, verified = make_backup(database, NOW, 3, GO_ON)
    assert (verified.actions, verified.newest_seq) == (20, 20)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]
    assert (count(made.path), made.made_at) == (20, NOW)


def test_so_many_are_kept_whatever_the_clock_says(database: Path) -> None:
    moments = [NOW + timedelta(days=day) for day in (0, 400, 1, 2, 3)]
    numbers = [make_backup(database, moment, 3, GO_ON)[0].number for moment in moments]
    assert numbers == [1, 2, 3, 4, 5]
    assert [found.number for found in list_backups(database.parent)] == [5, 4, 3]


def test_the_writer_goes_on_and_the_copy_is_one_moment(database: Path) -> None:
    with closing(open_for_writing(database)) as writer:
        add(writer, 4_000)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                add(writer, 5)

        writing = threading.Thread(target=write)
        writing.start()
        try:
            made, verified = make_backup(database, NOW, 3, GO_ON)
        finally:
            stop.set()
            writing.join()
        add(writer, 1)
    assert 4_020 <= verified.actions < count(database)
    assert count(made.path) == verified.actions


def test_a_full_disk_is_seen_before(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "SPARE_BYTES", 2**62)
    with pytest.raises(BackupImpossible, match="make room"):
        make_backup(database, NOW, 3, GO_ON)
    assert list_backups(database.parent) == []


def test_stopping_drops_the_copy(database: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises((BackupImpossible, sqlite3.OperationalError)):
        make_backup(database, NOW, 3, stop)
    assert list((database.parent / "backups").iterdir()) == []


def test_killed_in_the_middle_there_is_no_half_backup(database: Path) -> None:
    """As a power cut: whatever moment it is, what has a backup's name verifies."""
    with closing(open_for_writing(database)) as writer:
        add(writer, 3_000)
    code = (
        "import sys, threading; from datetime import *; from pathlib import Path\n"
        "from agent.node.store.backup import make_backup\n"
        "print('on', flush=True)\n"
        "while True: make_backup(Path(sys.argv[1]), datetime.now(UTC), 2, threading.Event())\n"
    )
    rng = random.Random(5)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(database)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        time.sleep(rng.uniform(0.02, 0.25))
        process.kill()
        process.wait(10)
        process.stdout.close()
        for found in list_backups(database.parent):
            assert verify(found.path).actions == 3_020
    restored = restore(database.parent, "a test", NOW)
    assert restored.source is not None or list_backups(database.parent) == []


def overwrite_header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"\xa5" * 200)


def corrupt_a_page_in_the_middle(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // 2 // PAGE * PAGE)
        file.write(os.urandom(PAGE))


def truncate(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2 // PAGE * PAGE)


def empty(database: Path) -> None:
    os.truncate(database, 0)


def remove(database: Path) -> None:
    database.unlink()


def corrupt_all_but_the_first_page(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(PAGE)
        file.write(os.urandom(database.stat().st_size - PAGE))


DAMAGES = [overwrite_header, corrupt_a_page_in_the_middle, truncate, empty, remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_at_the_start(database: Path, damage: Callable[[Path], None]) -> None:
    made, _ = make_backup(database, NOW, 3, GO_ON)
    damage(database)
    opened = open_quickly(database)
    assert opened.restored is not None
    assert (opened.restored.source, opened.restored.covers) == (made.path.name, True)
    assert count(database) == 20
    assert open_quickly(database).restored is None


def test_whatever_the_log_held_does_not_reach_the_restored_one(database: Path) -> None:
    make_backup(database, NOW, 3, GO_ON)
    writer = open_for_writing(database)
    add(writer, 7)
    log = database.with_name("agent.db-wal")
    held = log.read_bytes()
    writer.close()
    log.write_bytes(held)
    truncate(database)
    assert open_quickly(database).restored is not None
    assert count(database) == 20


def test_a_database_without_its_log_and_tables_is_restored(database: Path) -> None:
    make_backup(database, NOW, 3, GO_ON)
    remove(database)
    sqlite3.connect(database).execute("PRAGMA journal_mode = WAL").connection.close()
    assert database.stat().st_size > 0
    assert open_quickly(database).restored is not None
    assert count(database) == 20


def test_a_rotten_backup_is_passed_over(database: Path) -> None:
    older, _ = make_backup(database, NOW, 3, GO_ON)
    newer, _ = make_backup(database, NOW, 3, GO_ON)
    corrupt_a_page_in_the_middle(newer.path)
    empty(database)
    restored = open_quickly(database).restored
    assert restored is not None
    assert (restored.source, restored.covers) == (older.path.name, False)
    assert newer.path.name in restored.passed_over[0]


def test_without_a_backup_it_begins_empty_and_keeps_the_old_one(database: Path) -> None:
    overwrite_header(database)
    before = database.read_bytes()
    restored = open_quickly(database).restored
    assert restored is not None
    assert restored.source is None
    assert restored.aside is not None
    assert (database.parent / restored.aside).read_bytes() == before
    assert count(database) == 0


def test_so_many_damaged_ones_are_kept(database: Path) -> None:
    make_backup(database, NOW, 3, GO_ON)
    for hour in range(CORRUPT_KEPT + 2):
        restore(database.parent, "a test", NOW + timedelta(hours=hour))
    assert len(list((database.parent / CORRUPT_DIR).iterdir())) == CORRUPT_KEPT


def test_a_new_node_begins_without_a_word(tmp_path: Path) -> None:
    opened = open_quickly(tmp_path / "agent.db")
    assert opened.restored is None


def test_a_restored_life_is_newer_than_any_other(database: Path) -> None:
    with closing(open_for_writing(database)) as connection:
        write_meta(connection, enrolled="n1", agent_epoch="old", generation=7)
    restored = restore_from_copy(database)
    with closing(open_for_writing(database)) as connection:
        meta = open_life(connection, "n1", random.Random(1).getrandbits, restored.restored)
    assert meta.generation > 1_000
    assert (meta.agent_epoch != "old", meta.state_owed) == (True, 1)


def restore_from_copy(database: Path) -> Opened:
    make_backup(database, NOW, 3, GO_ON)
    empty(database)
    return open_quickly(database)


def test_found_while_reading_and_while_writing(database: Path) -> None:
    async def run() -> None:
        store = ThreadedStore(database)
        told: list[str] = []
        store.on_damage = told.append
        corrupt_all_but_the_first_page(database)
        with pytest.raises(StoreDamaged):
            await store.read(lambda c: c.execute("SELECT sum(length(body)) FROM events").fetchall())
        with pytest.raises(StoreDamaged):
            await store.write(lambda c: write_meta(c, paused=1))
        with pytest.raises(StoreDamaged):
            await store.read(read_meta)
        assert len(told) == 1
        await store.close()

    asyncio.run(run())


def test_found_by_the_writer(database: Path) -> None:
    async def run() -> None:
        store = ThreadedStore(database)
        told: list[str] = []
        store.on_damage = told.append
        corrupt_all_but_the_first_page(database)
        with pytest.raises(StoreDamaged):
            await store.write(lambda c: c.execute("UPDATE actions SET reason = 'x'"))
        assert len(told) == 1
        await store.close()

    asyncio.run(run())


def test_an_emptied_file_is_damage_and_a_wrong_question_is_not(database: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as nothing:
        with pytest.raises(sqlite3.OperationalError) as lost:
            nothing.execute("SELECT * FROM actions")
        with pytest.raises(sqlite3.OperationalError) as wrong:
            nothing.execute("SELECT * FROM nowhere")
        with pytest.raises(sqlite3.OperationalError) as rotten:
            nothing.execute("SELECT CAST(x'ff' AS TEXT)").fetchone()
    assert isinstance(understand(lost.value), StoreDamaged)
    assert understand(wrong.value) is None
    assert isinstance(understand(rotten.value), StoreDamaged)


def test_a_failing_disk_is_waited_for() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR | 1 << 8
    found = understand(error)
    assert isinstance(found, StoreUnavailable)
    assert not isinstance(found, StoreDamaged)
