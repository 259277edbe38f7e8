"""Text for a terminal: aligned, cut to its width, and harmless."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.tables import pairs, table


def test_columns_are_aligned_and_lines_end_where_words_do() -> None:
    assert table(["ID", "N"], [["abc", 1], ["d", 20]]) == "ID   N\nabc  1\nd    20"


def test_the_widest_column_gives_way() -> None:
    made = table(["ID", "WHAT"], [["a" * 8, "b" * 200]], width=30)
    assert all(len(line) <= 30 for line in made.splitlines())
    assert made.endswith("b…")


def test_into_a_pipe_everything_is_whole() -> None:
    assert "b" * 200 in table(["WHAT"], [["b" * 200]])


@given(st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=6))
def test_one_line_per_row_and_no_control_characters(rows: list[list[str]]) -> None:
    made = table(["A", "B", "C"], rows, width=80)
    assert made.count("\n") == len(rows)
    assert all(character.isprintable() or character == "\n" for character in made)


def test_pairs_leave_out_what_is_not_there() -> None:
    assert pairs([("id", "x"), ("error", None), ("reason", "two\nlines")]) == (
        "id      x\nreason  two\n        lines"
    )
