"""The stories of `test_approvals` once more, told over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.approving_core import ApprovingCore
from tests.fakes.postgres import Postgres
from tests.fakes.postgres_stores import postgres_stores
from tests.unit.core import test_approvals as stories

pytestmark = pytest.mark.timeout(60)
STORIES = [
    stories.test_what_waits_is_never_sent_and_blocks_nobody,
    stories.test_approve_delivers_it_with_who_when_why_and_what,
    stories.test_reject_ends_it_where_it_is,
    stories.test_nobody_answered_in_time,
    stories.test_cancelling_what_waits_withdraws_the_question,
    stories.test_an_edit_waits_while_the_approved_revision_stays_in_force,
    stories.test_an_edit_of_what_still_waits_asks_anew,
    stories.test_the_list_is_filtered_and_paged,
]


@pytest.fixture
def on_postgres(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with postgres_stores(postgres) as open_store:
        monkeypatch.setattr(ApprovingCore, "open_store", open_store)
        yield


@pytest.mark.usefixtures("on_postgres")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_on_postgres(story: Callable[[], None]) -> None:
    story()
