"""Flags and environment → settings, with all faults in one message. Flags override."""

from __future__ import annotations

import argparse
import os
import pwd
from typing import NamedTuple

from agent.runner.limits import (
    OUTPUTS_BYTES_MAX,
    OUTPUTS_BYTES_MAX_LEAST,
    PARALLEL_DEFAULT,
    PARALLEL_MAX,
    VERSION,
)
from agent.runner.manifest_checks import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class BadOptions(Exception):
    """The message has one line per fault."""


class Options(NamedTuple):
    """How this runner is to run."""

    state_dir: str
    scripts_dir: str
    runs_dir: str
    socket_path: str
    agent_uid: int | None
    stay: bool
    parallel_max: int
    cgroup: str = "auto"
    output_bytes_max: int = OUTPUTS_BYTES_MAX


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="agent-runner",
        description="Starts and supervises this node's scripts for agentd.",
        # a given width: asking the terminal imports shutil and three compression libraries
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=96),
    )
    parser.add_argument("--version", action="version", version=f"agent-runner {VERSION}")
    parser.add_argument("--state-dir", metavar="DIR", help="state (env AGENT_STATE_DIR)")
    parser.add_argument("--scripts-dir", metavar="DIR", help="kinds (env AGENT_SCRIPTS_DIR)")
    parser.add_argument("--runs-dir", metavar="DIR", help="records (default: STATE_DIR/runs)")
    parser.add_argument("--socket", metavar="PATH", help="default: STATE_DIR/runner.sock")
    parser.add_argument("--agent-user", metavar="NAME", help="a user besides ours that may connect")
    parser.add_argument(
        "--stay",
        action="store_true",
        help="stay when agentd has left and nothing runs (under systemd)",
    )
    parser.add_argument(
        "--cgroup",
        metavar="auto|off|DIR",
        help="where each run gets a cgroup of its own; auto: where systemd delegated one "
        "(env AGENT_CGROUP)",
    )
    parser.add_argument(
        "--output-bytes-max",
        metavar="SIZE",
        help="of all runs' outputs together, 1G by default (env AGENT_OUTPUT_BYTES_MAX)",
    )
    return parser


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Options of a command line; BadOptions names all faults. argparse exits 2 by itself."""
    given = make_parser().parse_args(arguments)
    faults: list[str] = []
    state_dir = given.state_dir or environ.get("AGENT_STATE_DIR", "")
    scripts_dir = given.scripts_dir or environ.get("AGENT_SCRIPTS_DIR", "")
    if not state_dir:
        faults.append("no state directory: give --state-dir DIR or set AGENT_STATE_DIR")
    if not scripts_dir:
        faults.append("no scripts directory: give --scripts-dir DIR or set AGENT_SCRIPTS_DIR")
    parallel_max = _parallel_max(environ, faults)
    agent_uid = _agent_uid(given.agent_user, faults)
    cgroup = _cgroup(given.cgroup or environ.get("AGENT_CGROUP") or "auto", faults)
    output_bytes_max = _output_bytes_max(
        given.output_bytes_max or environ.get("AGENT_OUTPUT_BYTES_MAX"), faults
    )
    if faults:
        raise BadOptions("\n".join(faults))
    state_dir = os.path.realpath(state_dir)
    return Options(
        state_dir,
        os.path.realpath(scripts_dir),
        os.path.realpath(given.runs_dir or os.path.join(state_dir, "runs")),
        os.path.abspath(given.socket or os.path.join(state_dir, "runner.sock")),
        agent_uid,
        given.stay,
        parallel_max,
        cgroup,
        output_bytes_max,
    )


def _cgroup(text: str, faults: list[str]) -> str:
    if text not in ("auto", "off") and not os.path.isfile(f"{text}/cgroup.procs"):
        faults.append(f"--cgroup {text} is neither auto nor off nor a directory of cgroup v2")
    return text


def _output_bytes_max(text: str | None, faults: list[str]) -> int:
    if text is None:
        return OUTPUTS_BYTES_MAX
    size = parse_size(text)
    if size is None or size < OUTPUTS_BYTES_MAX_LEAST:
        faults.append(
            f"--output-bytes-max {text!r} must be bytes, or a text such as 512M, "
            f"from {OUTPUTS_BYTES_MAX_LEAST}"
        )
        return OUTPUTS_BYTES_MAX
    return size


def _parallel_max(environ: Mapping[str, str], faults: list[str]) -> int:
    text = environ.get("AGENT_MAX_PARALLEL", "") or str(PARALLEL_DEFAULT)
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= PARALLEL_MAX:
        return int(text)
    faults.append(f"AGENT_MAX_PARALLEL is {text!r}; it must be an integer from 1 to {PARALLEL_MAX}")
    return PARALLEL_DEFAULT


def _agent_uid(name: str | None, faults: list[str]) -> int | None:
    if name is None:
        return None
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        faults.append(f"--agent-user {name}: there is no such user")
        return None
