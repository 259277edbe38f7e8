"""For every tier: what tests start can be interrupted, however the tests were started.

A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
