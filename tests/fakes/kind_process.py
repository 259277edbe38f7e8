"""A kind's script started as the runner starts one, without the runner.

The law of this file: the contract of DESIGN §5 that a script can see, and nothing more — JSON in
a memfd on stdin, a clean environment, a session of its own, exec through a checked descriptor.
The runner's own behaviour (records, stops, limits) is tested with the runner.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs

from agent.runner.manifest import parse_manifest

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CATALOGUE = Path(__file__).parent / "kinds"
SHIPPED = Path(__file__).parents[2] / "scripts" / "actions"
END_WITHIN_S = 30


def compose_input(kind: str, payload: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
    """What a script finds on stdin, in the runner's order."""
    return {
        "id": "test-1",
        "kind": kind,
        "attempt": 1,
        "payload": payload,
        "metadata": {"seconds": 99, "note": 'a "payload": in quotes'},
        "app_names": [],
        "from_date": "2030-01-01T00:00:00Z",
        "to_date": None,
        "correlation_id": None,
        "rollback_reference": None,
        "dry_run": dry_run,
    }


def start_kind(
    script: Path,
    payload: dict[str, Any],
    *,
    dry_run: bool = False,
    progress: Path | None = None,
    stdin: bytes | None = None,
) -> subprocess.Popen[bytes]:
    """Starts it and returns at once. `stdin` replaces the composed input, for unusable ones."""
    given = compose_input(script.name, payload, dry_run=dry_run)
    environment = {
        "PATH": PATH,
        "HOME": "/",
        "LANG": "C.UTF-8",
        "AGENT_ACTION_ID": given["id"],
        "AGENT_KIND": script.name,
        "AGENT_ATTEMPT": "1",
        "AGENT_DRY_RUN": "1" if dry_run else "0",
        "AGENT_SCRIPT": str(script.absolute()),
    }
    if progress is not None:
        environment["AGENT_PROGRESS"] = str(progress)
    memory = os.memfd_create("stdin")
    descriptor = os.open(script, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.write(memory, json.dumps(given).encode() if stdin is None else stdin)
        os.lseek(memory, 0, os.SEEK_SET)
        return subprocess.Popen(
            [str(script)],
            executable=f"/proc/self/fd/{descriptor}",
            pass_fds=[descriptor],
            stdin=memory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(memory)
        os.close(descriptor)


def run_kind(
    script: Path,
    payload: dict[str, Any],
    *,
    dry_run: bool = False,
    progress: Path | None = None,
    stdin: bytes | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end; what it wrote must be UTF-8."""
    process = start_kind(script, payload, dry_run=dry_run, progress=progress, stdin=stdin)
    with ended(process):
        out, err = process.communicate(timeout=END_WITHIN_S)
    return subprocess.CompletedProcess(script, process.returncode, out.decode(), err.decode())


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Whatever the test finds, the process it started is gone afterwards."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_progress(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def install_kind(place: Path, script: Path) -> Path:
    """A scripts directory of its own with that kind, as the node's owner would make one."""
    directory = place / "scripts.d"
    (directory / "healthchecks.d").mkdir(parents=True)
    for made in (directory, directory / "healthchecks.d"):
        made.chmod(0o755)
    copy = directory / script.name
    shutil.copyfile(script, copy)
    copy.chmod(0o755)
    return copy


def read_schema(script: Path) -> dict[str, Any]:
    """The payload's schema, from a manifest without faults, as the runner reads it."""
    manifest, faults = parse_manifest(script.with_name(f"{script.name}.toml").read_bytes())
    assert faults == []
    return dict(manifest["payload_schema"])


def accepts(script: Path, payload: dict[str, Any]) -> bool:
    """Whether the manifest's schema takes the payload, as the agent asks on acceptance."""
    return bool(jsonschema_rs.is_valid(read_schema(script), payload))
