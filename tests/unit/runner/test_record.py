"""The run file: what is written is read back, and damage reads as absence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner import record
from agent.runner.catalogue import Script
from agent.runner.limits import INTEGER_MAX, RECORD_FILE_BYTES
from agent.runner.manifest import DEFAULTS
from agent.runner.names import Key
from agent.runner.output import OutputKeeper, Segment
from agent.runner.run import Ended, Run, exit_record, failure_record, start_marker

VALUES: dict[str, Any] = {
    "id": "x" * 128, "attempt": INTEGER_MAX, "kind": "k" * 64, "timeout_s": None,
    "grace_s": None, "stop_at": None,
}  # fmt: skip
KEY = Key(INTEGER_MAX, INTEGER_MAX)
MARKER = start_marker(KEY, VALUES, record.STATE_START, "b" * 36, INTEGER_MAX, is_left=False)


def test_a_file_is_read_back_and_has_its_whole_size() -> None:
    failure = failure_record(KEY, VALUES, "exec_failed", "why", 1.5)
    data = record.encode_file(MARKER, failure)
    assert len(data) == RECORD_FILE_BYTES == len(record.encode_file(MARKER))
    assert record.decode_file(data) == (MARKER, None, None, failure)
    assert record.has_exit(data)
    assert not record.has_exit(record.encode_file(MARKER))


def test_the_largest_values_fit_their_slots() -> None:
    record.encode_slot(record.MARKER, MARKER)
    failure = failure_record(KEY, VALUES, "dry_run_unsupported", "\U0001f600\0\udcff" * 500, 1e15)
    record.encode_slot(record.EXIT, failure)
    run = Run(KEY, VALUES, Script(0, "", "d" * 64, dict(DEFAULTS)))
    run.pid, run.started_at, run.stop_cause, run.timed_out_after_s = 2**22, 1e15, "x" * 17, 1e9
    run.stopped_at = run.killed_at = 1e15
    for name in ("stdout", "stderr"):
        output = OutputKeeper(-1, KEY, "stdout")
        output.total = INTEGER_MAX
        output.segments = [Segment(INTEGER_MAX, 1) for _ in range(3)]
        run.outputs[name] = output
    record.encode_slot(record.EXIT, exit_record(run, Ended(None, 64, 1e15, 1e9)))
    record.encode_slot(record.STOP, {"cause": "cancelled_on_node", "at": 1e15})
    process = {"pid": 2**22, "started": INTEGER_MAX, "started_at": 1e15}
    record.encode_slot(record.PROCESS, process)


def test_what_does_not_fit_is_an_error_and_no_half_slot() -> None:
    with pytest.raises(ValueError, match="exceeds its slot"):
        record.encode_slot(record.STOP, {"cause": "x" * 300})


@given(st.integers(0, RECORD_FILE_BYTES - 1), st.integers(0, 255))
def test_a_flipped_byte_never_changes_what_is_read(position: int, byte: int) -> None:
    whole = record.encode_file(MARKER, failure_record(KEY, VALUES, "exec_failed", "why", 1.5))
    damaged = bytearray(whole)
    damaged[position] = byte
    for before, after in zip(
        record.decode_file(whole), record.decode_file(bytes(damaged)), strict=True
    ):
        assert after in (None, before)


@given(st.integers(0, RECORD_FILE_BYTES))
def test_a_cut_file_reads_as_what_is_whole(size: int) -> None:
    whole = record.encode_file(MARKER, failure_record(KEY, VALUES, "exec_failed", "why", 1.5))
    for before, after in zip(
        record.decode_file(whole), record.decode_file(whole[:size]), strict=True
    ):
        assert after in (None, before)


@given(st.binary(max_size=RECORD_FILE_BYTES))
def test_garbage_reads_as_nothing(data: bytes) -> None:
    assert record.decode_file(data) == (None, None, None, None)
