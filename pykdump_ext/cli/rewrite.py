# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix rewrite VMCORE OUT``: a copy of the dump that plain crash and other tools can read."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import NotPvError, P2mError, printable
from ..linux.namelist import Namelist, is_namelist
from ..machine.dumps import open_dump
from ..machine.elf import ElfCore
from ..machine.kdump import KdumpFile
from ..machine.memory import PAGE_SHIFT
from ..opened import OpenedDump
from ..outputs import check_target
from ..p2m.diagnosis import Diagnosis
from ..p2m.leaves import PFNS_PER_LEAF
from ..p2m.listpages import LARGEST_LIST
from ..reports import words
from ..rewrite.copies import copy_dump, rewrite_dump
from .files import say_namelist

__all__ = ["DESCRIPTION", "SUMMARY", "add_arguments", "run"]

SUMMARY = "write a copy with a whole list, for plain crash and other tools"
DESCRIPTION = """\
Write a copy of a Xen host's dump with the rebuilt list in it. crash,
makedumpfile and libkdumpfile read the copy without any plugin.

A dump whose list is whole is copied as it is. The dump itself is never
written, and no other dump or vmlinux is replaced. Where the file system can
share blocks between files, the copy takes no time and no space. A list can
name leaves up to 512 GiB: what dom0 has above that is in no copy's list.

With --linux the copy is a dump of dom0's kernel alone, as if it had run without
Xen: programs that know nothing of Xen read it, such as drgn, gdb, makedumpfile
and crash. The dump may have any format that p2mfix opens. This needs the
vmlinux, and drgn, which reads the registers of the tasks that were running."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``p2mfix rewrite`` to its parser."""
    parser.usage = "p2mfix rewrite [-h] [--linux] [--vmlinux FILE] [OPTION ...] VMCORE OUT"
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="VMCORE",
        help="the dump; without --linux one file, not split or flattened",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the copy to write")
    parser.add_argument(
        "--vmlinux",
        type=Path,
        metavar="FILE",
        help="dom0's vmlinux; needed only where the kernel does not publish its p2m to Xen; it may"
        " also stand beside VMCORE",
    )
    parser.add_argument(
        "--linux",
        action="store_true",
        help="write a dump of the kernel alone, for programs that know nothing of Xen",
    )
    parser.add_argument(
        "--domain", type=int, default=0, metavar="N", help="with --linux: PV guest N, not dom0"
    )
    parser.add_argument(
        "--compress",
        action="store_true",
        help="with --linux: write it as makedumpfile -c does; meanwhile it takes the room of both",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace OUT if it exists, and is no dump or vmlinux"
    )


def run(args: argparse.Namespace) -> None:
    """Write the copy, and print what is in it.

    :raises P2mError: the copy cannot be made; no file is left behind.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        if args.linux:
            _linux(args)
        elif args.domain or args.compress:
            raise P2mError("--domain and --compress go with --linux")
        else:
            _run(args.files, args.out, args.vmlinux, args.force)
    except OSError as error:
        raise P2mError(f"{error.filename or args.out}: {error.strerror}") from None
    except KeyboardInterrupt:
        print("p2mfix: stopped; no file is left behind", file=sys.stderr)
        raise SystemExit(130) from None


def _files(files: Sequence[Path], out: Path, vmlinux: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the files of the dump, and those of the vmlinux.

    :raises P2mError: there is no dump.
    """
    namelist = [path for path in files if is_namelist(path)]
    dump = [path for path in files if path not in namelist]
    if not dump:
        raise P2mError(
            f"there is no dump before {out}, the file to write: p2mfix rewrite VMCORE OUT"
        )
    return dump, [*namelist, *([vmlinux] if vmlinux else [])]


def _linux(args: argparse.Namespace) -> None:
    """Write a dump of a kernel alone.

    :raises P2mError: it cannot be made; no file is left behind.
    """
    dump, namelist = _files(args.files, args.out, args.vmlinux)
    check_target(args.out, args.files, args.force)
    from ..drgn.prog import open_program, saved  # noqa: PLC0415  (drgn may not be installed)
    from ..native.dump import write_dump  # noqa: PLC0415
    from ..native.packed import find_makedumpfile, write_packed  # noqa: PLC0415

    if args.compress:
        find_makedumpfile()
    shown = [str(path) for path in dump]
    opened = OpenedDump(
        open_dump(dump), [Namelist(*namelist)] if namelist else [], shown, args.domain
    )
    opened.look_for_namelist()
    start = time.perf_counter()
    what = saved(open_program(opened), [] if args.domain else opened.vcpus)
    say_namelist(opened)
    with _progress() as watch:
        write_it = write_packed if args.compress else write_dump
        size = write_it(opened.native, what, args.out, shown, watch, args.force)
    known = sum(bool(note) for _, note in what.notes)
    print(
        f"p2mfix: {size >> PAGE_SHIFT:,} pages of Linux {opened.release},"
        f" registers of {known} of {len(what.notes)} cpus"
    )
    _print_size(args.out, False, start)


def _run(files: Sequence[Path], out: Path, vmlinux: Path | None, force: bool) -> None:
    dump, namelist = _files(files, out, vmlinux)
    core = open_dump(dump)
    shown = [str(path) for path in dump]
    if not isinstance(core, (ElfCore, KdumpFile)) or not core.single:
        raise P2mError(
            f"{' '.join(shown)}: the dump is {core.format}, and only one plain file can be"
            " rewritten; open it with p2mfix VMLINUX VMCORE, or use --linux"
        )
    check_target(out, files, force)
    opened = OpenedDump(core, [Namelist(*namelist)] if namelist else [], shown)
    found = _diagnosis(opened)
    coverage = found.coverage
    print(f"p2mfix: the dump's list covers {words.coverage(found)}")
    start = time.perf_counter()
    if found.healthy:
        with _progress() as watch:
            cloned = copy_dump(core.file.path, out, watch, force)
        print("p2mfix: nothing to repair: the copy has the same bytes, and plain crash opens both")
        _print_size(out, cloned, start)
        return
    beyond = _beyond(found)
    with _progress() as watch:
        pages, unused, cloned = rewrite_dump(core, found, out, watch, opened.frames, force)
    print(
        f"p2mfix: {coverage.leaves_lost - beyond:,} of {coverage.leaves:,} leaves were lost;"
        f" the whole list is in {pages.frames} new pages, machine frames"
        f" {pages.mfn:x}-{pages.mfn + pages.frames - 1:x}"
    )
    if beyond:
        print(
            f"p2mfix: {beyond:,} leaves above 512 GiB have no place in any list: to see that"
            " memory, open the dump with p2mfix VMLINUX VMCORE"
        )
    if not unused:
        print(
            "p2mfix: found no memory that Xen tracks as free, so makedumpfile -X may leave the"
            " list out: filter the dump first, then rewrite it"
        )
    _print_size(out, cloned, start)


def _print_size(out: Path, cloned: bool, start: float) -> None:
    """Print the last line, on a copy that was begun at ``start``."""
    seconds = time.perf_counter() - start
    how = "sharing its blocks with the dump, " if cloned else ""
    size = out.stat().st_size / 1e9
    print(f"p2mfix: {printable(str(out))}: {size:.1f} GB written, {how}{seconds:.1f} s")


def _diagnosis(opened: OpenedDump) -> Diagnosis:
    """Return the diagnosis of the dump; its rebuilt list has passed its check, or is not needed.

    :raises P2mError: the dump cannot be diagnosed, or the rebuilt list fails its check.
    """
    if opened.note is None:
        raise P2mError(
            f"{' '.join(opened.paths)}: not a dump of a Xen host, so there is no p2m to repair"
        )
    try:
        found = opened.diagnosis
    except NotPvError:
        raise
    except P2mError as error:
        if opened.namelists:
            raise
        opened.look_for_namelist()
        if opened.found is None:
            if opened.dump.incomplete and opened.own_banner is None:
                raise  # no vmlinux can be matched with it
            raise P2mError(f"{error}: give dom0's vmlinux with --vmlinux FILE") from None
        say_namelist(opened)
        opened.forget_failures()
        found = opened.diagnosis
    if not found.healthy and not found.check.passed:
        raise P2mError(words.failed_check(found, "nothing is written"))
    return found


def _beyond(found: Diagnosis) -> int:
    """Return how many of the lost leaves have no place in any list.

    :raises P2mError: none of them has a place.
    """
    limit = LARGEST_LIST * PFNS_PER_LEAF
    beyond = sum(
        (last + 1 - max(first, limit) + PFNS_PER_LEAF - 1) // PFNS_PER_LEAF
        for first, last in found.coverage.lost
        if last >= limit
    )
    if beyond == found.coverage.leaves_lost:
        raise P2mError(
            f"the list is whole up to {limit << PAGE_SHIFT >> 30} GiB, and no list can name more:"
            " open the dump with p2mfix VMLINUX VMCORE"
        )
    return beyond


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show the progress of the copy, on a terminal; give the function that takes it."""
    from rich.console import Console  # noqa: PLC0415  (takes 0.1 s)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("")
        yield lambda done, size: bar.update(task, completed=done, total=size)
