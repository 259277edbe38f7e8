"""What scripts write: kept under a cap, readable by offset, never in anybody's way."""

from __future__ import annotations

import json
import subprocess
import time
from base64 import b64decode
from pathlib import Path

import pytest

from agent.runner.limits import OUTPUT_CAP_BYTES, PROGRESS_FILE_BYTES_MAX
from tests.integration.runner.box import Box, wait_for
from tests.integration.runner.client import Client, Refused

pytestmark = pytest.mark.timeout(60)


def read_all(
    client: Client, row: int, stream: str = "stdout"
) -> tuple[list[tuple[int, bytes]], int]:
    """([(offset, bytes)] with adjacent pieces joined, total)."""
    pieces: list[tuple[int, bytes]] = []
    offset = 0
    while True:
        answer = client.ask("output", row=row, start_no=1, stream=stream, offset=offset)
        data = b64decode(answer["data"])
        if pieces and pieces[-1][0] + len(pieces[-1][1]) == answer["offset"]:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + data)
        elif data:
            pieces.append((answer["offset"], data))
        offset = answer["next_offset"]
        if answer["done"]:
            return pieces, answer["total"]


def numbers(count: int) -> bytes:
    return b"".join(b"%07d\n" % number for number in range(count))


WRITER = """#!/usr/bin/env python3
import sys
for start in range(0, {count}, 1000):
    sys.stdout.write("".join("%07d\\n" % n for n in range(start, min(start + 1000, {count}))))
"""


@pytest.mark.parametrize("count", [1, 8_192, 40_000, 500_000])
def test_head_and_tail_are_kept_and_readable(box: Box, count: int) -> None:
    box.kind("writes", WRITER.format(count=count))
    client = box.start()
    client.start(1, "writes")
    record = client.notice(1)["record"]
    expected = numbers(count)
    pieces, total = read_all(client, 1)
    assert total == len(expected) == record["output"]["stdout"]["bytes"]
    for offset, data in pieces:
        assert expected[offset : offset + len(data)] == data
    kept = sum(len(data) for _, data in pieces)
    assert kept == record["output"]["stdout"]["kept_bytes"] <= OUTPUT_CAP_BYTES
    assert pieces[0][0] == 0
    assert pieces[-1][0] + len(pieces[-1][1]) == total
    if total > OUTPUT_CAP_BYTES:
        assert len(pieces) == 2
        assert len(pieces[0][1]) == OUTPUT_CAP_BYTES // 2
        assert len(pieces[1][1]) >= OUTPUT_CAP_BYTES // 4
    else:
        assert kept == total
    on_disk = sum(path.stat().st_size for path in box.runs.glob("1.1.out*"))
    assert on_disk == kept


def test_a_running_script_s_output_can_be_followed(box: Box) -> None:
    box.kind("slow", f"echo one; while [ ! -e {box.path}/go ]; do sleep 0.02; done; echo two")
    client = box.start()
    client.start(1, "slow")

    def first() -> bytes:
        answer = client.ask("output", row=1, start_no=1, stream="stdout", offset=0)
        assert not answer["done"]
        return b64decode(answer["data"])

    wait_for(lambda: first() == b"one\n")
    (box.path / "go").touch()
    client.notice(1)
    answer = client.ask("output", row=1, start_no=1, stream="stdout", offset=4)
    assert (b64decode(answer["data"]), answer["done"]) == (b"two\n", True)


def test_output_of_an_unknown_outcome_is_what_the_files_say(box: Box) -> None:
    box.kind(
        "spews", WRITER.format(count=300_000) + "sys.stdout.flush()\nimport time\ntime.sleep(60)"
    )
    client = box.start()
    client.start(1, "spews")
    total = 300_000 * 8
    ask = {"row": 1, "start_no": 1, "stream": "stdout", "offset": 0}
    wait_for(lambda: client.ask("output", **ask)["total"] == total)
    box.kill()
    pieces, found = read_all(box.start(), 1)
    assert found == total
    assert [len(pieces), pieces[0][0]] == [2, 0]
    expected = numbers(300_000)
    assert all(expected[offset : offset + len(data)] == data for offset, data in pieces)


def test_no_output_no_files(box: Box) -> None:
    box.kind("true", "exit 0")
    client = box.start()
    client.start(1, "true")
    client.notice(1)
    assert sorted(path.name for path in box.runs.iterdir()) == [
        "1.1.run", "generation", "runner.lock",
    ]  # fmt: skip
    assert read_all(client, 1) == ([], 0)
    with pytest.raises(Refused, match="unknown_run"):
        client.ask("output", row=2, start_no=1, stream="stdout", offset=0)


def test_a_flood_disturbs_nobody(box: Box) -> None:
    box.kind("floods", "exec cat /dev/zero")
    box.kind("true", "exit 0")
    client = box.start()
    client.start(1, "floods")
    for row in range(2, 12):
        began = time.monotonic()
        client.start(row, "true")
        client.notice(row)
        assert time.monotonic() - began < 2
    client.ask("stop", row=1, start_no=1, id="a1", cause="withdrawn", grace_s=5)
    kept = client.notice(1)["record"]["output"]["stdout"]["kept_bytes"]
    on_disk = sum(path.stat().st_size for path in box.runs.glob("1.1.out*"))
    assert on_disk == kept <= OUTPUT_CAP_BYTES


def test_forget_removes_everything_but_what_runs(box: Box) -> None:
    box.kind("talks", 'echo x; echo y >&2; echo "{}" > "$AGENT_PROGRESS"')
    box.kind("spews", WRITER.format(count=100_000))
    box.kind("sleeps", "exec sleep 30")
    client = box.start()
    client.start(1, "talks")
    client.start(2, "spews")
    client.start(3, "sleeps")
    client.ask("claim", row=4, start_no=1, id="a4")
    client.notice(1)
    client.notice(2)
    assert client.ask("status")["uncollected"] == 2
    client.ask("collected", items=[[1, 1]])
    assert client.ask("status")["uncollected"] == 1
    items = [[row, 1] for row in (1, 2, 3, 4, 99)]
    assert client.ask("forget", items=items) == {"kept": [[3, 1]]}
    left = sorted(path.name for path in box.runs.iterdir())
    assert left == ["3.1.run", "generation", "runner.lock"]
    assert client.ask("status")["uncollected"] == 0


def test_progress_is_the_latest_whole_line(box: Box) -> None:
    box.kind(
        "reports",
        """printf '{"percent": 10}\\n{"percent": 40.5, "message": "half"}\\n{"perc' """
        f""">> "$AGENT_PROGRESS"; touch {box.path}/go; exec sleep 30""",
    )
    client = box.start()
    client.start(1, "reports")
    wait_for((box.path / "go").exists)
    assert client.ask("progress", items=[[1, 1], [2, 1]]) == {
        "items": [{"row": 1, "start_no": 1, "percent": 40.5, "message": "half"}]
    }


def test_a_progress_file_stays_bounded(box: Box) -> None:
    line = json.dumps({"percent": 1, "message": "x" * 100})
    box.kind(
        "reports",
        f"i=0; while [ $i -lt 2000 ]; do echo '{line}'; i=$((i+1)); done >> \"$AGENT_PROGRESS\";"
        f"""echo '{{"percent": 99}}' >> "$AGENT_PROGRESS"; exec sleep 30""",
    )
    client = box.start()
    client.start(1, "reports")
    path = box.runs / "1.1.progress"
    wait_for(lambda: client.ask("progress", items=[[1, 1]])["items"][0:1] and _is_99(client))
    wait_for(lambda: path.stat().st_size <= PROGRESS_FILE_BYTES_MAX)
    assert _is_99(client)


def test_what_was_written_to_it_at_the_very_end_is_bounded_too(box: Box) -> None:
    """Between two looks a script can write a gigabyte, and then it has ended."""
    text = '{"percent": 7}'
    flood = f'head -c 9000000 /dev/zero >"$AGENT_PROGRESS"; echo \'{text}\' >>"$AGENT_PROGRESS"'
    box.kind("floods", flood)
    client = box.start()
    client.start(1, "floods")
    client.notice(1)
    path = box.runs / "1.1.progress"
    wait_for(lambda: path.stat().st_size <= PROGRESS_FILE_BYTES_MAX)


def _is_99(client: Client) -> bool:
    return bool(client.ask("progress", items=[[1, 1]])["items"][0]["percent"] == 99)


def test_a_full_disk_loses_no_result(box: Box, tmp_path: Path) -> None:
    """A tmpfs of its own, in a mount namespace of its own, filled by the script itself."""
    mount = tmp_path / "state" / "runs"
    mount.mkdir(parents=True)
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c",
              f'mount -t tmpfs -o size=256k,mode=700 none {mount} && exec "$@"', "sh")  # fmt: skip
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    box.kind(
        "fills",
        'cd "${AGENT_PROGRESS%/*}"; cat /dev/zero > fill 2>/dev/null; echo full;'
        "head -c 300000 /dev/zero; echo end >&2; exit 3",
    )
    client = box.start(prefix=prefix)
    client.start(1, "fills")
    notice = client.notice(1)
    assert notice["record"]["code"] == 3
    assert notice["record"]["output"]["stdout"]["bytes"] == 5 + 300_000
    assert notice["record"]["output"]["stdout"]["kept_bytes"] < 300_000
    assert b64decode(notice["tail"]["stderr"]) == b"end\n"
    answer = client.ask("claim", row=1, start_no=1, id="a1")
    assert answer == {"state": "exited", "record": notice["record"]}
    answer = client.start(2, "fills")
    assert answer["record"]["spawn_error"]["code"] == "no_space"
    assert client.start(2, "fills") == answer
    with pytest.raises(Refused, match="unavailable"):
        client.ask("claim", row=3, start_no=1, id="a3")
    Path(f"/proc/{box.pid}/root{mount}/fill").unlink()
    assert client.ask("claim", row=3, start_no=1, id="a3") == {"state": "never_started"}
    assert client.start(2, "fills") == answer, "what failed once does not start later"
    assert client.start(4, "fills")["state"] == "running"
    assert client.notice(4)["record"]["code"] == 3


IN_TURNS = """#!/usr/bin/env python3
import fcntl, os, termios, time
def wait(fd):
    while any(fcntl.ioctl(fd, termios.FIONREAD, b"1234")):
        time.sleep(0.001)
for number in range(100):
    os.write(1, b"out %d\\n" % number)
    os.write(2, b"err %d\\n" % number)
    wait(1)
    wait(2)
"""


def test_what_comes_close_together_keeps_its_order(box: Box) -> None:
    """One line to each stream, then a pause: whoever was written to first is read first."""
    box.kind("turns", IN_TURNS)
    client = box.start()
    client.start(1, "turns")
    client.notice(1)
    pieces, _ = read_all(client, 1, "both")
    lines = b"".join(data for _, data in pieces).decode().splitlines()
    assert lines == [f"{name} {number}" for number in range(100) for name in ("out", "err")]
