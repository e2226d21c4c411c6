"""How the C library keeps memory for this process."""

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""The number of the option in glibc's ``malloc.h``."""
_LARGE_BYTES: Final = 2**20
"""Each such block costs a call of the system and fresh pages, so it should be large indeed."""


def return_large_blocks() -> bool:
    """Have large blocks of memory go back to the system as soon as they are freed.

    By default, glibc raises its idea of a large block to the largest that was freed, 32 MiB at
    most. After the first answer of 20 MB from a kubelet, further ones would come from the heap,
    and the process would grow by some 60 MiB and keep them.

    Return whether the C library has the option; musl's has not, and needs none.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))
