"""The demo's program: play the story, judge it, and leave nothing behind. See scripts/demo.

Exit codes: 0 everything came as it must, 1 it did not, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from place import PREFIX, Place, Trouble, end
from screen import Screen
from story import NODES, Story
from verdict import judge

INTERRUPTED = 130


def main() -> int:
    """The exit code."""
    given = read_arguments()
    if given.stop is not None:
        return stop(given.stop)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    place = Place(given.bin)
    code = 1
    try:
        code = play(place, began)
    except KeyboardInterrupt:
        print("\nInterrupted; ending what was started …", flush=True)
        code = INTERRUPTED
    except Trouble as trouble:
        print(f"\nThe demo failed: {trouble}", file=sys.stderr, flush=True)
    finally:
        if given.keep and code != INTERRUPTED:
            tell_how_to_look_around(place, given.bin)
        else:
            code = clean_up(place.path) or code
    return code


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--stop", type=Path, metavar="DIR", help="end what --keep left running")
    return parser.parse_args()


def play(place: Place, began: float) -> int:
    """Story and verdict."""
    screen = Screen()
    story = Story(place, screen)
    story.play()
    screen.finish()
    faults = judge(place, story)
    for fault in faults:
        print(f"NOT AS EXPECTED  {fault}", file=sys.stderr)
    seconds = time.monotonic() - began
    if faults:
        print(f"{len(faults)} things did not come as they must ({seconds:.0f} s).", file=sys.stderr)
        return 1
    print(f"Everything came as it must; every change is at the core, once, in order "
          f"({seconds:.0f} s).", flush=True)  # fmt: skip
    return 0


def clean_up(path: Path) -> int:
    """End everything, in peace: a second Ctrl-C would leave half of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        end(path)
    except Trouble as trouble:
        print(f"Something is left: {trouble}", file=sys.stderr)
        return 1
    print("Nothing is left running; the temporary directory is removed.")
    return 0


def stop(path: Path) -> int:
    """`--stop DIR`."""
    path = path.absolute()
    if not path.name.startswith(PREFIX) or not (path / "core").is_dir():
        print(f"{path} is not what `scripts/demo --keep` left", file=sys.stderr)
        return 2
    return clean_up(path)


def tell_how_to_look_around(place: Place, bin_dir: Path) -> None:
    """For `--keep`."""
    print(f"""
Everything is still running, in {place.path}. To look around:

  export PATH="{bin_dir}:$PATH" CORE_URL={place.core_url} \\
         CORE_TOKEN_FILE={place.path}/core/admin.token
  corectl agents
  corectl actions
  corectl history ends-while-away
  corectl dispatch progress --node south --payload '{{"steps": 20, "step_s": 0.5}}' --wait

  export AGENT_STATE_DIR={place.path}/north       # or one of {", ".join(NODES)}
  agentctl status
  agentctl show ends-while-away
  agentctl --state-dir {place.state("south")} logs diagnostics

To end it:  scripts/demo --stop {place.path}
""")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
