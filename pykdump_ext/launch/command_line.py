# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that opens a dump in crash, and the environment it needs.

On the dump of a Xen host crash starts as a minimal session, which p2mfix.py repairs, makes fast,
and carries on to a full one.  If the dump's list is broken, such a crash is preloaded: it has the
rebuilt list before its first read, so the dump's list cannot stop it.  Any other dump is plain
crash's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import NotPvError, OtherKernelError, P2mError, printable
from ..linux.namelist import Namelist, Relocated
from ..machine.dumps import is_dump, open_dump
from ..machine.elf import ElfCore
from ..opened import OpenedDump
from ..p2m.framelist import FrameList
from .crash_versions import installed_crash, needs_help
from .environment import AFTERWARDS, DOMAIN, PLAIN
from .libraries import P2MFIX, host_for, host_path
from .notices import say_cut, say_incomplete, say_missed_tasks
from .options import relocation
from .preload import preload
from .refusals import refuse_what_is_none, refuse_what_is_unreadable

__all__ = ["Request", "command_line"]


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    ``files`` are the namelist and the dump's files, in any order.  ``values`` are crash's options
    with their values, ``options`` its options without one, and ``input`` is the file of ``-i``.
    ``rcfiles`` is False for ``--no_crashrc``; ``domain`` is the id of the domain to open.
    ``plain`` leaves reads as crash makes them, and crash as it is where it needs no help.
    """

    files: Sequence[str]
    values: Sequence[tuple[str, str]] = ()
    options: Sequence[str] = ()
    input: str | None = None
    rcfiles: bool = True
    minimal: bool = False
    domain: int = 0
    plain: bool = False


@dataclass(frozen=True)
class Help:
    """The help that crash gets: the rebuilt list, if it needs one that there is, and fast reads.

    ``optional`` is True where crash can open the dump without any.
    """

    frames: FrameList | None = None
    optional: bool = False


def command_line(request: Request) -> list[str]:
    """Return the command that opens the dump, and set the environment for it.

    :raises P2mError: crash is not installed, a file cannot be opened, the package was built for
        another crash, or the domain that was asked for cannot be rebuilt.
    """
    refuse_what_is_unreadable(request.files, request.input)
    refuse_what_is_none(request.files)
    crash, version = installed_crash()
    dump = [path for path in request.files if is_dump(path)]
    namelist = [path for path in request.files if path not in dump] or _found(dump, request.domain)
    files = [*namelist, *dump]
    options = [*request.options, *(word for pair in request.values for word in pair)]
    offset = relocation(request.values)
    if request.domain:
        needed: Help | None = _help_for_guest(namelist, dump, offset, request.domain)
    else:
        needed = _help_for_dom0(version, namelist, dump, offset)
    host = _host(crash, version, request, needed)
    if needed is not None and (host or needed.frames):
        preload(needed.frames)
    if host is None:
        options += ["--minimal"] if request.minimal else []
        later = ["-i", request.input] if request.input else []
        rcfiles = [] if request.rcfiles else ["--no_crashrc"]
        return [crash, *options, *rcfiles, *later, *files]
    if request.plain:
        os.environ[PLAIN] = "1"
    os.environ[AFTERWARDS] = json.dumps({"rcfiles": request.rcfiles, "input": request.input})
    first = os.memfd_create("p2mfix", 0)  # stays open: crash reads it as its -i file
    # By path: by its name crash would take a p2mfix.py that lies in the current folder
    os.write(first, f"extend {host}\nextend {P2MFIX}\n".encode())
    start = ["--minimal", "--no_crashrc", "-i", f"/proc/self/fd/{first}"]
    return [crash, *start, *options, *files]


def _host(crash: str, version: str, request: Request, needed: Help | None) -> Path | None:
    """Return the library that crash loads; None if crash opens the dump without it.

    :raises P2mError: crash needs its help, and cannot load it.
    """
    if needed is not None and needed.frames is not None and request.minimal:
        host_path()  # what is preloaded is installed with it
    if needed is None or request.minimal or (needed.optional and request.plain):
        return None
    try:
        return host_for(crash, version)
    except P2mError as error:
        if not needed.optional:
            raise
        print(f"p2mfix: {error}; until then reads of this dump are slow", file=sys.stderr)
        return None


def _found(dump: Sequence[str], domain: int) -> list[str]:
    """Return the files of the namelist that is installed for the dump's kernel, or beside it.

    :raises P2mError: there is none, or the dump does not say what its kernel is.
    """
    opened = OpenedDump(open_dump(dump), (), dump, domain)
    opened.look_for_namelist()
    if isinstance(opened.found, Namelist):
        shown = printable(" ".join(opened.found.given))
        print(f"p2mfix: no vmlinux was given: taking {shown}", file=sys.stderr)
        return [*opened.found.given]
    raise opened.no_namelist()


def _help_for_dom0(
    version: str, namelist: Sequence[str], files: Sequence[str], offset: int
) -> Help | None:
    """Return the help that crash gets to open dom0's kernel; None: we can give it none.

    :param version: that of crash.
    :param namelist: the files of the namelist.
    :param files: the dump's files.
    :param offset: how many bytes above its link-time addresses the kernel ran.
    :raises P2mError: one of the files cannot be opened, the namelist is none or another
        kernel's, or dom0 is not a PV domain.
    """
    try:
        dump = open_dump(files)
    except P2mError as error:
        say_cut(error)
        return None  # no dump that we can read: crash gives the reason
    say_incomplete(dump)
    if isinstance(dump, ElfCore) and dump.file.rewritten:
        # store_flat_data_array() of crash 8.0.2 and newer keeps both records of the headers
        flat = dump.file.path
        print(
            f"p2mfix: {flat}: flattened, with its ELF headers twice; if crash takes the wrong ones"
            f" and ends: makedumpfile -R DUMP < {flat} makes a plain dump",
            file=sys.stderr,
        )
    if not _is_xen(OpenedDump(dump)):
        say_missed_tasks(version, OpenedDump(dump), namelist, files)
        return None
    symbols = Namelist(*namelist)
    opened = OpenedDump(dump, [Relocated(symbols, offset)])
    try:
        found = opened.diagnosis
    except (NotPvError, OtherKernelError):
        raise
    except P2mError as error:
        print(f"p2mfix: cannot rebuild the list before crash starts: {error}", file=sys.stderr)
        return Help()  # the extension tries with what crash knows
    if opened.other_build:
        print(f"p2mfix: {opened.other_build}", file=sys.stderr)
    if not found.healthy and found.check.passed:
        return Help(found.rebuilt)
    if not found.healthy:
        return Help()
    return Help(optional=not needs_help(version, opened.release, symbols))


def _is_xen(opened: OpenedDump) -> bool:
    """Return True if the dump has Xen's notes."""
    try:
        return opened.note is not None
    except P2mError:
        return False


def _help_for_guest(
    namelist: Sequence[str], files: Sequence[str], offset: int, domain: int
) -> Help:
    """Return the help that crash needs to open the kernel of a guest; it always needs some.

    :param namelist: the files of the guest's namelist.
    :param files: the dump's files.
    :param offset: how many bytes above its link-time addresses the kernel ran.
    :raises P2mError: the dump has no such domain, or the domain's list cannot be rebuilt.
    """
    os.environ[DOMAIN] = str(domain)
    dump = open_dump(files)
    say_incomplete(dump)
    opened = OpenedDump(dump, [Relocated(Namelist(*namelist), offset)], domain=domain)
    if opened.note is None:
        raise P2mError(f"{files[-1]}: not a dump of a Xen host")
    found = opened.diagnosis
    if opened.other_build:
        print(f"p2mfix: {opened.other_build}", file=sys.stderr)
    if not found.check.passed:
        raise P2mError(
            f"the list rebuilt for domain {domain} fails its check: the direct map agrees on"
            f" {found.check.agree:,} of {found.check.asked:,} pages, so crash is not started"
        )
    return Help(found.rebuilt)
