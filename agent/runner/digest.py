"""SHA-256 without OpenSSL: `hashlib` maps libcrypto, 3.5 MB resident, for one function.

CPython's own implementation is what `hashlib` itself falls back to. Speed does not matter here:
a file is read again only when its stat changed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256  # Python 3.11
        except ImportError:
            from hashlib import sha256

_BLOCK_BYTES = 1 << 20


def bytes_digest(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return sha256(data).hexdigest()


def file_digest(fd: int) -> str:
    """SHA-256 of an open file's content, in hexadecimal. The file position is left alone."""
    state = sha256()
    offset = 0
    while block := os.pread(fd, _BLOCK_BYTES, offset):
        state.update(block)
        offset += len(block)
    return state.hexdigest()
