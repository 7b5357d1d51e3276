"""Keeping freed memory for the next step, which asks for blocks of the very same sizes."""

import ctypes
import functools
import os
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3), as <malloc.h> numbers them."""

_ALL = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Has the C library keep freed blocks of any size for whoever asks next, in this process, from now on.

    Left to itself glibc maps every block of 32 MB or more anew and gives it back when it is freed. The outputs of a
    network's first layers are that large for a batch of photos: a fifth to a quarter of the time of a forward pass on
    two cores went to the kernel, which hands out each page zeroed. The price is that the process stays about as large
    as it ever was. Nothing is computed otherwise.

    Returns:
        Whether anything was changed: not where the C library is another one, nor where the environment says how it is
        to behave (`MALLOC_…`, `GLIBC_TUNABLES`).
    """
    told = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if told or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, _ALL))
