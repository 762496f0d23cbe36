"""A crash that begins with a rebuilt list: the other side of host/preload.c."""

from __future__ import annotations

import os
from pathlib import Path

from .p2m import FrameList

LIBRARY = Path(__file__).parent / "host" / "p2m_preload.so"
REPAIRED = "PYKDUMP_EXT_REPAIRED"
"""Tells the session that it has had a rebuilt list from its start (read by host/session.py)."""


def preload(frames: FrameList) -> None:
    """Set the environment so that the crash this process becomes begins with this list."""
    leaves = os.memfd_create("p2m", 0)  # stays open: the library in crash reads it
    with os.fdopen(os.dup(leaves), "wb") as file:
        file.write(frames.leaves)
    os.environ["PYKDUMP_EXT_P2M"] = str(leaves)  # these three: host/preload.c
    if "LD_PRELOAD" in os.environ:
        os.environ["PYKDUMP_EXT_LD_PRELOAD"] = os.environ["LD_PRELOAD"]
    libraries = [str(LIBRARY), *os.environ.get("LD_PRELOAD", "").split()]
    os.environ["LD_PRELOAD"] = " ".join(libraries)
    os.environ[REPAIRED] = "1"
