"""sd_notify(3), as much of it as the runner needs. Without NOTIFY_SOCKET it does nothing."""

import os
import socket


def notify(state: str) -> None:
    """Tell systemd `state` ("READY=1", "STOPPING=1"). Failing to is not the runner's problem."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError:
        return
