"""The local API as an OpenAPI 3.1 document, built from one table (`agent.node.api.documented`)."""

from __future__ import annotations

from typing import Any

from agent.infra import openapi
from agent.node.api.documented import OPERATIONS
from agent.node.api.schemas import SCHEMAS


def describe_api() -> dict[str, Any]:
    """The whole document."""
    return openapi.describe_api(
        "agentd's local API",
        "On the Unix socket the kernel says who calls; over TCP a token does.",
        OPERATIONS,
        SCHEMAS,
    )
