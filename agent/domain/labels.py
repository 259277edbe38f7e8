"""What the labels of a node may look like: one rule for the node's settings and the core. Pure.

Labels are what selectors match. `node` is one that every node has without being told: its id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.domain.errors import Fault, InvalidDocument, shown

NODE_LABEL = "node"
KEY_CHARS_MAX = 64
VALUE_CHARS_MAX = 256
LABELS_PER_NODE_MAX = 64  # each is a row at the core, and is read with every dispatch to the node
_KEY = re.compile(r"[A-Za-z0-9._/-]{1,64}", re.ASCII)


def is_label_key(text: str) -> bool:
    """Whether the text may name a label."""
    return _KEY.fullmatch(text) is not None


def require_label_key(key: str) -> str:
    """The key. Raises `ValueError`: no key, or one that nobody may set."""
    if not is_label_key(key):
        raise ValueError(
            f"{shown(key)} is not a label's key: 1–{KEY_CHARS_MAX} of A–Z a–z 0–9 . _ / -"
        )
    if key == NODE_LABEL:
        raise ValueError(f"every node has the label {NODE_LABEL!r}, its id, which cannot be set")
    return key


def require_label_value(value: object) -> str:
    """The value. Raises `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(f"a label's value must be text, not {shown(value)}")
    if len(value) > VALUE_CHARS_MAX:
        raise ValueError(
            f"a label's value has at most {VALUE_CHARS_MAX} characters, this one {len(value)}"
        )
    if not value.isprintable():
        raise ValueError(f"{shown(value)} has characters that cannot be printed")
    return value


def require_labels(labels: Mapping[str, object], path: str = "labels") -> dict[str, str]:
    """All of them. Raises `InvalidDocument` with every fault."""
    faults: list[Fault] = []
    found: dict[str, str] = {}
    if len(labels) > LABELS_PER_NODE_MAX:
        faults.append(
            Fault(path, f"has {len(labels)} labels; a node has at most {LABELS_PER_NODE_MAX}")
        )
    for key, value in labels.items():
        try:
            found[require_label_key(key)] = require_label_value(value)
        except ValueError as error:
            faults.append(Fault(f"{path}.{key[:KEY_CHARS_MAX]}", str(error)))
    if faults:
        raise InvalidDocument(faults)
    return found
