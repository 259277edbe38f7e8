"""`agentctl logs`: what a script wrote, as bytes, to where the script wrote it.

With `-f` it stays until the action has ended, also across a restart of agentd: it knows which
byte it printed last and asks for the next one. Without, it ends with what was there when it began.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import click

from agent.cli import completing
from agent.cli.api_client import ApiClient, segment
from agent.cli.door import Node
from agent.cli.exits import INTERRUPTED, UNREACHABLE, Failure
from agent.cli.node_commands.command import node_command

NOT_STARTED = "0"
STREAMS = ("stdout", "stderr", "both")
AWAY_S_MAX = 60.0  # so long may a restart of agentd take while somebody follows
AWAY_AGAIN_S = 0.1
IDLE_S_MAX = 30.0  # then it is asked anew: a hung agentd is told from a silent script


@click.command("logs")
@click.argument("action_id", metavar="ID", shell_complete=completing.action_ids)
@click.option(
    "-f", "--follow", is_flag=True, help="From the first byte until the action has ended."
)
@click.option("--stream", type=click.Choice(STREAMS), help="Only this one, to stdout; `both` in "
              "the order in which they were written.")  # fmt: skip
@node_command
def command(node: Node, action_id: str, follow: bool, stream: str | None) -> None:
    """Print what an action's script wrote: its stdout to stdout, its stderr to stderr."""
    places: list[tuple[str, IO[bytes]]] = [
        (stream or "stdout", sys.stdout.buffer),
        *([] if stream else [("stderr", sys.stderr.buffer)]),
    ]
    readers = [Reader(node, action_id, name, place, follow=follow) for name, place in places]
    try:
        if follow:
            _side_by_side(readers)
        else:
            for reader in readers:
                reader.run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    failed = next((reader.failure for reader in readers if reader.failure is not None), None)
    if failed is not None:
        raise failed


def _side_by_side(readers: list[Reader]) -> None:
    threads = [threading.Thread(target=reader.run, daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # in slices, so that Ctrl-C is heard


class Reader:
    """One stream of one action, from its first byte on."""

    def __init__(
        self, node: Node, action_id: str, stream: str, place: IO[bytes], *, follow: bool
    ) -> None:
        self._node = node
        self._action = f"/v1/actions/{segment(action_id)}"
        self._stream = stream
        self._place = place
        self._follow = follow
        self._attempt: str | None = None
        self._offset = 0
        self._end: int | None = None
        self._enough = False
        self._away_since: float | None = None
        self.failure: Failure | None = None

    def run(self) -> None:
        """Until the end of the output; a `Failure` is kept for the caller."""
        while not self._enough:
            try:
                if not self._node.ask(self._one_answer):
                    return
            except Failure as error:
                self._away_since = self._away_since or time.monotonic()
                waited_s = time.monotonic() - self._away_since
                if not self._may_come_back(error) or waited_s > AWAY_S_MAX:
                    self.failure = error
                    return
                time.sleep(AWAY_AGAIN_S)

    def _may_come_back(self, error: Failure) -> bool:
        return self._follow and (error.exit_code == UNREACHABLE or error.code == "unavailable")

    def _one_answer(self, api: ApiClient) -> bool:
        """Print one answer of the API; False once it had nothing more to say.

        An answer holds bytes without a gap of one attempt; where a gap or a new attempt follows,
        it ends, and the next one says at which offset it goes on.
        """
        query: dict[str, Any] = {
            "stream": self._stream,
            "offset": self._offset,
            "follow": self._follow,
        }
        with api.stream(f"{self._action}/output", idle_s_max=IDLE_S_MAX, **query) as answer:
            self._away_since = None
            attempt = answer.headers.get("X-Output-Attempt")
            if self._attempt not in (None, attempt):
                self._begin_attempt(attempt)
                return True
            self._attempt = attempt
            start = int(answer.headers.get("X-Output-Offset", self._offset))
            if start > self._offset:
                why = "pruned since" if answer.headers.get("X-Output-Pruned") else "not kept"
                self._note(f"{start - self._offset} bytes were {why}")
            moved = start != self._offset or attempt == NOT_STARTED
            self._offset = start
            if self._end is None and not self._follow:
                self._end = int(answer.headers.get("X-Output-Total", start))
            moved = self._print(answer.chunks) or moved
        return moved or (self._follow and not self._is_over(api))

    def _is_over(self, api: ApiClient) -> bool:
        """Whether the attempt whose output was read is the last one, for good."""
        action = api.get(self._action)
        is_final = action["execution_status"] not in ("NULL", "STARTED")
        return self._enough or (is_final and str(action["attempt"]) == self._attempt)

    def _print(self, chunks: Iterator[bytes]) -> bool:
        printed = False
        for whole in chunks:
            chunk = whole if self._end is None else whole[: max(0, self._end - self._offset)]
            try:
                self._place.write(chunk)
                self._place.flush()
            except BrokenPipeError:  # the reader of ours has enough; not the API's doing
                self._enough = True
                return False
            self._offset += len(chunk)
            printed = True
            if self._end is not None and self._offset >= self._end:
                self._enough = True  # a script that writes on would never let it end
                return False
        return printed

    def _begin_attempt(self, attempt: str | None) -> None:
        if self._attempt != NOT_STARTED:
            self._note(f"attempt {attempt} follows")
        self._attempt, self._offset, self._end = attempt, 0, None

    def _note(self, text: str) -> None:
        click.echo(f"agentctl: [{self._stream}: {text}]", err=True)
