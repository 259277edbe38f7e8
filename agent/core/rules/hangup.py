"""SIGHUP reads the rule files anew, as daemons do; what came of it is in the log.

A file that somebody is still writing must not be read half: therefore not by watching the files,
but when told so.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from agent.core import log_events
from agent.core.people.principal import CORE
from agent.core.rules.keeper import RuleKeeper
from agent.domain.errors import AgentError, InvalidDocument


def reload_on_hangup(rules: RuleKeeper, log: Any) -> None:
    """From now on; without a directory of rules it changes nothing, and does not end the daemon."""
    under_way: set[asyncio.Task[None]] = set()

    def on_hangup() -> None:
        task = asyncio.ensure_future(_reload(rules, log))
        under_way.add(task)  # the loop itself only knows it weakly
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


async def _reload(rules: RuleKeeper, log: Any) -> None:
    try:
        listed = await rules.reload(CORE.name)
    except InvalidDocument as error:
        log.warning(log_events.RULES_REFUSED, faults=[str(fault) for fault in error.faults])
    except AgentError as error:
        log.warning(log_events.RULES_REFUSED, faults=[str(error)])
    else:
        log.info(log_events.RULES_LOADED, rules=len(listed["rules"]), digest=listed["digest"])
