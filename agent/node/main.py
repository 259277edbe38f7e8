"""`agentd`: flags and a clear word when it cannot start; everything else is in `daemon`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from agent.domain.errors import AgentError, InvalidDocument
from agent.infra.logs import configure_logging
from agent.infra.memory import use_one_arena
from agent.node.settings import Settings, read_settings
from agent.version import VERSION

EXIT_USAGE = 2
EXIT_REFUSED = 5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", help="Where the node keeps its state.  [env: AGENT_STATE_DIR]")
@click.option("--scripts-dir", help="The catalogue: one executable per kind.")
@click.option("--agent-id", help="This node's name; the host's by default.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="For the core's selectors.")
@click.option("--core", help="The core's URL; without one the node works alone.")
@click.option("--enroll-token", help="Single-use token from `corectl enroll-token`.")
@click.option("--listen", help="HOST:PORT for the API besides the Unix socket.")
@click.option("--config", type=click.Path(dir_okay=False), help="A TOML file of settings.")
@click.version_option(VERSION, prog_name="agentd")
def main(config: str | None, **flags: Any) -> None:
    """Run actions on this node, on time, and remember what happened."""
    try:
        flags["labels"] = list(flags["labels"]) or None
        settings = read_settings(flags, os.environ, Path(config) if config else None)
    except InvalidDocument as error:
        for fault in error.faults:
            click.echo(f"agentd: {fault}", err=True)
        sys.exit(EXIT_USAGE)
    as_json = {"auto": None, "json": True, "text": False}[settings.log_format]
    configure_logging("agentd", json=as_json, level=settings.log_level)
    _start(settings)


def _start(settings: Settings) -> None:
    # After the flags are known to be good: the rest of the imports takes most of the start-up.
    from agent.node.daemon import run_daemon  # noqa: PLC0415

    os.umask(0o077)
    use_one_arena()
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not settings.scripts_dir.is_dir():
            raise AgentError(f"--scripts-dir {settings.scripts_dir} is not a directory")
        run_daemon(settings)
    except (AgentError, OSError) as error:
        click.echo(f"agentd: {error}", err=True)
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
