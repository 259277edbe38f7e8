"""The one loop: file descriptors, timers, and work for the end of a turn. It knows nothing else.

It sleeps without a limit when there is no timer: an idle runner costs no wake-ups.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_EVENTS_PER_TURN = 256
_TIMERS_KEPT = 512


class Timer:
    """A call at a monotonic time. `cancel()` may be called at any time, any number of times."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Make sure that it never fires (again)."""
        self.action = None

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class Loop:
    """Waits for descriptors and timers, and calls what was registered for them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._new: set[int] = set()  # watched since the last wait
        self._timers: list[Timer] = []
        self._compact_at = _TIMERS_KEPT
        self._soon: list[Callable[[], None]] = []
        self._running = True

    def watch(self, fd: int, handler: Callable[[int], None], events: int = READ) -> None:
        """Call `handler(events)` while `fd` is ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler
        self._new.add(fd)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; call it before closing the descriptor."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_in(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Call once, `delay_s` from now on the monotonic clock."""
        if len(self._timers) >= self._compact_at:  # long timeouts that were cancelled pile up
            self._timers = [timer for timer in self._timers if timer.action is not None]
            heapq.heapify(self._timers)
            self._compact_at = max(_TIMERS_KEPT, 2 * len(self._timers))
        timer = Timer(time.monotonic() + delay_s, action)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, action: Callable[[], None]) -> None:
        """Call at the end of this turn, or at once if the loop is waiting."""
        self._soon.append(action)

    def stop(self) -> None:
        """Leave `run` at the end of this turn."""
        self._running = False

    def run(self) -> None:
        """Turn until `stop`."""
        while self._running:
            self.turn()

    def turn(self) -> None:
        """Wait once, then call everything that is due."""
        ready = self._epoll.poll(self._timeout_s(), _EVENTS_PER_TURN)
        self._new.clear()
        for fd, events in ready:
            # an earlier handler of this turn may have closed it, and another reused its number
            handler = self._handlers.get(fd)
            if handler is not None and fd not in self._new:
                handler(events)
        self._fire_timers()
        if self._soon:
            soon, self._soon = self._soon, []
            for action in soon:
                action()

    def _timeout_s(self) -> float | None:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0].at - time.monotonic())

    def _fire_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].at <= now:
            timer = heapq.heappop(self._timers)
            action, timer.action = timer.action, None
            if action is not None:
                action()
