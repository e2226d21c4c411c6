"""How the C library keeps memory for this process."""

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""The number of the option in glibc's ``malloc.h``."""
_LARGE_BYTES: Final = 128 * 2**10
"""glibc's own value at start. With 256 KiB and 1 MiB more was kept, because of gRPC's buffers."""


def return_large_blocks() -> bool:
    """Have large blocks of memory go back to the system as soon as they are freed.

    By default, glibc raises its idea of a large block to the largest that was freed, 32 MiB at
    most. After the first answer of 20 MB from a kubelet, further ones would come from the heap,
    and the process would grow by 140 MiB within 60 answers. So it grows by some 40 MiB. The price
    is 25 ms of CPU for such an answer, and nothing for the usual ones of some 100 kB.

    Return whether the C library has the option; musl's has not, and needs none.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))
