# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed crash: its path, its version, and what old versions cannot do alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from ..errors import P2mError
from ..installed import HOST, add_host
from ..linux.kernel import Symbols

__all__ = [
    "installed_crash",
    "misses_pv_kernel",
    "misses_tasks",
    "needs_help",
    "starts_faster_with_index",
]


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
        if not HOST.is_file():
            raise P2mError(f"crash is not installed: {add_host()}")
        raise P2mError("crash is not installed: install the package crash")
    shown = subprocess.run(
        [path, "--version"], capture_output=True, text=True, errors="replace", check=False
    )
    version = re.search(r"^crash (\S+)$", shown.stdout, re.MULTILINE)
    if version is None:
        raise P2mError(f"{path}: not crash; set CRASH to the path of crash, or unset it")
    return path, version[1]


def needs_help(version: str, release: str, symbols: Symbols) -> bool:
    """Return True when a crash of that version needs p2mfix even for the whole list of a kernel.

    :param version: such as ``8.0.2``; empty where no crash is installed.
    :param release: the kernel's, such as ``6.1.0-56-amd64``.
    :param symbols: the kernel's.
    """
    return misses_pv_kernel(version, symbols) or misses_tasks(version, release)


def misses_tasks(version: str, release: str) -> bool:
    """Return True when a crash of that version may miss most tasks of a kernel of that release.

    Crash reads too little of each ``struct pid`` before 8.0.4 (crash commit 88580068b7dd), if
    the kernel has Linux commit b69f0aeb0689: 6.5 and newer have it, and 6.1.39 and newer of the
    stable series. A release such as ``6.1.0-56-amd64`` does not name the stable version, so the
    answer is True from 6.1 on; the session, which knows the struct, helps only if it must.

    :param version: such as ``8.0.2``.
    :param release: such as ``6.1.0-56-amd64``.
    """
    numbers = _numbers(version)
    return bool(numbers) and numbers < (8, 0, 4) and _numbers(release)[:2] >= (6, 1)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, or fewer if it has fewer."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


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
    numbers = _numbers(version)
    if not numbers or numbers >= (7, 3, 1):
        return False
    if symbols.address("pv_init_ops") is None:
        return symbols.address("pv_ops") is not None
    known = ("xen_patch", "paravirt_patch_default")[: 2 if numbers >= (7, 3) else 1]
    return all(symbols.address(name) is None for name in known)


def starts_faster_with_index(version: str) -> bool:
    """Return True when a crash of that version gains by an index of the kernel that gdb keeps.

    crash 7.x has gdb 7.6, which keeps none. The gdb 10.2 of crash 8.x starts faster with one, but
    then ``struct pid`` takes ten seconds and 1.5 GiB. Its index lists a type with a name of up to
    three letters for each unit that has it (DWARF has such names in the unit itself), and a
    look-up of a variable of that name reads them all (``dw2_symtab_iter_next()`` of
    ``gdb/dwarf2/read.c``). crash 8.0.4 and newer do that at their start (crash commit
    88580068b7dd). gdb 16.2 of crash 9.x does not.

    :param version: such as ``8.0.2``.
    """
    return _numbers(version) >= (9,)
