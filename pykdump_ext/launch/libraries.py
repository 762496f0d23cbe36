# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that crash loads, by their paths."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from ..errors import P2mError
from ..installed import HOST, add_host, build_again, built

__all__ = ["P2MFIX", "PRELOAD", "STUB", "host_for", "host_path"]

PACKAGE = Path(__file__).parent.parent
PRELOAD = PACKAGE / "launch" / "p2m_preload.so"
STUB = PACKAGE / "launch" / "stub.so"
P2MFIX = PACKAGE / "extensions" / "p2mfix.py"


def host_path() -> Path:
    """Return the path of ``crash_host.so``, the shared object that crash's ``extend`` loads.

    :raises P2mError: the package was installed without it.
    """
    if not HOST.is_file():
        raise P2mError(
            f"pykdump_ext was installed without its part for crash: to add it, {add_host()}"
        )
    return HOST


def host_for(crash: str, version: str) -> Path:
    """Return the path of ``crash_host.so``, which this crash can load.

    :param crash: the path of the program.
    :param version: its version.
    :raises P2mError: the package has none, or one for another crash or another Python.
    """
    host = host_path()
    for name, found, built_for in (
        (crash, version, built("BUILT_FOR_CRASH")),
        ("Python", sysconfig.get_python_version(), built("BUILT_FOR_PYTHON")),
    ):
        if found != built_for:
            raise P2mError(
                f"{name} is version {found}, and pykdump_ext was built for"
                f" {built_for}: {build_again()}"
            )
    return host
