# SPDX-License-Identifier: GPL-3.0-or-later
"""The shared objects that crash loads: their paths, and the versions they were built for."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import P2mError

__all__ = ["BUILD_AGAIN", "HOST", "P2MFIX", "PRELOAD", "built_for", "host_path"]

PACKAGE = Path(__file__).parent.parent
HOST = PACKAGE / "host" / "crash_host.so"
PRELOAD = PACKAGE / "launch" / "p2m_preload.so"
P2MFIX = PACKAGE / "extensions" / "p2mfix.py"
BUILD_AGAIN = "build it again: pip install --force-reinstall pykdump-ext"


def host_path() -> Path:
    """Return the path of ``crash_host.so``, the shared object that crash's ``extend`` loads.

    :raises P2mError: it is not built.
    """
    if not HOST.is_file():
        raise P2mError(f"{HOST}: not built; {BUILD_AGAIN}")
    return HOST


def built_for(name: str) -> str | None:
    """Return the value of ``name=value`` in ``crash_host.so``, or None.

    :param name: ``BUILT_FOR_CRASH`` or ``BUILT_FOR_PYTHON``; the value is a version.
    :raises OSError: the shared object cannot be read.
    """
    found = re.search(rf"\0{name}=([^\0]*)\0".encode(), HOST.read_bytes())
    return found[1].decode() if found else None
