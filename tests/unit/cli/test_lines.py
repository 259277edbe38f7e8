"""Lines fit a terminal whatever is in them."""

from __future__ import annotations

import pytest

from agent.cli.lines import BAD, Line, aligned, fit, middle_cut, width_of, wrapped


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("a long line", 7, "a long…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("anything", 0, ""),
    ],
)
def test_what_is_too_wide_is_cut_by_columns(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown
    assert width_of(shown) <= max(width, 0)


def test_colour_is_only_where_it_is_wanted_and_control_characters_never() -> None:
    line = Line("a\x1b[2Jb", BAD)
    assert line.shown(80, colours=False) == "a\N{REPLACEMENT CHARACTER}[2Jb"
    assert line.shown(80, colours=True) == "\x1b[1;31ma\N{REPLACEMENT CHARACTER}[2Jb\x1b[0m"


def test_an_id_keeps_both_ends() -> None:
    assert middle_cut("backup@2026-01-15T03:00:00Z", 16) == "backup@…3:00:00Z"
    assert middle_cut("short", 16) == "short"
    assert all(len(middle_cut("x" * 40, width)) <= width for width in range(40))


def test_columns_go_in_order_and_rigid_ones_stay_whole() -> None:
    row = ["an-id-of-twenty-four-chars", "kind-of-it", "[####....]  40 %", "some words of it"]
    wide = aligned([row], None)
    assert wide == ["  ".join(row)]
    for width in (70, 60, 50, 40):
        (line,) = aligned([row], width, drop=(3, 1), rigid=(2,), ids=0)
        assert width_of(line) <= width
        assert "[####....]  40 %" in line
    assert "some" not in aligned([row], 50, drop=(3, 1), rigid=(2,), ids=0)[0]


def test_an_empty_column_takes_no_room() -> None:
    assert aligned([["a", "", "b"], ["aa", "", "c"]], 80) == ["a   b", "aa  c"]


def test_wrapping_keeps_the_style_and_the_margin() -> None:
    parts = wrapped(Line("  PAUSED   for a reason that is rather long", BAD), 24, 11)
    assert [part.text for part in parts] == [
        "  PAUSED   for a reason", "           that is", "           rather long",
    ]  # fmt: skip
    assert {part.style for part in parts} == {BAD}
