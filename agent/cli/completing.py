"""What a shell may complete, asked of the daemon: ids and kinds.

Quick, and silent where nothing answers: whoever presses Tab waits, and reads no error there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.door import SOCKET_FILE, STATE_DIR_DEFAULT

if TYPE_CHECKING:  # the commands import this file for its names, and complete nothing themselves
    from click.shell_completion import CompletionItem

    from agent.cli.api_client import ApiClient

ANSWER_S_MAX = 0.5
OFFERED_MAX = 100
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _offering(find: Callable[[ApiClient], Iterable[tuple[str, str]]]) -> Completer:
    """A completer of what `find` yields as (word, help)."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        from agent.cli.api_client import ApiClient, ApiRefused, Unreachable  # noqa: PLC0415

        try:
            found = list(find(ApiClient(_socket(context), timeout_s=ANSWER_S_MAX)))
        except (Unreachable, ApiRefused, KeyError, TypeError):
            return []  # nobody there, or a daemon of another version
        return [CompletionItem(word, help=help_) for word, help_ in found
                if word.startswith(incomplete)]  # fmt: skip

    return complete


def _socket(context: click.Context) -> Path:
    given = context.params.get("state_dir") or context.find_root().params.get("state_dir")
    named = given or os.environ.get("AGENT_STATE_DIR") or STATE_DIR_DEFAULT
    return Path(named).expanduser().absolute() / SOCKET_FILE


def _actions(*views: str) -> Callable[[ApiClient], Iterable[tuple[str, str]]]:
    def find(api: ApiClient) -> Iterable[tuple[str, str]]:
        for view in views:
            for one in api.get("/v1/actions", view=view, limit=OFFERED_MAX)["actions"]:
                yield one["id"], f"{one['kind']}, {one['phase']}"

    return find


def _rules(api: ApiClient) -> Iterable[tuple[str, str]]:
    for one in api.get("/v1/recurring", limit=OFFERED_MAX)["recurring"]:
        yield one["id"], f"{one['kind']}, {one['state']}"


def _kinds(api: ApiClient) -> Iterable[tuple[str, str]]:
    for one in api.get("/v1/kinds")["kinds"]:
        yield one["kind"], one["description"]


def _brakes(api: ApiClient) -> Iterable[tuple[str, Any]]:
    for one in api.get("/v1/brake")["brakes"]:
        yield str(one["id"]), one["reason"]


action_ids = _offering(_actions("queue", "finished"))
waiting_ids = _offering(_actions("queue"))
ended_ids = _offering(_actions("finished"))
rule_ids = _offering(_rules)
kinds = _offering(_kinds)
brake_ids = _offering(_brakes)
