"""A real database in memory with the real schema, and a ledger whose marks repeat by seed."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from agent.domain.manifest import Manifest
from agent.node.catalogue import Kinds
from agent.node.ledger import Ledger
from agent.node.ports import Catalogue
from agent.node.store.connection import open_for_writing
from agent.node.store.versions import bring_up_to_date


def open_memory() -> sqlite3.Connection:
    connection = open_for_writing(":memory:")
    bring_up_to_date(connection)
    return connection


def make_ledger(seed: int = 1) -> Ledger:
    return Ledger(random.Random(seed).getrandbits)


def make_kinds(**manifests: Any) -> Kinds:
    kinds = Kinds()
    named = {name: Manifest(kind=name, **fields) for name, fields in manifests.items()}
    kinds.replace(Catalogue(digest="d", kinds=named))
    return kinds
