"""Lists that come in pages: as many entries as were asked for, whatever a page holds."""

from __future__ import annotations

from typing import Any

from agent.cli.api_client import ApiClient

PAGE = 500  # the most that the core gives at once


def read_pages(
    client: ApiClient, path: str, member: str, limit: int, **wanted: Any
) -> tuple[list[dict[str, Any]], str | None]:
    """The newest entries of the list `member`, and where it goes on; None at its end."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        page = client.get(path, after=after, limit=size, **wanted)
        found += page[member]
        after = page["next"]
        if after is None:
            break
    return found, after


def and_more(after: str | None, limit: int) -> str:
    """What stands below a table that is not the whole list."""
    return "" if after is None else f"\n(the newest {limit}; more with --limit)"
