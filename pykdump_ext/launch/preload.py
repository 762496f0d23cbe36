# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of a preloaded crash; ``preload.c`` is the library that crash then loads."""

from __future__ import annotations

import os

from ..p2m.framelist import FrameList
from .environment import LD_PRELOAD_BEFORE, LIST_FD, REPAIRED
from .libraries import PRELOAD

__all__ = ["preload"]


def preload(frames: FrameList | None) -> list[int]:
    """Set the environment so that the crash that this process becomes reads by this list.

    Return the file descriptors that must stay open until then.

    :param frames: None for the dump's own list; then ``crash -s`` is silent, and nothing more.
    """
    opened = []
    os.environ[LIST_FD] = ""
    if frames is not None:
        leaves = os.memfd_create("p2m", 0)
        with os.fdopen(os.dup(leaves), "wb") as file:
            file.write(frames.leaves)
        opened.append(leaves)
        os.environ[LIST_FD] = str(leaves)
        os.environ[REPAIRED] = "1"
    if "LD_PRELOAD" in os.environ:
        os.environ[LD_PRELOAD_BEFORE] = os.environ["LD_PRELOAD"]
    libraries = [str(PRELOAD), *os.environ.get("LD_PRELOAD", "").split()]
    os.environ["LD_PRELOAD"] = " ".join(libraries)
    return opened
