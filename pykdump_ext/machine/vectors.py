# SPDX-License-Identifier: GPL-3.0-or-later
"""numpy, for work on millions of words; it starts no threads here.

It takes 0.1 s to import, so only what needs it imports this module, and when it does so.
"""

from __future__ import annotations

import os
import signal

THREADS = "OPENBLAS_NUM_THREADS"

# numpy's linear algebra, which nothing here uses, would start a thread for each cpu. In a session
# these are crash's process, whose signals are for one thread only. Ctrl-C waits, because numpy
# cannot be imported again where its import was stopped.
_was = os.environ.get(THREADS)
_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
os.environ[THREADS] = "1"
try:
    import numpy as np
    import numpy.typing as npt
finally:
    if _was is None:
        del os.environ[THREADS]
    else:
        os.environ[THREADS] = _was
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)

__all__ = ["Booleans", "Places", "Words", "Words32", "np"]

Words = npt.NDArray[np.uint64]
Words32 = npt.NDArray[np.uint32]
Places = npt.NDArray[np.intp]
Booleans = npt.NDArray[np.bool_]
