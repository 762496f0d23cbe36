"""Mends crash's p2m on dumps of Xen hosts, and carries on to a full session.

``extend p2mfix.py`` does everything; the command ``p2m`` looks closer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence

from pykdump_ext import crash
from pykdump_ext.crashes import misses_pv_kernel
from pykdump_ext.domains import LIST_INVALID, domain_info
from pykdump_ext.dumps import open_dump
from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.host import (
    CrashMemory,
    CrashSymbols,
    P2mPatch,
    command,
    opened_domain,
    restart,
    start_full_session,
    started_repaired,
)
from pykdump_ext.kernel import XenInfo
from pykdump_ext.namelist import Namelist
from pykdump_ext.p2m import (
    PFNS_PER_LEAF,
    Diagnosis,
    FrameList,
    Kind,
    diagnose,
    find_layout,
    kind_of,
    ranges,
    sample,
    verify,
)
from pykdump_ext.p2m.verify import DIRECT_MAP, M2P
from pykdump_ext.pictures import add_picture_arguments
from pykdump_ext.pictures import show as show_pictures

SAMPLE = 1024  # leaves that verify looks at, unless told --all

patch = P2mPatch()
_diagnosis: list[Diagnosis] = []  # one, once it has been made


def say(text: str) -> None:
    """Print a line of ours, unless crash is to be silent."""
    if not crash.session().silent:
        print(f"p2mfix: {text}")


# --------------------------------------------------------------------------
# Finding out


def whose() -> str:
    """Return the name of the domain whose kernel is open, in the genitive."""
    return f"domain {opened_domain}'s" if opened_domain else "dom0's"


def xen_notes() -> XenInfo:
    """Return what the notes of the dump say of Xen.

    They are of dom0, or of the guest that ``p2mfix --domain`` has opened.

    :raises P2mError: this session is not one on a dump of a Xen host.
    """
    session = crash.session()
    if session.live:
        raise P2mError("this is a live session: crash translates there by itself")
    if session.xen_hyper:
        raise P2mError("this session is on Xen itself: open the dump with dom0's vmlinux")
    if not session.xen_core or session.dumpfile is None:
        raise P2mError("this is not a dump of a Xen host, so there is no p2m to repair")
    info = domain_info(CrashMemory(), open_dump([session.dumpfile]).notes, opened_domain)
    if info is None:
        raise P2mError("the dump has no XEN_ELFNOTE_CRASH_INFO note, so no p2m list")
    return info


def banner() -> bytes:
    """Return the namelist's ``linux_banner``."""
    session = crash.session()
    problem = P2mError("crash has no namelist")
    for path in (session.namelist, session.namelist_debug):
        if path is not None:
            try:
                return Namelist(path).banner()
            except P2mError as error:
                problem = error
    raise problem


def diagnosis() -> Diagnosis:
    """Return what there is to say about this dump's p2m; made once."""
    if not _diagnosis:
        info = xen_notes()
        _diagnosis.append(diagnose(CrashMemory(), CrashSymbols(), banner(), info))
    return _diagnosis[0]


def pages(found: Diagnosis) -> str:
    """Return how much of the kernel's memory the dump's list covers."""
    coverage = found.coverage
    percent = 100 * coverage.covered / coverage.memory
    return f"{coverage.covered:,} of {coverage.memory:,} pages ({percent:.1f}%)"


def lost(found: Diagnosis) -> str:
    """Return the ranges of pfns whose leaves the dump's list has lost."""
    parts = [f"{first:x}-{last:x}" for first, last in found.coverage.lost]
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    return ", ".join(parts[:4]) + more


def headline(found: Diagnosis) -> str:
    """Return what kernel and Xen these are, and where the page tables were found."""
    release = banner().split()[2].decode("latin-1")
    root = found.kernel.root
    domain = f", domain {found.info.domain}" if found.info.domain else ""
    return (
        f"Linux {release} on Xen {found.info.version}{domain}, {found.table.layout} p2m,"
        f" page tables at {root.maddr:x} ({root.source})"
    )


# --------------------------------------------------------------------------
# Doing


def ensure_checked(found: Diagnosis) -> None:
    """Let only a list pass that the direct map confirms.

    :raises P2mError: it does not.
    """
    if not found.check.asked:
        raise P2mError(
            "no page of the rebuilt list is in the kernel's direct map: nothing is changed"
        )
    if not found.check.passed:
        raise P2mError(
            f"the rebuilt list fails its check: of {found.check.asked}"
            f" pages the direct map agrees on {found.check.agree}; nothing is changed"
        )


def repair() -> None:
    """Rebuild, check, then patch: all of it or nothing."""
    found = diagnosis()
    coverage = found.coverage
    say(headline(found))
    if coverage.kept:
        say(
            f"{len(coverage.kept):,} leaves that the page tables have lost"
            " are kept as the list has them"
        )
    if found.healthy and not opened_domain:
        say(f"the dump's list covers {pages(found)}: nothing to repair, nothing changed")
        return
    if coverage.unreadable:
        count, first = len(coverage.unreadable), coverage.unreadable[0]
        say(f"{count:,} leaves are not in the dump, the first: {first}")
    ensure_checked(found)
    patch.apply(found.rebuilt)
    if opened_domain:
        say(
            f"the p2m of its {coverage.memory:,} pages is rebuilt from page tables;"
            f" {found.seconds:.3f} s"
        )
        return
    say(
        f"the dump's list covers {pages(found)};"
        f" rebuilt from page tables: {coverage.memory:,}"
        + ("" if coverage.kept or coverage.unreadable else " (100%)")
    )
    if coverage.leaves_lost:
        missing = f"{coverage.leaves_lost:,} of {coverage.leaves:,} leaves were missing,"
        say(f"{missing} pfn {lost(found)}; {found.seconds:.3f} s")
    else:
        say(f"crash could not read by it: {found.published.problems[0]}")


def start_again() -> None:
    """In a full session that began with a broken list: start crash anew with the rebuilt one.

    What crash has read at its start it keeps, and some of those reads have failed.
    """
    found = diagnosis()
    if found.healthy or started_repaired():
        return
    ensure_checked(found)
    say("crash was started with a broken list, and keeps what it has read by it")
    say("starting it anew in place, with its extensions and history, without its settings ...")
    try:
        restart(found.rebuilt)
    except P2mError as problem:
        say(f"{problem}: tasks, modules and the like stay as crash has read them")
        say("to have them right, open the dump anew: p2mfix VMLINUX VMCORE")


def fix() -> None:
    """Repair, and carry a minimal session on to a full one, or start a full one anew."""
    session = crash.session()
    if session.live:
        say("this is a live session: crash translates there by itself, nothing to repair")
        return
    if not session.minimal:
        start_again()
    repair()
    if session.minimal:
        if misses_pv_kernel(session.crash_version, CrashSymbols()):
            say(f"crash {session.crash_version} does not know this kernel for a PV one: it is told")
        say("starting the full session ...")
        start_full_session()


def loaded() -> None:
    """Run by ``extend`` once this file is loaded."""
    fix()


def unloaded() -> None:
    """Run by ``extend -u``: crash gets its own list back, except for a guest: it has dom0's."""
    if not opened_domain:
        patch.undo()


# --------------------------------------------------------------------------
# Looking


def status() -> None:
    """``p2m status``."""
    found = diagnosis()
    coverage = found.coverage
    print(headline(found))
    unlisted = bool(opened_domain) and found.info.frame_list_mfn == LIST_INVALID
    if unlisted:
        print("   dump's list: none, the guest keeps no such list")
    else:
        print(f"   dump's list: {pages(found)}")
        for problem in found.published.problems[:4]:
            print(f"                {problem}")
    print(f"  rebuilt list: {coverage.memory:,} pages in {coverage.leaves:,} leaves")
    if coverage.kept:
        print(
            f"          kept: {len(coverage.kept):,} leaves of the dump's list,"
            " lost by the page tables"
        )
    if coverage.leaves_lost and not unlisted:
        print(f"          lost: {coverage.leaves_lost:,} leaves, pfn {lost(found)}")
    kinds = ", ".join(f"{coverage.kinds[kind]:,} {kind.value}" for kind in Kind)
    print(f"          pfns: {found.table.max_pfn:,} ({kinds})")
    agree, asked = found.check.agree, found.check.asked
    print(f"         check: direct map and rebuilt list agree on {agree:,} of {asked:,} pages")
    print(f"   crash reads: by the {'rebuilt' if patch.applied else 'dump' + chr(39) + 's'} list")


def describe(found: Diagnosis, frames: FrameList, pfn: int) -> str:
    """Return what a list says of ``pfn``, in words."""
    leaf = frames.leaf(pfn // PFNS_PER_LEAF)
    if leaf is None:
        return "no leaf"
    try:
        entry = found.entry(frames, pfn)
    except ReadError as error:
        return f"leaf mfn {leaf:x}, which cannot be read: {error.why or 'not in the dump'}"
    assert entry is not None
    kind = kind_of(entry)
    mfn = f"mfn {entry:x}, " if kind is Kind.MEMORY else ""
    return f"{mfn}{kind.value} (leaf mfn {leaf:x})"


def show_pfn(pfn: int) -> None:
    """``p2m pfn N``."""
    found = diagnosis()
    if pfn >= found.table.max_pfn:
        raise P2mError(f"pfn {pfn:x} is above the last one, {found.table.max_pfn - 1:x}")
    print(f"pfn {pfn:x}: {found.kind(pfn).value}")
    print(f"   dump's list: {describe(found, found.published, pfn)}")
    print(f"  rebuilt list: {describe(found, found.rebuilt, pfn)}")


def show_mfn(mfn: int) -> None:
    """``p2m mfn N``."""
    pfns = [f"{pfn:x}" for pfn in diagnosis().pfns_of(mfn)]
    print(f"mfn {mfn:x}: " + (f"pfn {', '.join(pfns)}" if pfns else f"not {whose()} memory"))


def show_va(vaddr: int) -> None:
    """``p2m va ADDRESS``."""
    found = diagnosis()
    steps = list(found.kernel.tables.walk(vaddr))
    print(f"virtual address {vaddr:x}, page tables at {found.kernel.root.maddr:x}")
    for step in steps:
        kind = "" if step.present else ", not present"
        if step.present and step.is_page and step.page_size > 4096:
            kind = f", a page of {step.page_size >> 20} MiB"
        print(f"  {step.name}: {step.entry_maddr:>12x} => {step.entry:x}{kind}")
    if not steps[-1].present:
        raise P2mError(f"virtual address {vaddr:x} is not mapped")
    maddr = steps[-1].target(vaddr)
    print(f"  machine address {maddr:x} (mfn {maddr >> 12:x})")
    pfns = list(found.pfns_of(maddr >> 12))
    if not pfns:
        print(f"  not {whose()} memory: no pfn has this mfn")
    for pfn in pfns:
        print(f"  pseudo-physical address {(pfn << 12) | (maddr & 4095):x} (pfn {pfn:x})")
        print(f"     dump's list: {describe(found, found.published, pfn)}")
        print(f"    rebuilt list: {describe(found, found.rebuilt, pfn)}")


def show_list(as_json: bool) -> None:
    """``p2m list``."""
    found = diagnosis()
    if as_json:
        listed = [
            {
                "first": part.first,
                "last": part.last,
                "pages": part.pages,
                "kind": part.kind.value,
                "source": part.source.value,
            }
            for part in ranges(found)
        ]
        print(json.dumps({"max_pfn": found.table.max_pfn, "ranges": listed}))
        return
    print(f"{'FIRST':>10} {'LAST':>10} {'PAGES':>14}  {'KIND':<9} KNOWN FROM")
    for part in ranges(found):
        print(
            f"{part.first:>10x} {part.last:>10x} {part.pages:>14,}"
            f"  {part.kind.value:<9} {part.source.value}"
        )


def watched(leaves: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Pass on leaves one by one; where there is a terminal, show how far it has come."""
    if not os.isatty(2) or not crash.session().terminal:
        return leaves
    from rich.console import Console  # noqa: PLC0415  (costs a tenth of a second)
    from rich.progress import track  # noqa: PLC0415

    terminal = Console(file=os.fdopen(os.dup(2), "w"))
    return track(leaves, "p2mfix: comparing leaves", console=terminal, transient=True)


def show_verification(everything: bool) -> None:
    """``p2m verify``."""
    found = diagnosis()
    done = verify(found, sample(found, sys.maxsize if everything else SAMPLE), watched)
    part = "all" if done.looked_at == done.leaves else "a sample"
    print(f"{done.pages:,} pages in {done.looked_at:,} of {done.leaves:,} leaves ({part}):")
    for name, tally in ((DIRECT_MAP, done.direct_map), (M2P, done.m2p)):
        absent = f", not there for {tally.absent:,}" if tally.absent else ""
        print(f"{name:>24}: agrees on {tally.agree:,}, disagrees on {tally.differ:,}{absent}")
    for wrong in done.disagreements:
        has = "mfn" if wrong.table == DIRECT_MAP else "pfn"
        print(
            f"  pfn {wrong.first:x}-{wrong.last:x}: the p2m has mfn {wrong.p2m:x} for the first,"
            f" the {wrong.table} {has} {wrong.other:x}"
        )


def show_live(pfn: int | None) -> None:
    """``p2m status``, and ``p2m pfn N``, of a running kernel: by its own virtual addresses.

    :raises P2mError: it is none of a Xen PV domain, or of a layout before 3.19.
    """
    layout = find_layout(CrashSymbols())
    if layout.name != "linear":
        raise P2mError(f"in a live session a {layout.name} p2m is not read")
    p2m_addr, pfns = (crash.readPtr(crash.sym2addr(name)) for name in ("xen_p2m_addr", "max_pfn"))
    if not p2m_addr:
        raise P2mError("the running kernel is not that of a Xen PV domain: it has no p2m")
    if pfn is None:
        release = banner().split()[2].decode("latin-1")
        print(f"Linux {release}, running, {layout.name} p2m at {p2m_addr:x}, {pfns:,} pfns")
        print("   crash reads: the running kernel; there is no dump's list to repair")
        return
    if pfn >= pfns:
        raise P2mError(f"pfn {pfn:x} is above the last one, {pfns - 1:x}")
    entry = crash.readPtr(p2m_addr + 8 * pfn)
    kind = kind_of(entry)
    print(f"pfn {pfn:x}: " + (f"mfn {entry:x}, " if kind is Kind.MEMORY else "") + kind.value)


def undo() -> None:
    """``p2m undo``."""
    if opened_domain:
        raise P2mError(
            f"the dump's own list is dom0's: domain {opened_domain} cannot be read by it"
        )
    if not patch.applied:
        raise P2mError("nothing to undo: crash reads by the dump's own list")
    patch.undo()
    say("crash reads by the dump's own list again; what it has read before stays as it is")


def hexadecimal(text: str) -> int:
    """Return a number of up to 64 bits written in hexadecimal, with or without 0x."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", text):
        raise argparse.ArgumentTypeError(f"{text}: not a hexadecimal number of up to 64 bits")
    return int(text, 16)


def address(text: str) -> int:
    """Return an address written in hexadecimal, or the address of a symbol."""
    try:
        found = hexadecimal(text)
    except argparse.ArgumentTypeError:
        found = crash.sym2addr(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: not an address and not a symbol")
    if found >> 47 not in (0, 0x1FFFF):
        raise argparse.ArgumentTypeError(f"{text}: not canonical, no address of x86-64")
    return found


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command ``p2m``."""
    top = argparse.ArgumentParser(
        prog="p2m",
        description="Shows and repairs the map from pseudo-physical to machine frames"
        " that crash reads a Xen dom0 by. Numbers are hexadecimal.",
    )
    actions = top.add_subparsers(dest="action", metavar="action")
    actions.add_parser("status", help="what was found, and which list crash reads by (default)")
    actions.add_parser(
        "list", help="all of it, as ranges of frames: what is there, and which of both knows it"
    ).add_argument("--json", action="store_true", help="for scripts; numbers are decimal")
    actions.add_parser(
        "verify", help="compare it with the direct map and with Xen's machine-to-phys table"
    ).add_argument("--all", action="store_true", help=f"every leaf, not up to {SAMPLE:,} of them")
    add_picture_arguments(
        actions.add_parser("map", help="the same as a picture; in colour without a pager")
    )
    actions.add_parser("fix", help="repair; go on to the full session, or start a full one anew")
    actions.add_parser("undo", help="give crash its own list back")
    actions.add_parser(
        "pfn", help="what is behind a pseudo-physical frame, by both lists"
    ).add_argument("number", type=hexadecimal)
    actions.add_parser("mfn", help="which pseudo-physical frame has a machine frame").add_argument(
        "number", type=hexadecimal
    )
    actions.add_parser(
        "va", help="how a kernel virtual address translates, level by level"
    ).add_argument("address", type=address)
    return top


@command("p2m", parser=parser(), help="map of a Xen dom0's frames", minimal=True)
def p2m(args: argparse.Namespace) -> None:
    """The command ``p2m``."""
    if crash.session().live and args.action in (None, "status", "pfn"):
        show_live(args.number if args.action == "pfn" else None)
    elif args.action == "pfn":
        show_pfn(args.number)
    elif args.action == "mfn":
        show_mfn(args.number)
    elif args.action == "va":
        show_va(args.address)
    elif args.action == "list":
        show_list(args.json)
    elif args.action == "map":
        colour = crash.session().output_terminal
        width = min(os.get_terminal_size(1).columns, 120) if colour else 80
        session = crash.session()
        files = (session.dumpfile, session.namelist, session.namelist_debug)
        show_pictures(diagnosis(), args, width, colour, filter(None, files))
    elif args.action == "verify":
        show_verification(args.all)
    else:
        {"fix": fix, "undo": undo}.get(args.action, status)()
