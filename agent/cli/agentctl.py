"""`agentctl`: this node, from a terminal or a script. Every subcommand is a file of its own.

A subcommand's file is loaded when it is called, so that `agentctl status` answers at once.
"""

from __future__ import annotations

from importlib import import_module

import click

from agent.cli.usage import TellingGroup
from agent.version import VERSION

COMMANDS = (
    "status", "list", "show", "why", "history", "logs", "run", "cancel", "retry", "recurring",
    "forecast", "pause", "resume", "drain", "brake", "kinds", "doctor", "sync", "completion",
)  # fmt: skip


class LazyGroup(TellingGroup):
    """Finds a subcommand as `agent.cli.node_commands.NAME:command`, at first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None; a close one is named in the error."""
        if cmd_name in COMMANDS:
            module = import_module(f"agent.cli.node_commands.{cmd_name}")
            found: click.Command = module.command
            return found
        import difflib  # noqa: PLC0415  (only a slip of the hand pays for it)

        close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
        if close:
            ctx.fail(f"No such command {cmd_name!r}; did you mean {close[0]!r}?")
        return None


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True
)
@click.option(
    "--state-dir", metavar="DIR",
    help="agentd's state directory.  [env: AGENT_STATE_DIR; default: /var/lib/node-agent]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@click.version_option(VERSION, prog_name="agentctl")
def main(state_dir: str | None, as_json: bool) -> None:
    """Ask this node's agentd what it does, and tell it what to do.

    Exit codes: 0 done, 1 the action failed (--wait) or a check did (doctor), 2 usage, 3 agentd
    cannot be reached (sync: or the core), 4 not found, 5 refused.
    """


if __name__ == "__main__":
    main()
