"""The service itself: is it well, and what does it answer."""

from __future__ import annotations

from collections.abc import Mapping

from agent.infra.openapi import OBJECT, TEXT, Operation, Schema, get, shape

OPERATIONS: tuple[Operation, ...] = (
    get("/healthz", "Health", "It serves.", name="get_health", tag="service", open=True),
    get(
        "/openapi.json", "OpenApi", "This document.",
        name="get_openapi", tag="service", open=True,
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "Health": shape({"status": TEXT, "version": TEXT}),
    "OpenApi": shape({"openapi": TEXT, "info": OBJECT, "paths": OBJECT, "components": OBJECT}),
}
