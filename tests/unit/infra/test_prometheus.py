"""Prometheus' text format: exact, because its parser is."""

from __future__ import annotations

import math

import pytest

from agent.infra.prometheus import COUNTER, GAUGE, HISTOGRAM, Family, Histogram, Sample, encode
from agent.infra.prometheus import number as as_number


def test_a_family_is_described_once_and_labels_are_escaped() -> None:
    samples = [Sample(1, {"code": "200", "path": 'a"b\\c\nd'}), Sample(2.5)]
    assert encode([Family("x_total", COUNTER, "Two\nlines \\ here.", samples)]) == (
        "# HELP x_total Two\\nlines \\\\ here.\n"
        "# TYPE x_total counter\n"
        'x_total{code="200",path="a\\"b\\\\c\\nd"} 1\n'
        "x_total 2.5\n"
    )


def test_what_never_happened_has_no_sample() -> None:
    told = encode([Family("at_seconds", GAUGE, "When.", [])])
    assert told == "# HELP at_seconds When.\n# TYPE at_seconds gauge\n"


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((0.1, 1, 10))
    for value in (0.05, 0.1, 0.11, 5, 100):
        histogram.observe(value)
    assert encode([Family("s", HISTOGRAM, "How late.", histogram.samples())]).splitlines()[2:] == [
        's_bucket{le="0.1"} 2',
        's_bucket{le="1"} 3',
        's_bucket{le="10"} 4',
        's_bucket{le="+Inf"} 5',
        "s_sum 105.26",
        "s_count 5",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (2**40, "1099511627776"),
        (1e300, "1e+300"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (1764000000.25, "1764000000.25"),
    ],
)
def test_numbers_are_as_go_reads_them(value: float, text: str) -> None:
    assert as_number(value) == text
