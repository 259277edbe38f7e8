"""`corectl`: the fleet, from a terminal. Each command is a client of the core's API."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.core_commands.access import audit, tokens
from agent.cli.core_commands.actions import actions, cancel, history, show
from agent.cli.core_commands.again import reschedule, retry
from agent.cli.core_commands.approvals import approvals, approve, reject
from agent.cli.core_commands.context import URL_DEFAULT, CoreContext
from agent.cli.core_commands.dispatch import dispatch
from agent.cli.core_commands.fleet import decommission, freeze, freezes, label, nudge, thaw
from agent.cli.core_commands.nodes import agents, enroll_token
from agent.cli.core_commands.recurring import recurring
from agent.cli.core_commands.rules import rules
from agent.cli.core_commands.watch import events, watch
from agent.cli.core_commands.webhooks import webhooks
from agent.cli.output import Group, json_option
from agent.version import VERSION


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--core",
    envvar="CORE_URL",
    default=URL_DEFAULT,
    show_default=True,
    show_envvar=True,
    help="The core's URL.",
)
@click.option(
    "--token-file",
    envvar="CORE_TOKEN_FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    show_envvar=True,
    help="File with the operator's token.",
)
@json_option
@click.version_option(VERSION, prog_name="corectl")
@click.pass_context
def main(context: click.Context, core: str, token_file: Path | None, as_json: bool) -> None:
    """Operate the core: nodes, dispatch, actions.

    Exit codes: 0 done, 1 the action failed (--wait), 2 usage, 3 the core cannot be reached,
    4 not found, 5 refused.
    """
    context.obj = CoreContext(core, token_file)


COMMANDS: tuple[click.Command, ...] = (
    enroll_token,
    agents,
    label,
    nudge,
    freeze,
    thaw,
    freezes,
    decommission,
    dispatch,
    actions,
    show,
    cancel,
    reschedule,
    retry,
    history,
    recurring,
    approvals,
    approve,
    reject,
    rules,
    watch,
    events,
    webhooks,
    audit,
    tokens,
)
for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
