"""The benchmark's program: which sections, where, and what is done with the figures.

Exit codes: 0 measured (targets may be missed: the table says so), 1 it could not be measured,
2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from types import FrameType

from figures import Section, Target
from place import HERE, Place, Trouble
from processes import fsync_ms
from report import as_text, write_docs

SECTIONS = (
    "lateness",
    "burst",
    "pending",
    "kill",
    "idle",
    "core_events",
    "core_start",
    "core_fleet",
    "core_through",
)
"""Each is a module that is imported when it is measured: `--help` needs nothing installed."""
OF_THE_CORE = [name for name in SECTIONS if name.startswith("core_")]
GROUPS = {"core": OF_THE_CORE, "all": list(SECTIONS)}
DOCS = HERE.parents[1] / "docs"
INTERRUPTED = 130


def main() -> int:
    """The exit code."""
    given = read_arguments()
    if given.docs_from:
        return write_earlier(given.docs_from)
    asked = [given.sections] if isinstance(given.sections, str) else given.sections
    named = {name for one in asked for name in GROUPS.get(one, [one])}
    wanted = [name for name in SECTIONS if name in named]
    if given.write_docs and (set(wanted) != set(SECTIONS) or given.quick):
        print("scripts/bench: --write-docs wants all sections, and not --quick", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    place = Place(given.dir)
    try:
        machine = describe_machine(place)
        print(machine, flush=True)
        sections = [measure(name, place, given) for name in wanted]
    except KeyboardInterrupt:
        print("\nInterrupted; ending what was started …", flush=True)
        return INTERRUPTED
    except Trouble as trouble:
        print(f"\nscripts/bench failed: {trouble}", file=sys.stderr)
        return 1
    finally:
        place.close()
    if given.json is not None:
        plain = {"machine": machine, "sections": [section.plain() for section in sections]}
        given.json.write_text(json.dumps(plain, indent=1) + "\n")
    if given.write_docs:
        write_docs(DOCS, sections, machine)
        print(f"\nWritten: {DOCS / 'benchmarks.md'} and its picture")
    return 0


def write_earlier(files: list[Path]) -> int:
    """Figures of runs that each measured some sections: the newest file of a section counts."""
    found: dict[str, Section] = {}
    machine = ""
    for file in files:
        plain = json.loads(file.read_text())
        machine = plain["machine"]
        for one in plain["sections"]:
            targets = [Target(**target) for target in one.pop("targets")]
            found[one["name"]] = Section(**one, targets=targets)
    missing = [name for name in SECTIONS if name not in found]
    if missing:
        print(f"scripts/bench: no file has {', '.join(missing)}", file=sys.stderr)
        return 2
    write_docs(DOCS, [found[name] for name in SECTIONS], machine)
    return 0


def measure(name: str, place: Place, given: argparse.Namespace) -> Section:
    """One section, told as soon as it is known."""
    print(f"\nMeasuring {name} …", flush=True)
    module = import_module(name)
    section: Section = module.measure(place, given.bin, given.peers, quick=given.quick)
    print(as_text(section), flush=True)
    return section


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Speed and cost of agentd and cored beside their peers, as ratios of one run.",
    )
    parser.add_argument(
        "sections", nargs="*", default="all", choices=[*SECTIONS, *GROUPS], metavar="SECTION",
        help=f"{', '.join(SECTIONS)}, core (those of the core) or all (default)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: a rough idea")
    parser.add_argument("--dir", type=Path, help="measure in a directory there (which disk?)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--write-docs", action="store_true", help="put the figures into docs/benchmarks.md"
    )
    parser.add_argument(
        "--docs-from", type=Path, nargs="+", metavar="FILE",
        help="put the figures of earlier --json files there instead; measures nothing",
    )  # fmt: skip
    parser.add_argument("--bin", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peers", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def describe_machine(place: Place) -> str:
    """What the figures depend on."""
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} CPUs,"
        f" Linux {platform.release()}, Python {platform.python_version()},"
        f" one fdatasync {fsync_ms(place.path):.2f} ms."
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
