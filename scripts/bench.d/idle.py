"""A minute with nothing to do: CPU time, wake-ups and memory of all processes, side by side.

Each has something to wait for: schedulers ten actions of tomorrow, supervisor a program that runs.
"""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from figures import Section
from place import Place, wait_until
from processes import MIB, usage
from systems import OURS, Node, Peer

WARM_UP_S = 5.0
WAITING = 10
DAY_S = 86_400
_SUPERVISOR = """[supervisord]
nodaemon = true
logfile = {store}/supervisord.log
pidfile = {store}/supervisord.pid
childlogdir = {store}
[unix_http_server]
file = {store}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:waits]
command = sleep 100000
"""


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """All at the same time: they do not disturb each other, being idle."""
    seconds = 15 if quick else 60
    node, other = Node(place, bin_dir), Peer(place, peers, "APScheduler 3")
    action = str(place.actions / "tiny_action")
    plan = [(f"i{number}", time.time() + DAY_S, action) for number in range(WAITING)]
    node.start()
    node.plan(plan)
    node.plan([("warm", time.time(), action)])
    other.plan(plan)
    other.start()
    pids = {OURS: node.pids(), "APScheduler 3": other.pids()}
    supervisor = _start_supervisor(place, peers)
    pids["supervisor"] = [supervisor.pid]
    print(f"  idle for {seconds} s", flush=True)
    time.sleep(WARM_UP_S)
    before = {name: usage(some) for name, some in pids.items()}
    time.sleep(seconds)
    section = Section(
        name="idle",
        title=f"{seconds} idle seconds",
        columns=["processes", "CPU ms", "wake-ups", "RSS MiB", "PSS MiB"],
    )
    for name, some in pids.items():
        spent = usage(some).since(before[name])
        section.rows[name] = [
            str(len(some)), f"{spent.cpu_s * 1000:.1f}", str(spent.switches),
            f"{spent.rss / MIB:.1f}", f"{spent.pss / MIB:.1f}",
        ]  # fmt: skip
        section.bars[name] = spent.rss / MIB
    section.bars_title = "idle memory, MiB (less is better)"
    node.stop()
    other.stop()
    place.end(supervisor)
    return section


def _start_supervisor(place: Place, peers: Path) -> subprocess.Popen[bytes]:
    store = place.fresh("supervisor")
    config = store / "supervisord.conf"
    config.write_text(_SUPERVISOR.format(store=store))
    process = place.spawn(
        [str(peers / "python"), str(peers / "supervisord"), "-c", str(config)], store / "log"
    )

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(store / "supervisor.sock")) == 0

    wait_until(listens, 30, "supervisord did not start")
    return process
