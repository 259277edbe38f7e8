"""The end of the demo: what became of every action and why, by the core's word, and whether that
is what had to come of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from place import Place
from story import EXPECTED, Expected, Story

from agent.cli.core_sentences import explain_at_core
from agent.cli.tables import table

HEADERS = ("ACTION", "NODE", "PHASE", "REASON", "EXIT", "VERDICT", "AS EXPECTED")


def judge(place: Place, story: Story) -> list[str]:
    """Print the table; everything that is not as it must be."""
    listed = place.corectl("actions", "--limit", "1000")["actions"]
    shown = {action["id"]: action for action in listed}
    faults = [fault for one in EXPECTED for fault in _differences(one, shown[one.id])]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda one: list(_unreported(place, one)), EXPECTED)
        faults += [fault for some in found for fault in some]
    faults += _started_twice(story)
    faults += _went_elsewhere(story)
    print(table(HEADERS, [_row(one, shown[one.id]) for one in EXPECTED]), end="\n\n")
    now = datetime.now(UTC)
    for one in EXPECTED:
        print(f"{one.id}: {one.title}")
        told = explain_at_core(shown[one.id], (), None, now)
        print(f"    {told}{_last_words(place, one)}")
    print()
    return faults


def _last_words(place: Place, one: Expected) -> str:
    """What a script that failed said of it, if it said anything."""
    if one.phase != "FAILED":
        return ""
    output = place.corectl("show", one.id)["output"] or {}
    said = (output.get("stderr") or {}).get("tail", "").strip()
    return f" Its stderr: {said}" if said else ""


def _row(one: Expected, action: dict[str, Any]) -> list[str]:
    code = action["exit_code"]
    return [
        one.id,
        action["node"],
        action["phase"],
        action["reason"] or "-",
        "-" if code is None else str(code),
        action["verdict"] or "-",
        "NO" if list(_differences(one, action)) else "yes",
    ]


def _differences(one: Expected, action: dict[str, Any]) -> Iterator[str]:
    for name in ("node", "phase", "reason", "verdict"):
        if (action[name] or "") != (getattr(one, name) or ""):
            yield f"{one.id}: {name} is {action[name]!r}, not {getattr(one, name)!r}"
    if one.exit_code is not None and action["exit_code"] != one.exit_code:
        yield f"{one.id}: its exit code is {action['exit_code']}, not {one.exit_code}"
    if one.phase in ("DONE", "FAILED") and action["attempt"] != 1:
        yield f"{one.id}: it took {action['attempt']} attempts, not 1"


def _unreported(place: Place, one: Expected) -> Iterator[str]:
    """Every change that the node recorded is at the core, once, in the same order."""
    if not one.reaches_node:
        if one.id in {each["id"] for each in place.agentctl(one.node, "list", "--all")["actions"]}:
            yield f"{one.id}: reached {one.node} without a person's word"
        return
    here = _changes(place.agentctl(one.node, "history", one.id))
    there = _changes(place.corectl("history", one.id))
    if here != there:
        yield f"{one.id}: the node recorded {here}, the core has {there}"


def _changes(history: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (event["from"], event["to"], event["reason"])
        for event in history["events"]
        if event["type"] == "transition"
    ]


def _started_twice(story: Story) -> Iterator[str]:
    """By the word of the scripts on north themselves, not by ours."""
    starts = [line[0] for line in story.stamp_lines() if line[2] == "start"]
    for action_id in ("ends-while-away", "adopted"):
        if starts.count(action_id) != 1:
            yield f"{action_id}: its script was started {starts.count(action_id)} times, not once"


def _went_elsewhere(story: Story) -> Iterator[str]:
    """By label: the nodes with a role, except where a rule forbids it."""
    wanted = {"north": "suppressed", "south": "queued", "east": "queued"}
    if "unknown kind" not in story.refusal:
        yield f"an unknown kind was refused with {story.refusal!r}"
    if story.experiment != wanted:
        yield f"the experiment went {story.experiment}, not {wanted}"
