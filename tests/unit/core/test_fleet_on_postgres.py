"""Stories of nodes once more, told over PostgreSQL: freezes, silence, decommission, nudges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.fleet_core import FleetCore
from tests.fakes.postgres import Postgres
from tests.fakes.postgres_stores import postgres_stores
from tests.unit.core import test_fleet, test_freezes, test_nudging, test_silence

pytestmark = pytest.mark.timeout(60)
STORIES = [
    test_freezes.test_a_freeze_reaches_whom_it_means_and_tells_who_cannot_hold_it,
    test_freezes.test_who_comes_to_match_gets_it_and_who_no_longer_does_is_thawed,
    test_freezes.test_a_node_that_never_reported_is_frozen_when_it_does,
    test_freezes.test_a_freeze_ends_by_itself,
    test_freezes.test_a_node_that_comes_back_with_a_freeze_that_ended_meanwhile_is_thawed,
    test_fleet.test_own_labels_win_over_reported_ones_and_null_takes_them_back,
    test_fleet.test_a_node_out_of_service_is_believed_nothing_and_nothing_waits_for_it,
    test_fleet.test_a_token_made_for_it_brings_it_back_and_what_was_withdrawn_stays_so,
    test_fleet.test_a_node_from_a_backup_is_told_again_what_it_acknowledged_as_withdrawn,
    test_silence.test_a_node_that_is_not_heard_is_silent_and_back_with_the_next_word,
    test_silence.test_what_a_silent_node_had_started_is_lost_after_a_day_and_found_by_any_report,
    test_nudging.test_a_node_that_can_be_reached_is_looked_at_at_once,
    test_nudging.test_nodes_by_selector_and_the_node_of_an_action,
]


@pytest.fixture
def on_postgres(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with postgres_stores(postgres) as open_store:
        monkeypatch.setattr(FleetCore, "open_store", open_store)
        yield


@pytest.mark.usefixtures("on_postgres")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_on_postgres(story: Callable[[], None]) -> None:
    story()
