"""What every subcommand of `agentctl` has in common: the node it talks to, and `--json`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from agent.cli.door import Node
from agent.cli.exits import told_to_the_shell


def node_command(function: Callable[..., None]) -> Callable[..., None]:
    """Hands the command its `Node` first; `--json` and `--state-dir` may also stand behind it."""

    @click.option("--state-dir", metavar="DIR", help="agentd's state directory.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
    @wraps(function)
    def command(state_dir: str | None, as_json: bool, **given: Any) -> None:
        before = click.get_current_context().find_root().params
        node = Node(
            state_dir or before.get("state_dir"), as_json=as_json or bool(before.get("as_json"))
        )
        with told_to_the_shell():
            function(node, **given)

    return command
