"""What crash needs to open a dump, and the command line that gives it that.

A dump that crash can read by itself is opened by plain crash; one whose p2m list is
broken by ``crash --minimal``, repaired and carried on.  The rebuilt list is given to
crash before it reads anything, so that it starts whatever is wrong with the dump's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import P2mError
from ..linux.namelist import Namelist, Relocated
from ..machine.dumps import is_dump, open_dump
from ..machine.elf import ElfCore
from ..opened import OpenedDump
from ..p2m.framelist import FrameList
from .crashes import crash_version, installed_crash, misses_pv_kernel
from .environment import AFTERWARDS, DOMAIN
from .libraries import host_path
from .options import relocation
from .preload import preload

__all__ = ["Request", "command_line"]


@dataclass(frozen=True)
class Request:
    """What the user asks for: files in any order, and options.

    ``values`` are crash's options that have a value, ``options`` the others; ``input`` is
    the file of ``crash -i``.
    """

    files: Sequence[str]
    values: Sequence[tuple[str, str]] = ()
    options: Sequence[str] = ()
    input: str | None = None
    rcfiles: bool = True
    minimal: bool = False
    domain: int = 0


@dataclass(frozen=True)
class Help:
    """What crash needs to open a dump: a list to begin with, where one could be rebuilt."""

    frames: FrameList | None = None


def command_line(request: Request) -> list[str]:
    """Return the command that opens the dump, and set what it needs in the environment.

    :raises P2mError: a file, or crash, is not there.
    """
    crash = installed_crash()
    if crash is None:
        chosen = os.environ.get("CRASH")
        if chosen:
            raise P2mError(f"{chosen}, which the variable CRASH names, is not a program")
        raise P2mError("crash is not installed: install the package crash")
    files = sorted(request.files, key=is_dump)  # crash takes them in any order
    options = [*request.options, *(word for pair in request.values for word in pair)]
    offset = relocation(request.values)
    if request.domain:
        needed: Help | None = _help_for_guest(files, offset, request.domain)
    else:
        needed = _help_for_dom0(crash, files, offset)
    if needed is not None and needed.frames is not None:
        preload(needed.frames)
    if needed is None or request.minimal:
        options += ["--minimal"] if request.minimal else []
        later = ["-i", request.input] if request.input else []
        rcfiles = [] if request.rcfiles else ["--no_crashrc"]
        return [crash, *options, *rcfiles, *later, *files]
    os.environ[AFTERWARDS] = json.dumps({"rcfiles": request.rcfiles, "input": request.input})
    first = os.memfd_create("p2mfix", 0)  # stays open: crash reads it by this name
    os.write(first, f"extend {host_path()}\nextend p2mfix.py\n".encode())
    start = ["--minimal", "--no_crashrc", "-i", f"/proc/self/fd/{first}"]
    return [crash, *start, *options, *files]


def _help_for_dom0(crash: str, files: Sequence[str], offset: int) -> Help | None:
    """Return what crash needs, or None when it is known to open the dump by itself.

    :param files: the namelist, then whatever crash is given besides.
    :param offset: how far above its link-time addresses the kernel ran, in bytes.
    :raises P2mError: one of the files cannot be opened.
    """
    for path in files:
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise P2mError(f"{path}: {error.strerror}") from None
    try:
        dump = open_dump([path for path in files if is_dump(path)])
        is_xen = OpenedDump(dump).note is not None
    except P2mError:
        return None  # crash says what it is
    if isinstance(dump, ElfCore) and dump.file.rewritten:
        # store_flat_data_array() of crash 8.0.2, and of later ones, keeps both
        flat = dump.file.path
        print(
            f"p2mfix: {flat}: this flattened file has its ELF headers twice; if crash takes the"
            f" wrong ones and ends, makedumpfile -R DUMP < {flat} makes a plain dump",
            file=sys.stderr,
        )
    if not is_xen:
        return None
    try:
        namelist = Namelist(files[0])
        found = OpenedDump(dump, [Relocated(namelist, offset)]).diagnosis
    except P2mError:
        return Help()  # diagnosis failed; the extension will say why
    if not found.healthy and found.check.passed:
        return Help(found.rebuilt)
    misses = misses_pv_kernel(crash_version(crash) or "", namelist)
    return Help() if misses or not found.healthy else None


def _help_for_guest(files: Sequence[str], offset: int, domain: int) -> Help:
    """Return what crash needs to open the kernel of another domain than dom0.

    :raises P2mError: the dump has no such domain, or it cannot be opened.
    """
    os.environ[DOMAIN] = str(domain)
    dump = open_dump([path for path in files if is_dump(path)])
    opened = OpenedDump(dump, [Relocated(Namelist(files[0]), offset)], domain=domain)
    if opened.note is None:
        raise P2mError(f"{files[-1]}: not a dump of a Xen host")
    found = opened.diagnosis
    if not found.check.passed:
        raise P2mError(
            f"the list rebuilt for domain {domain} fails its check: of {found.check.asked}"
            f" pages the direct map agrees on {found.check.agree}"
        )
    return Help(found.rebuilt)
