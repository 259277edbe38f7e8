"""Real daemons for every test here, ended by pid afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node_process import NodeProcess

MakeNode = Callable[..., NodeProcess]


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[MakeNode]:
    """Nodes in directories of their own."""
    made: list[NodeProcess] = []

    def make(name: str = "node", **given: Any) -> NodeProcess:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        node = NodeProcess(directory, **given)
        made.append(node)
        return node

    yield make
    for node in made:
        node.clean_up()


@pytest.fixture
def node(make_node: MakeNode) -> NodeProcess:
    """One node without a core, running."""
    return make_node().start()
