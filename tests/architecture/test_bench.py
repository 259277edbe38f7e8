"""The benchmark's own code: its command line, its arithmetic, its table and picture. It measures
nothing here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "scripts" / "bench.d"
SECTIONS = ("lateness", "burst", "pending", "kill", "idle")
OF_THE_CORE = ("core_events", "core_start", "core_fleet", "core_through")

REPORT = """
from figures import Section, Target, middle, percentile
from report import as_markdown, as_text, picture, write_docs
from pathlib import Path
import sys
values = [float(n) for n in range(1, 201)]
assert (percentile(values, 50), percentile(values, 99)) == (100.0, 198.0)
assert middle([{"a": 1.0}, {"a": 9.0}, {"a": 2.0}]) == {"a": 2.0}
section = Section(name="burst", title="so many", columns=["per s"], rows={"agentd": ["12"]})
section.bars, section.bars_title = {"agentd": 12.0, "A & B": 6.0}, "per second"
section.targets = [
    Target(text="rate", found=1.4, bound=1.5, at_least=True),
    Target(text="syncs", found=1.2, bound=1.5, unit=""),
]
assert "MISSED rate: 1.40× (≥ 1.5×)" in as_text(section)
assert "met    syncs: 1.20 (≤ 1.5)" in as_markdown(section)
docs = Path(sys.argv[1])
write_docs(docs, [section], "a machine")
write_docs(docs, [section], "another machine")
"""


def test_the_command_line_names_its_sections() -> None:
    shown = subprocess.run(
        [ROOT / "scripts" / "bench", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(name in shown for name in (*SECTIONS, *OF_THE_CORE))


@pytest.mark.parametrize("arguments", [["nonsense"], ["idle", "--write-docs"]])
def test_wrong_use_is_told_before_anything_is_measured(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-B", BENCH / "bench.py", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr


def test_figures_of_too_few_sections_are_not_written(tmp_path: Path) -> None:
    some = tmp_path / "some.json"
    some.write_text('{"machine": "m", "sections": []}')
    done = subprocess.run(
        [sys.executable, "-B", BENCH / "bench.py", "--docs-from", some],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "no file has lateness, burst" in done.stderr) == (2, True)


def test_figures_become_a_page_and_a_picture(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text())
    subprocess.run(
        [sys.executable, "-B", "-c", REPORT, tmp_path], cwd=BENCH, check=True, capture_output=True
    )
    written = page.read_text()
    assert "another machine" in written
    assert "a machine\n" not in written.replace("another machine", "")
    assert "## Who is compared" in written
    texts = [text.text for text in ET.parse(tmp_path / "benchmarks.svg").iter() if text.text]
    assert "A & B" in texts


SIMULATED = """
import json
from simulated import Node
node = Node("n", "c")
whole = b"".join(node.pushes(2, 3))
assert whole.count(b"POST /v1/agents/n/events HTTP/1.1") == 3
bodies = [json.loads(part.partition(b"\\r\\n\\r\\n")[2]) for part in node.pushes(3, 2)]
from agent.wire.messages import EventsPush, convert_message
events = [event for body in bodies for event in body["events"]]
assert [event["seq"] for event in events] == list(range(7, 13))
assert [event["type"] for event in events[:3]] == ["local_definition", "transition", "transition"]
for body in bodies:
    convert_message(body, EventsPush)
from importlib import import_module
import bench
for name in bench.SECTIONS:
    assert callable(import_module(name).measure), name
"""


def test_simulated_nodes_speak_the_protocol() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", SIMULATED], cwd=BENCH, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
