"""Text for a terminal: aligned, wrapped to its width, never cut, and harmless."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.tables import pairs, sentence, table

LONG_IDS = [f"nightly-backup-of-the-database@2026-01-15T0{hour}:00:00Z" for hour in range(3)]


def test_columns_are_aligned_and_lines_end_where_words_do() -> None:
    assert table(["ID", "N"], [["abc", 1], ["d", 20]]) == "ID   N\nabc  1\nd    20"
    assert table(["ID", "N"], [["abc", 1], ["d", 20]], 80) == "ID   N\nabc  1\nd    20"


def test_free_text_wraps_inside_its_column() -> None:
    made = table(["ID", "WHAT"], [["a" * 8, "word " * 20]], 40, flow={"WHAT"})
    lines = made.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert lines[2].startswith(" " * 10 + "word")
    assert made.count("word") == 20


def test_ids_and_instants_are_never_cut_the_row_goes_on_below() -> None:
    rows = [[one, "diagnostics", "NOT_STARTED", "overlap", "due 3 h ago"] for one in LONG_IDS]
    lines = table(["ID", "KIND", "PHASE", "REASON", "WHEN"], rows, 80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[2::2]] == LONG_IDS
    assert lines[3] == "    overlap  due 3 h ago"


def test_a_row_with_nothing_for_the_second_line_has_none() -> None:
    made = table(["ID", "NOTES"], [["a" * 70, ""], ["b" * 70, "a clock change"]], 80)
    assert made == f"ID\n    NOTES\n{'a' * 70}\n{'b' * 70}\n    a clock change"


def test_into_a_pipe_every_row_is_one_whole_line() -> None:
    assert "b" * 200 in table(["WHAT"], [["b" * 200]])
    assert table(["ID", "WHAT"], [["a", "b " * 200]], flow={"WHAT"}).count("\n") == 1


@given(st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=6))
def test_no_control_characters_and_nothing_lost(rows: list[list[str]]) -> None:
    made = table(["A", "B", "C"], rows, 80, flow={"C"})
    assert all(character.isprintable() or character == "\n" for character in made)
    whole = table(["A", "B", "C"], rows)
    assert sorted(made.split()) == sorted(whole.split())
    assert whole.count("\n") == len(rows)


def test_a_sentence_wraps_behind_its_indentation() -> None:
    assert sentence("one two three", 12, first="  ", rest="    ") == ["  one two", "    three"]
    assert sentence("one\ntwo", None, first="> ") == ["> one two"]


def test_pairs_leave_out_what_is_not_there() -> None:
    assert pairs([("id", "x"), ("error", None), ("reason", "two\nlines")]) == (
        "id      x\nreason  two\n        lines"
    )
