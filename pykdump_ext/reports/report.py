# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a dump: what it is, what is wrong with its list, and what to do.

The report needs only the dump.  With the kernel's namelist, or where the kernel published its p2m
to Xen, the list is also rebuilt and compared.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import NotPvError, P2mError, ReadError, printable
from ..linux.kernel import START_KERNEL_MAP
from ..linux.namelist import Namelist, release_of
from ..machine.dumps import open_dump
from ..machine.elf import ElfCore
from ..machine.memory import PAGE_SHIFT, PAGE_SIZE
from ..machine.paging import ADDRESS_MASK, NOT_MAPPED, PageTables
from ..opened import OpenedDump
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import Kind
from ..p2m.failure import Failure, failure_of, failure_of_list
from . import words

__all__ = ["Cr3", "Report", "lines", "one_line", "pairs", "report_files"]

# KERNEL_IMAGE_SIZE of arch/x86/include/asm/page_64_types.h: 512 MiB, 1 GiB with KASLR
KERNEL_IMAGE_PAGES = (1 << 30) >> PAGE_SHIFT
UNREADABLE = ""  # in place of a banner: the page table is not in the dump
BANNER = re.compile(rb"Linux version [^\0\n]{1,500}\n")
TEXT_PAGES_BEFORE_BANNER = 1 << 16  # 256 MiB: no kernel has more text


@dataclass(frozen=True)
class Cr3:
    """The top page table that a cpu used: its machine address and its owner."""

    cpu: int
    maddr: int
    owner: str


@dataclass
class Report:
    """What is known of a dump.

    ``dump`` names it, ``files`` are its files, ``next`` is a command line for a shell. Counts
    are in pages.  A value is None where it is unknown; ``problems`` says why, one sentence for
    each reason.  ``kinds`` is the number of pfns of each kind, ``lost`` the first and last pfns
    of the ranges of lost leaves, ``check`` the pages that agree and the pages that were compared.
    """

    dump: str
    files: list[str] = field(default_factory=list)
    format: str | None = None
    xen: str | None = None
    release: str | None = None
    vmlinux: str | None = None
    cr3s: list[Cr3] = field(default_factory=list)
    list_mfn: int | None = None
    list_leaves: int | None = None
    layout: str | None = None
    root: str | None = None
    max_pfn: int | None = None
    kinds: dict[str, int] | None = None
    covered: int | None = None
    lost: list[tuple[int, int]] | None = None
    check: tuple[int, int] | None = None
    verdict: str = "unknown"
    crash_says: str | None = None
    next: str | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float | None = None

    @property
    def healthy(self) -> bool:
        """True when the dump's list is whole, so that plain crash can read by it."""
        return self.verdict == HEALTHY

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary, for JSON."""
        return asdict(self)


HEALTHY = "the list is whole"
NOT_XEN = "not a dump of a Xen host"
NOT_PV = "dom0 is not a PV domain"
CUT_OFF = "the dump file is cut off"


def report_files(
    paths: Sequence[str], namelists: Sequence[Namelist] = ()
) -> tuple[Report, Diagnosis | None]:
    """Return the report of a dump, and the diagnosis behind it, or None where there is none.

    :param paths: the dump's file, or the files of a split dump.
    :param namelists: the kernels it may be of; the report picks the one whose banner matches.
    """
    result = Report(" ".join(paths), list(paths))
    try:
        opened = OpenedDump(open_dump(paths), namelists, paths)
        return result, _fill(result, opened)
    except NotPvError as error:
        result.verdict, result.crash_says = NOT_PV, None
        result.problems = [str(error)]
        return result, None
    except P2mError as error:
        result.problems.append(str(error))
        return result, None


def _fill(result: Report, opened: OpenedDump) -> Diagnosis | None:
    """Fill in the report; return the diagnosis, or None: this is not a Xen host's dump.

    :raises P2mError: the rest of the report cannot be found; the text says why.
    """
    dump = opened.dump
    result.format = dump.format
    if isinstance(dump, ElfCore) and dump.missing:
        result.problems.append(f"the file is cut off: {dump.missing:,} bytes are missing")
        result.verdict = CUT_OFF
    note = opened.note
    if note is None:
        if result.verdict != CUT_OFF:
            result.verdict = NOT_XEN
        return None
    result.xen = note.version
    result.list_mfn = note.frame_list_mfn
    banners = _banners(opened, note.cr3s)
    result.cr3s = [
        Cr3(cpu, cr3 & ADDRESS_MASK, _owner(opened, cr3, banners[cr3 & ADDRESS_MASK]))
        for cpu, cr3 in enumerate(note.cr3s)
    ]
    known = [banner for banner in banners.values() if banner]
    if known:
        result.release = release_of(known[0])
    published = opened.published
    result.problems.extend(published.problems[:4])
    result.list_leaves = sum(1 for mfn in set(published.leaves) if mfn not in (0, NOT_MAPPED))
    _judge(result, failure_of_list(note.frame_list_mfn, published))
    if opened.namelist is None:
        wanted = f"the vmlinux of {result.release}" if known else "its kernel's vmlinux"
        others = "no given vmlinux matches this dump: " if opened.namelists else ""
        result.problems.append(f"{others}crash needs {wanted}")
    else:
        result.vmlinux = str(opened.namelist.path)
        result.release = opened.release
    found = opened.diagnosis if opened.namelist else opened.diagnosis_without_namelist
    _add_diagnosis(result, found)
    return found


def _banners(opened: OpenedDump, cr3s: tuple[int, ...]) -> dict[int, str | None]:
    """Return the banner of the kernel that each top page table maps, by its machine address.

    None stands for a page table that maps no Linux kernel (Xen's idle one, or another
    system's), ``UNREADABLE`` for one that is not in the dump.
    """
    found: dict[int, str | None] = {}
    by_entry: dict[int, str | None] = {}  # all processes share a kernel's tables below the top one
    for root in dict.fromkeys(cr3 & ADDRESS_MASK for cr3 in cr3s):
        tables = opened.tables(root)
        try:
            entry = tables.table(root, 0)[-1]  # START_KERNEL_MAP is in the last 512 GiB
        except ReadError:
            found[root] = UNREADABLE
            continue
        if entry not in by_entry:
            by_entry[entry] = _banner(tables)
        found[root] = by_entry[entry]
    return found


def _banner(tables: PageTables) -> str | None:
    """Search the kernel that these page tables map for its banner; no symbols are needed.

    Return None where they map no Linux kernel, ``UNREADABLE`` where they are not in the dump.
    """
    try:
        frames = tables.frames(START_KERNEL_MAP, KERNEL_IMAGE_PAGES)
    except ReadError:
        return UNREADABLE
    before = b""
    mapped = (mfn for mfn in frames if mfn != NOT_MAPPED)
    for _, mfn in zip(range(TEXT_PAGES_BEFORE_BANNER), mapped):
        try:
            page = tables.memory.read(mfn << PAGE_SHIFT, PAGE_SIZE, "kernel image")
        except ReadError:
            page = b""
        match = BANNER.search(before + page)
        if match:
            return match[0].decode("latin-1").rstrip("\n")
        before = page
    return None


def _owner(opened: OpenedDump, cr3: int, banner: str | None) -> str:
    """Return a few words on the owner of the top page table in a cr3."""
    if banner == UNREADABLE:
        return "not in the dump"
    owner = f"Linux {release_of(banner)}" if banner else "no Linux kernel: Xen's own"
    domain = opened.owner(cr3)
    return owner + (f", domain {domain}" if domain else "")


def _add_diagnosis(result: Report, found: Diagnosis) -> None:
    coverage = found.coverage
    result.layout = found.table.layout
    result.root = f"{found.kernel.root.maddr & ADDRESS_MASK:x} ({found.kernel.root.source})"
    result.max_pfn = found.table.max_pfn
    result.kinds = {kind.value: coverage.kinds[kind] for kind in Kind}
    result.covered = coverage.covered
    result.lost = list(coverage.lost)
    result.check = (found.check.agree, found.check.asked)
    result.seconds = found.seconds
    result.problems.extend(coverage.unreadable[:4])
    if result.verdict != CUT_OFF:
        result.verdict = HEALTHY
    _judge(result, failure_of(found))
    program = "crash" if found.healthy else "p2mfix"
    result.next = shlex.join([program, result.vmlinux or "VMLINUX", *result.files])


def _judge(result: Report, broken: Failure | None) -> None:
    if broken is not None and result.verdict != CUT_OFF:
        result.verdict, result.crash_says = broken.meaning, broken.crash_says


def pairs(result: Report) -> Iterator[tuple[str, str]]:
    """Yield the (name, text) pairs of a report; an empty name continues the pair before.

    The texts can be shown on a terminal, whatever is in the dump.
    """
    return ((name, printable(text)) for name, text in _pairs(result))


def _pairs(result: Report) -> Iterator[tuple[str, str]]:
    yield "dump", result.dump
    if result.format:
        yield "format", result.format
    if result.xen:
        yield "Xen", result.xen
    if result.release:
        yield "Linux", result.release
    for number, cr3 in enumerate(result.cr3s):
        yield "" if number else "page tables", f"cpu {cr3.cpu}: {cr3.maddr:x}, {cr3.owner}"
    if result.list_mfn is not None:
        yield "dump's list", f"mfn {result.list_mfn:x}, {result.list_leaves:,} leaves"
    if result.kinds:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.kinds.items())
        yield "p2m", f"{result.layout}, page tables at {result.root}"
        yield "pfns", f"{result.max_pfn:,} ({kinds})"
        yield "covered", words.share(result.covered or 0, result.kinds["memory"])
        lost = result.lost or []
        for number, (first, last) in enumerate(lost[:4]):
            yield "" if number else "lost", f"pfn {first:x}-{last:x}"
        if len(lost) > 4:
            yield "", f"and {len(lost) - 4} more"
    if result.check:
        yield "check", words.agreement(*result.check)
    yield "verdict", result.verdict
    if result.crash_says:
        yield "crash says", result.crash_says
    for problem in result.problems:
        yield "problem", problem
    if result.next:
        yield "next", result.next


def lines(result: Report) -> Iterator[str]:
    """Yield a report as lines of text, a pair on each."""
    for name, text in pairs(result):
        yield f"{name + ':' if name else '':>14} {text}"


def one_line(result: Report) -> str:
    """Return a report as one line: the dump, its Xen and kernel, its verdict."""
    facts = [f"Xen {result.xen}" if result.xen else "", result.release or ""]
    if result.kinds and result.kinds["memory"]:
        facts.append(f"{words.percent(result.covered or 0, result.kinds['memory'])} covered")
    verdict = result.verdict
    if verdict == "unknown" and result.problems:
        verdict += f" ({result.problems[0]})"
    return printable(": ".join([result.dump, ", ".join([*filter(None, facts), verdict])]))
