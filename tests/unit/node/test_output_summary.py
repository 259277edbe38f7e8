"""What an action reports of its output fits into what the other side reads."""

from __future__ import annotations

import base64

import pytest

from agent.node.runner_client import summarize_output
from agent.wire.execution import decode_execution


@pytest.mark.parametrize("byte", [b"\0", b"\x1b", b'"', b"\xff", b"a", "é".encode()])
def test_whatever_a_script_writes_its_status_is_read(byte: bytes) -> None:
    written = base64.b64encode((byte * 4096)[-2048:]).decode()
    sizes = {"bytes": 10**12, "kept_bytes": 262_144}
    output = summarize_output(
        {"stdout": sizes, "stderr": sizes}, {"stdout": written, "stderr": written}
    )
    read = decode_execution({"execution_status": "FINISHED", "output": output})
    assert read.output == output
    assert output["stdout"]["truncated"] is True
