"""docs/schedules.md: what it shows is accepted, and its table of a clock change is true."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.domain.schedule.recurrence import occurrences_between
from agent.wire.definition import decode_definition
from agent.wire.schedule import decode_schedule

PAGE = (Path(__file__).parents[3] / "docs" / "schedules.md").read_text()
BERLIN = ZoneInfo("Europe/Berlin")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}")[2].partition("\n## ")[0]


def test_every_text_of_the_table_of_times_is_accepted() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("At times of day"), re.MULTILINE)
    texts = [text for row in rows for text in re.findall(r"`([^`…]+)`", row)]
    assert len(texts) > 20
    for text in texts:
        decode_schedule({"at": text})


def test_every_interval_and_every_document_is_accepted() -> None:
    first = section("Every so often").splitlines()[2]
    for text in re.findall(r"`([^`]+)`", first):
        decode_schedule({"every": text})
    documents = re.findall(r"^\{.*\}$", PAGE, re.MULTILINE)
    assert len(documents) >= 3
    for text in documents:
        document = json.loads(text)
        if "kind" in document:
            decode_definition(document)
        else:
            decode_schedule(document)
    for text in re.findall(r'`(\{"[^`]+\})`', PAGE):
        decode_schedule(json.loads(text))


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("30 2 * * *", ["03:00"], ["02:30"]),
        ("0,30 2 * * *", ["03:00"], ["02:00", "02:30"]),
        ("0 2,3 * * *", ["03:00"], ["02:00", "03:00"]),
        ("30 1-3 * * *", ["01:30", "03:00", "03:30"], ["01:30", "02:30", "03:30"]),
        ("30 */1 * * *", ["00:30", "01:30", "03:30"],
         ["00:30", "01:30", "02:30", "02:30", "03:30"]),
        ("*/20 2 * * *", [], ["02:00", "02:20", "02:40"] * 2),
    ],
)  # fmt: skip
def test_the_table_of_a_clock_change(cron: str, spring: list[str], autumn: list[str]) -> None:
    for begin, expected in (((2026, 3, 29), spring), ((2026, 10, 25), autumn)):
        midnight = datetime(*begin, tzinfo=BERLIN).astimezone(UTC)
        hours = 3 if expected is spring else 5
        schedule = decode_schedule({"cron": cron, "timezone": "Europe/Berlin"})
        found = occurrences_between(
            schedule, midnight, midnight, midnight + timedelta(hours=hours), zone="UTC"
        )
        assert [f"{moment.astimezone(BERLIN):%H:%M}" for moment in found] == expected, begin
