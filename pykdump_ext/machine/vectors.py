# SPDX-License-Identifier: GPL-3.0-or-later
"""numpy, for work on millions of words; it starts no threads here.

It takes 0.1 s to import, so only what needs it imports this module, and when it does so.
"""

from __future__ import annotations

import os

THREADS = "OPENBLAS_NUM_THREADS"

# numpy's linear algebra, which nothing here uses, would start a thread for each cpu. In a session
# these are crash's process, whose signals are for one thread only.
_was = os.environ.get(THREADS)
os.environ[THREADS] = "1"
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

if _was is None:
    del os.environ[THREADS]
else:
    os.environ[THREADS] = _was

__all__ = ["Booleans", "Places", "Words", "Words32", "np"]

Words = npt.NDArray[np.uint64]
Words32 = npt.NDArray[np.uint32]
Places = npt.NDArray[np.intp]
Booleans = npt.NDArray[np.bool_]
