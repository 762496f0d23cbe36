"""What a dump tells of itself, whether or not crash can open it.

Everything is found with the dump alone as far as that goes; with the kernel's
namelist its p2m is rebuilt and compared as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .domains import domain_info, open_xen
from .dumps import Dump, open_dump
from .errors import P2mError, ReadError
from .kernel import START_KERNEL_MAP, XenInfo, prove_root, xen_info
from .memory import PAGE_SHIFT, PAGE_SIZE, ElfCore
from .namelist import Namelist
from .p2m import (
    Diagnosis,
    Failure,
    FrameList,
    Kind,
    diagnose,
    diagnose_without_namelist,
    failure_of,
    failure_of_list,
    read_list,
)
from .p2m.diagnosis import root_candidates
from .paging import ADDRESS_MASK, NOT_MAPPED, PageTables

KERNEL_IMAGE_PAGES = (1 << 30) >> PAGE_SHIFT  # KERNEL_IMAGE_SIZE: 512 MiB, 1 GiB with KASLR
UNREADABLE = ""
BANNER = re.compile(rb"Linux version [^\0\n]{1,500}\n")
TEXT_PAGES_BEFORE_BANNER = 1 << 16  # 256 MiB of text: none has more


@dataclass(frozen=True)
class Cr3:
    """The top page table that a physical cpu was using, and whose it is."""

    cpu: int
    maddr: int
    owner: str


@dataclass
class Report:
    """What is known of a dump.

    Frame numbers and counts are in pages.  What could not be found is None, and
    ``problems`` has a sentence for each reason.
    """

    dump: str
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
        """True when plain crash can read this dump by its own list."""
        return self.verdict == HEALTHY

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)


HEALTHY = "the list is whole"
NOT_XEN = "not a dump of a Xen host"
CUT_OFF = "the dump file is cut off"


def kernel_banners(dump: Dump, info: XenInfo) -> dict[int, str | None]:
    """Return, for each top page table that a cpu used, the banner of the kernel mapped there.

    None where there is no Linux kernel: Xen's own idle page table, or another
    system's; ``UNREADABLE`` where the page table is not in the dump.
    """
    found: dict[int, str | None] = {}
    for cr3 in info.cr3s:
        root = cr3 & ADDRESS_MASK
        if root not in found:
            found[root] = _banner(dump, PageTables(dump, root))
    return found


def _banner(dump: Dump, tables: PageTables) -> str | None:
    """Return the banner of the Linux kernel that these page tables map, without a symbol of it."""
    try:
        frames = tables.frames(START_KERNEL_MAP, KERNEL_IMAGE_PAGES)
    except ReadError:
        return UNREADABLE
    before = b""
    mapped = (mfn for mfn in frames if mfn != NOT_MAPPED)
    for _, mfn in zip(range(TEXT_PAGES_BEFORE_BANNER), mapped):
        try:
            page = dump.read(mfn << PAGE_SHIFT, PAGE_SIZE, "kernel image")
        except ReadError:
            page = b""
        match = BANNER.search(before + page)
        if match:
            return match[0].decode("latin-1").rstrip("\n")
        before = page
    return None


def guests(dump: Dump, info: XenInfo) -> dict[int, str]:
    """Return, for the top page tables that a guest's cpu was on, which guest's that is."""
    try:
        xen = open_xen(dump, dump.notes)
    except P2mError:
        return {}
    owners = {cr3 & ADDRESS_MASK: xen.owner(cr3 >> PAGE_SHIFT) for cr3 in info.cr3s}
    return {root: f", domain {owner}" for root, owner in owners.items() if owner}


def release_of(banner: str) -> str:
    """Return the release a banner names, such as ``6.1.0-56-amd64``."""
    return banner.split()[2]


def pick_namelist(
    dump: Dump, info: XenInfo, published: FrameList, namelists: Sequence[Namelist]
) -> Namelist | None:
    """Return the one of several namelists whose kernel is in the dump, or None."""
    for namelist in namelists:
        roots = root_candidates(dump, namelist, info, published)
        try:
            prove_root(dump, namelist, namelist.banner(), roots)
        except P2mError:
            continue
        return namelist
    return None


def report(paths: Sequence[str | Path], namelists: Sequence[Namelist] = ()) -> Report:
    """Return what a dump tells; of several namelists its own is picked.

    :param paths: the dump's file; of a split dump its files.
    """
    return report_and_diagnosis(paths, namelists)[0]


def report_and_diagnosis(
    paths: Sequence[str | Path], namelists: Sequence[Namelist]
) -> tuple[Report, Diagnosis | None]:
    """Return the report, and the diagnosis behind it where one could be made."""
    result = Report(" ".join(map(str, paths)))
    try:
        dump = open_dump(paths)
        result.format = dump.format
        if isinstance(dump, ElfCore) and dump.missing:
            result.problems.append(f"the file is cut off: {dump.missing:,} bytes are missing")
            result.verdict = CUT_OFF
        info = xen_info(dump.notes)
    except P2mError as error:
        result.problems.append(str(error))
        return result, None
    if info is None:
        if result.verdict != CUT_OFF:
            result.verdict = NOT_XEN
        return result, None
    result.xen = info.version
    result.list_mfn = info.frame_list_mfn
    banners = kernel_banners(dump, info)
    owners = guests(dump, info)
    for cpu, cr3 in enumerate(info.cr3s):
        banner = banners[cr3 & ADDRESS_MASK]
        if banner == UNREADABLE:
            owner = "not in the dump"
        else:
            owner = f"Linux {release_of(banner)}" if banner else "no Linux kernel: Xen's own"
            owner += owners.get(cr3 & ADDRESS_MASK, "")
        result.cr3s.append(Cr3(cpu, cr3 & ADDRESS_MASK, owner))
    known = [banner for banner in banners.values() if banner]
    if known:
        result.release = release_of(known[0])
    published = read_list(dump, info.frame_list_mfn)
    result.problems.extend(published.problems[:4])
    result.list_leaves = sum(1 for mfn in set(published.leaves) if mfn not in (0, NOT_MAPPED))
    _judge(result, failure_of_list(info, published))
    own = domain_info(dump, dump.notes, 0) or info
    namelist = pick_namelist(dump, own, published, namelists)
    try:
        if namelist is None:
            wanted = f"the vmlinux of {result.release}" if known else "its kernel's vmlinux"
            others = "none of the namelists is its kernel's: " if namelists else ""
            result.problems.append(f"{others}crash needs {wanted}")
            found = diagnose_without_namelist(dump, own)
        else:
            result.vmlinux = str(namelist.path)
            result.release = release_of(namelist.banner().decode("latin-1"))
            found = diagnose(dump, namelist, namelist.banner(), own)
    except P2mError as error:
        result.problems.append(str(error))
        return result, None
    _tell(result, found)
    return result, found


def _tell(result: Report, found: Diagnosis) -> None:
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
    result.next = f"{program} {result.vmlinux or 'VMLINUX'} {result.dump}"


def _judge(result: Report, broken: Failure | None) -> None:
    if broken is not None and result.verdict != CUT_OFF:
        result.verdict, result.crash_says = broken.meaning, broken.crash_says


def pairs(result: Report) -> Iterator[tuple[str, str]]:
    """Yield a report for a person: names and texts; an empty name goes on with the one before."""
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
        memory, covered = result.kinds["memory"], result.covered or 0
        yield "p2m", f"{result.layout}, page tables at {result.root}"
        yield "pfns", f"{result.max_pfn:,} ({kinds})"
        percent = 100 * covered / memory
        yield "covered", f"{covered:,} of {memory:,} pages ({percent:.1f}%)"
        lost = result.lost or []
        for number, (first, last) in enumerate(lost[:4]):
            yield "" if number else "lost", f"pfn {first:x}-{last:x}"
        if len(lost) > 4:
            yield "", f"and {len(lost) - 4} more"
    if result.check:
        agree, asked = result.check
        yield "check", f"direct map and rebuilt list agree on {agree:,} of {asked:,} pages"
    yield "verdict", result.verdict
    if result.crash_says:
        yield "crash says", result.crash_says
    for problem in result.problems:
        yield "problem", problem
    if result.next:
        yield "next", result.next


def lines(result: Report) -> Iterator[str]:
    """Yield a report as lines of text."""
    for name, text in pairs(result):
        yield f"{name + ':' if name else '':>14} {text}"


def one_line(result: Report) -> str:
    """Return a report as one line."""
    facts = [f"Xen {result.xen}" if result.xen else "", result.release or ""]
    if result.kinds and result.kinds["memory"]:
        facts.append(f"{100 * (result.covered or 0) / result.kinds['memory']:.1f}% covered")
    verdict = result.verdict
    if verdict == "unknown" and result.problems:
        verdict += f" ({result.problems[0]})"
    return ": ".join([result.dump, ", ".join([*filter(None, facts), verdict])])
