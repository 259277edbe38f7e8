"""How many file descriptors this process may have: each connection is one.

The soft limit of a login shell or an old unit is 1,024, which a daemon that holds thousands of
connections may raise itself, up to the hard one.
"""

from __future__ import annotations

import resource

OTHERS_MAX = 256  # what a daemon has open besides connections: databases, sockets, files


def raise_limit() -> int:
    """Raise the soft limit to the hard one; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(wanted: int, descriptors: int) -> int:
    """How many of the wanted connections there can be; a few always.

    >>> connections_within(20_000, 524_288), connections_within(20_000, 4096)
    (20000, 3840)
    """
    return max(16, min(wanted, descriptors - OTHERS_MAX))
