"""Manifests: strict, all faults together, and nothing that is asked for is silently ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner.manifest import DEFAULTS, parse_manifest

FULL = """
description = "Redeploys"
risk_level = "guarded"
mode = "hold"
parallel = true
timeout_s = 30
grace_s = 0.5
on_restart = "never"
retry = { max_attempts = 3, delay_s = 1, backoff = 1.5, max_delay_s = 60 }
dry_run = true
rollback = "undo"
leftovers = "leave"
user = "deploy"
limits = { cpu_s = 60, memory_bytes = "512M", files = 100, output_bytes = 65536 }
[payload_schema]
type = "object"
"""


def test_every_key_is_read() -> None:
    manifest, faults = parse_manifest(FULL.encode())
    assert faults == []
    assert set(manifest) == set(DEFAULTS)
    assert all(manifest[key] != DEFAULTS[key] for key in DEFAULTS)
    assert manifest["payload_schema"] == {"type": "object"}
    assert manifest["limits"]["memory_bytes"] == 512 << 20


def test_an_empty_one_is_the_defaults() -> None:
    assert parse_manifest(b"") == (DEFAULTS, [])


def test_a_schema_may_be_a_string_of_json() -> None:
    manifest, faults = parse_manifest(b"""payload_schema = '{"default": null}'""")
    assert (manifest["payload_schema"], faults) == ({"default": None}, [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("timeout = 3", "timeout is unknown; did you mean timeout_s?"),
        ("zzz = 3", "zzz is unknown; known are"),
        ("user = 'Root'", "user is 'Root'; it must be the name of an account"),
        ("user = 0", "user is 0; it must be the name of an account"),
        ("limits = 3", "limits must be a table"),
        ("[limits]\nmemory = 3", "limits.memory is unknown"),
        ("[limits]\nmemory_bytes = '1X'", 'or a text such as "512M"'),
        ("[limits]\nmemory_bytes = 1", "from 4194304"),
        ("[limits]\nfiles = 1\ncpu_s = 0", "files is 1; it must be an integer from 16"),
        ("[limits]\nfiles = 1\ncpu_s = 0", "cpu_s is 0; it must be an integer from 1"),
        ("mode = 'daemon'", "mode is 'daemon'; it must be task or hold"),
        ("timeout_s = 0", "timeout_s is 0; it must be a number above 0"),
        ("timeout_s = true", "timeout_s is True"),
        ("timeout_s = nan", "timeout_s is nan"),
        ("grace_s = -1", "grace_s is -1"),
        ("parallel = 1", "parallel is 1; it must be true or false"),
        ("[retry]\nmax_attempts = 0\nnope = 1", "retry.max_attempts is 0"),
        ("[retry]\ndelay = 1", "did you mean delay_s?"),
        ("payload_schema = '['", "payload_schema is not a JSON object"),
        ("payload_schema = '[]'", "payload_schema is not a JSON object"),
        ("[payload_schema]\nx = 2020-01-01", "payload_schema is not a JSON object"),
        ("x = ", "is not TOML"),
    ],
)
def test_faults_name_the_value_and_the_way_out(text: str, fault: str) -> None:
    _, faults = parse_manifest(text.encode())
    assert any(fault in found for found in faults), faults


def test_all_faults_at_once() -> None:
    _, faults = parse_manifest(b"mode = 'x'\ntimeout = 1\nuser = '-a'\nparallel = 'y'")
    assert len(faults) == 4


def test_bytes_that_are_no_text() -> None:
    assert parse_manifest(b"\xff")[1] == ["is not UTF-8 (byte 0)"]


@given(st.dictionaries(st.sampled_from([*DEFAULTS, "x"]), st.sampled_from(["1", "true", "'a'"])))
def test_no_value_gets_past_with_a_wrong_type(table: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in table.items())
    manifest, _ = parse_manifest(text.encode())
    expected: dict[str, Any] = {"parallel": bool, "dry_run": bool, "description": str}
    assert all(isinstance(manifest[key], kind) for key, kind in expected.items())


def test_a_limit_below_the_schema_s_table_is_told_not_lost() -> None:
    table = b'[payload_schema]\ntype = "object"\n'
    _, faults = parse_manifest(table + b'timeout_s = 1\non_restart = "never"\n')
    assert faults == ["on_restart, timeout_s stands in payload_schema; move it above the table"]
    assert parse_manifest(table + b'description = "of the schema"\n')[1] == []
