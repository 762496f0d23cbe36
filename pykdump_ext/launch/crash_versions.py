# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed crash: its path, its version, and what old versions cannot do alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from ..errors import P2mError
from ..linux.kernel import Symbols

__all__ = ["installed_crash", "misses_pv_kernel"]


def installed_crash() -> tuple[str, str]:
    """Return the path and the version of the crash to run: ``$CRASH``, else that in the path.

    The version is text such as ``8.0.2``.

    :raises P2mError: there is none, or ``$CRASH`` is another program.
    """
    chosen = os.environ.get("CRASH")
    path = shutil.which(chosen or "crash")
    if path is None and chosen:
        raise P2mError(f"{chosen}: not a program; set CRASH to the path of crash, or unset it")
    if path is None:
        raise P2mError("crash is not installed: install the package crash")
    shown = subprocess.run(
        [path, "--version"], capture_output=True, text=True, errors="replace", check=False
    )
    version = re.search(r"^crash (\S+)$", shown.stdout, re.MULTILINE)
    if version is None:
        raise P2mError(f"{path}: not crash; set CRASH to the path of crash, or unset it")
    return path, version[1]


def misses_pv_kernel(version: str, symbols: Symbols) -> bool:
    """Return True when a crash of that version does not recognise this kernel as Xen PV.

    Then its session ends with ``read error: physical address: ...  type: "pud page"``, on a
    compressed dump with ``seek error``. ``kernel_init()`` of crash takes a kernel for a PV one
    if the first word of ``pv_init_ops`` points to a function that it knows: ``xen_patch()``,
    since 7.3.0 (crash commit 0715962d32fc) also ``paravirt_patch_default()``. Linux 4.14
    (commit edcb5cf84f05) put the second in place of the first, and Linux 4.20 (5c83511bdb98)
    removed ``pv_init_ops``. Since 7.3.1 (crash commit 4badc6229c69) ``xen_start_info`` is enough.

    :param version: such as ``7.2.9``.
    :param symbols: the kernel's.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if not numbers or numbers >= (7, 3, 1):
        return False
    if symbols.address("pv_init_ops") is None:
        return symbols.address("pv_ops") is not None
    known = ("xen_patch", "paravirt_patch_default")[: 2 if numbers >= (7, 3) else 1]
    return all(symbols.address(name) is None for name in known)
