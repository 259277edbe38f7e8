"""`cored`: flags and a clear word when it cannot start; everything else is in `app`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from agent.core.settings import Settings, read_settings
from agent.domain.errors import AgentError, InvalidDocument
from agent.infra.logs import configure_logging
from agent.version import VERSION

EXIT_USAGE = 2
EXIT_REFUSED = 5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", help="Where the core keeps its state.  [env: CORE_STATE_DIR]")
@click.option("--listen", help="HOST:PORT; 127.0.0.1:8080 by default.  [env: CORE_LISTEN]")
@click.option("--database", help="URL; core.db in the directory by default.  [env: CORE_DATABASE]")
@click.option("--rules-dir", help="Where rule files are.  [env: CORE_RULES_DIR]")
@click.option(
    "--check-rules", type=click.Path(file_okay=False), metavar="DIR",
    help="Only say whether the rule files there could be loaded; exit code 2 if not.",
)  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False), help="A TOML file of settings.")
@click.version_option(VERSION, prog_name="cored")
def main(config: str | None, check_rules: str | None, **flags: Any) -> None:
    """Decide what runs where, and remember what did."""
    if check_rules is not None:
        _check(Path(check_rules))
        return
    try:
        settings = read_settings(flags, os.environ, Path(config) if config else None)
    except InvalidDocument as error:
        _complain(error)
    as_json = {"auto": None, "json": True, "text": False}[settings.log_format]
    configure_logging("cored", json=as_json, level=settings.log_level)
    _start(settings)


def _start(settings: Settings) -> None:
    try:
        # The core's own libraries are an extra that a node does not have.
        from agent.core.app import run_core  # noqa: PLC0415
    except ModuleNotFoundError as error:
        click.echo(
            f"cored: {error.name} is not installed; a core needs what requirements/core.txt "
            "pins (see systemd/README.md)",
            err=True,
        )
        sys.exit(EXIT_REFUSED)
    os.umask(0o077)
    try:
        run_core(settings)
    except InvalidDocument as error:
        _complain(error)
    except (AgentError, OSError) as error:
        click.echo(f"cored: {error}", err=True)
        sys.exit(EXIT_REFUSED)


def _check(directory: Path) -> None:
    """Without a core: for whoever keeps the rules under version control."""
    from agent.core.rules.loading import load_rules  # noqa: PLC0415  (brings YAML and CEL)

    try:
        book = load_rules(directory)
    except InvalidDocument as error:
        _complain(error)
    click.echo(f"{len(book.rules)} rules can be loaded ({book.digest[:12]})")


def _complain(error: InvalidDocument) -> NoReturn:
    for fault in error.faults:
        click.echo(f"cored: {fault}", err=True)
    sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
