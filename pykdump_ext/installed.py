# SPDX-License-Identifier: GPL-3.0-or-later
"""How this package was installed: what it was built for and from, and how to install it again.

The package is on no index, so ``pip install pykdump-ext`` would fetch what somebody else may have
put there: a message names the clone that the build recorded, and the environment's own pip.

With ``PYKDUMP_EXT_NO_HOST=1`` in the environment, setup.py builds nothing: such an installation has
no host, and all works in it that needs no crash.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

__all__ = ["HOST", "add_host", "build_again", "built", "pip_install"]

HOST = Path(__file__).parent / "host" / "crash_host.so"
NO_HOST = "PYKDUMP_EXT_NO_HOST=1"  # see setup.py
BUILD_PACKAGES = "crash, a C compiler and the header files that the README names"


def built(name: str) -> str | None:
    """Return the value of ``name=value`` in ``crash_host.so``, or None where there is none.

    :param name: ``BUILT_FOR_CRASH`` or ``BUILT_FOR_PYTHON``, whose value is a version, or
        ``BUILT_FROM``, whose value is the folder of the sources.
    """
    try:
        found = re.search(rf"\0{name}=([^\0]*)\0".encode(), HOST.read_bytes())
    except OSError:
        return None
    return found[1].decode(errors="replace") if found else None


def pip_install(extra: str = "") -> str:
    """Return the command that installs this package again, from the clone it was built from.

    :param extra: an optional part to install with it, such as ``drgn``; without the host, if
        there is none so far.
    """
    clone = built("BUILT_FROM") or ""
    there = clone != "" and (Path(clone) / "setup.py").is_file()
    options = [] if extra else ["--force-reinstall"]
    what = (clone if there else ".") + (f"[{extra}]" if extra else "")
    command = shlex.join([str(Path(sys.prefix) / "bin" / "pip"), "install", *options, what])
    if extra and not HOST.is_file():
        command = f"{NO_HOST} {command}"
    return command if there else f"{command} in a clone of pykdump_ext"


def add_host() -> str:
    """Return the words that tell how to add the host to an installation without it."""
    return f"install {BUILD_PACKAGES}, then run {pip_install()}"


def build_again() -> str:
    """Return the words that tell how to build the shared object for crash again."""
    return f"build it again: {pip_install()}"
