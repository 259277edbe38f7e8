"""The runner's socket from our side: what is asked goes out together, and silence has an end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.domain.ending import ExitRecord
from agent.node import runner_client
from agent.node.ports import RunKey, RunnerAway
from agent.node.runner_client import SocketRunner
from agent.node.runner_process import nothing_to_ensure

HELLO = {"ok": True, "protocol": 1, "version": "9", "pid": 1, "max_row": 0, "running": []}


class Listener:
    def __init__(self) -> None:
        self.lost = 0

    def run_exited(self, key: RunKey, record: ExitRecord) -> None: ...

    def runner_lost(self) -> None:
        self.lost += 1

    def kinds_changed(self) -> None: ...

    def survivors_found(self, key: RunKey | None, count: int) -> None: ...


class SilentRunner:
    """Answers hello and, if told so, everything else once it has read; keeps what it read."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.chunks: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.chunks.append(data)
            for line in data.splitlines():
                asked = json.loads(line)
                if asked["op"] == "hello" or self._answers:
                    answer = HELLO | {"n": asked["n"], "items": [], "state": "running"}
                    writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


async def connected(path: Path, runner: SilentRunner) -> tuple[SocketRunner, Listener]:
    await asyncio.start_unix_server(runner.serve, path)
    client, listener = SocketRunner(path, nothing_to_ensure), Listener()
    await client.connect(1, listener)
    return client, listener


def test_what_is_asked_together_is_sent_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        runner = SilentRunner(answers=True)
        client, _ = await connected(tmp_path / "sock", runner)
        keys = [RunKey(row, 1, f"a{row}") for row in range(1, 9)]
        found = await asyncio.gather(*(client.claim(key) for key in keys))
        assert len(found) == 8
        assert [chunk.count(b"\n") for chunk in runner.chunks] == [1, 8]
        await client.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_silent_runner_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_client, "ANSWER_S_MAX", 0.05)

    async def scenario() -> None:
        client, listener = await connected(tmp_path / "sock", SilentRunner(answers=False))
        with pytest.raises(RunnerAway, match=r"did not answer claim in 0\.05 s"):
            await client.claim(RunKey(1, 1, "a"))
        assert listener.lost == 1
        with pytest.raises(RunnerAway, match="no connection"):
            await client.claim(RunKey(1, 1, "a"))

    asyncio.run(asyncio.wait_for(scenario(), 10))
