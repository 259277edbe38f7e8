"""sd_notify(3): tell the service manager where we are. Silent where there is none."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send e.g. `READY=1` or `STATUS=…` to NOTIFY_SOCKET; a no-op outside a service manager."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.sendall(state.encode())
