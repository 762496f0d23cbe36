# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of a preloaded crash; ``preload.c`` is the library that crash then loads."""

from __future__ import annotations

import os

from ..p2m.framelist import FrameList
from .environment import LD_PRELOAD_BEFORE, LIST_FD, REPAIRED
from .libraries import PRELOAD

__all__ = ["preload", "preload_without_list"]


def preload(frames: FrameList) -> int:
    """Set the environment so that the crash that this process becomes reads by this list.

    Return the file descriptor that holds the list; it must stay open until then.
    """
    leaves = os.memfd_create("p2m", 0)
    with os.fdopen(os.dup(leaves), "wb") as file:
        file.write(frames.leaves)
    _load_library(str(leaves))
    os.environ[REPAIRED] = "1"
    return leaves


def preload_without_list() -> None:
    """Set the environment so that the crash that this process becomes is silent, if it is to be.

    It reads by the dump's list.
    """
    _load_library("")


def _load_library(list_fd: str) -> None:
    os.environ[LIST_FD] = list_fd
    if "LD_PRELOAD" in os.environ:
        os.environ[LD_PRELOAD_BEFORE] = os.environ["LD_PRELOAD"]
    libraries = [str(PRELOAD), *os.environ.get("LD_PRELOAD", "").split()]
    os.environ["LD_PRELOAD"] = " ".join(libraries)
