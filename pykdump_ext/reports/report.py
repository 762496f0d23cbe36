# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a dump: what it is, what is wrong with its list, and what to do.

The report needs only the dump.  With the kernel's namelist, or where the kernel published its p2m
to Xen, the list is also rebuilt and compared.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import (
    INCOMPLETE,
    NotPvError,
    OtherFileError,
    OtherKernelError,
    P2mError,
    printable,
)
from ..linux.banners import release_of
from ..linux.kernel import Kernel, KernelFile, Root, Symbols
from ..linux.namelist import Namelist
from ..machine.dumps import open_dump, zeros_help
from ..machine.paging import ADDRESS_MASK, NOT_MAPPED
from ..opened import OpenedDump
from ..p2m.diagnosis import Diagnosis
from ..p2m.entries import Kind
from ..p2m.failure import Failure, failure_by_direct_map, failure_of, failure_of_list
from ..p2m.layouts import MAX_PFNS
from ..p2m.without_namelist import NoNamelist, survey_by_direct_map
from . import words
from .cpus import Cr3, Kernels

__all__ = ["Report", "lines", "one_line", "pairs", "report_files"]


@dataclass
class Report:
    """What is known of a dump.

    ``dump`` names it, ``files`` are its files, ``next`` is a command line for a shell. Counts
    are in pages.  A value is None where it is unknown; ``problems`` says why, one sentence for
    each reason.  ``kinds`` is the number of pfns of each kind, ``lost`` the first and last pfns
    of the ranges of lost leaves, ``check`` the pages that agree and the pages that were compared.
    Where only the direct map shows what the list covers, ``mapped`` is the number of its pages.
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
    mapped: int | None = None
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
        made = asdict(self)
        made["list_mfn"] = words.hexadecimal(self.list_mfn)
        for cr3 in made["cr3s"]:
            cr3["maddr"] = words.hexadecimal(cr3["maddr"])
        if self.lost is not None:
            made["lost"] = [tuple(map(words.hexadecimal, pfns)) for pfns in self.lost]
        return made


HEALTHY = "the list is whole"
NOT_XEN = "not a dump of a Xen host"
NOT_PV = "dom0 is not a PV domain"
LOOKS_WHOLE = "the list covers all that the direct map has"

Helped = Callable[[str, Symbols], bool]
"""Whether the installed crash needs p2mfix even for a whole list, by release and symbols."""


def report_files(
    paths: Sequence[str],
    namelists: Sequence[Namelist] = (),
    is_helped: Helped = lambda release, symbols: False,
    opened: OpenedDump | None = None,
) -> tuple[Report, Diagnosis | None]:
    """Return the report of a dump, and the diagnosis behind it, or None where there is none.

    :param paths: the dump's file, or the files of a split dump.
    :param namelists: the kernels it may be of; the report picks the one whose banner matches.
    :param is_helped: whether the installed crash needs p2mfix even for the whole list of a kernel.
    :param opened: the same dump, if it is open already.
    """
    result = Report(" ".join(paths), list(paths))
    try:
        opened = opened or OpenedDump(open_dump(paths), namelists, paths)
        opened.look_for_namelist()
        return result, _fill(result, opened, is_helped)
    except NotPvError as error:
        result.verdict, result.crash_says = NOT_PV, None
        result.problems = [str(error)]
        return result, None
    except OtherFileError as error:
        result.verdict, result.next = error.verdict, error.next
        result.problems.append(str(error))
        return result, None
    except P2mError as error:
        result.problems.append(str(error))
        return result, None


def _fill(result: Report, opened: OpenedDump, is_helped: Helped) -> Diagnosis | None:
    """Fill in the report; return the diagnosis, or None: this is not a Xen host's dump.

    :raises P2mError: the rest of the report cannot be found; the text says why.
    """
    dump = opened.dump
    result.format = dump.format
    if dump.incomplete:
        result.problems.append(dump.incomplete)
        result.verdict = INCOMPLETE
    note = opened.note
    if note is None:
        if not dump.incomplete:
            result.verdict = NOT_XEN
        return None
    result.xen = note.version
    result.list_mfn = note.frame_list_mfn
    kernels = Kernels(opened)
    result.cr3s = kernels.of_cpus()
    published = opened.published
    result.problems.extend(published.problems[:4])
    result.list_leaves = sum(1 for mfn in set(published.leaves) if mfn not in (0, NOT_MAPPED))
    _judge(result, failure_of_list(note.frame_list_mfn, published))
    if opened.namelist is None:
        found = _without_vmlinux(result, opened, kernels)
    else:
        result.vmlinux = str(opened.namelist.path)
        result.release = opened.release
        result.problems.extend(filter(None, (opened.other_build, _refused(opened.namelist))))
        found = opened.diagnosis
    if found is not None:
        _add_diagnosis(result, found)
        helped = is_helped(result.release or "", opened.namelist or NoNamelist())
        program = "p2mfix" if helped or not found.healthy else "crash"
        _add_next(result, opened, program, _given(opened.namelist))
    return found


def _refused(namelist: KernelFile) -> str | None:
    """Return why crash refuses a namelist, or None."""
    refused = namelist.refused if isinstance(namelist, Namelist) else None
    return None if refused is None else f"{namelist.path}: {refused}"


def _given(namelist: KernelFile | None) -> Sequence[str]:
    """Return the files of a namelist that crash takes; a placeholder where there is none."""
    if not isinstance(namelist, Namelist) or namelist.refused:
        return ["VMLINUX"]
    return namelist.given


def _without_vmlinux(result: Report, opened: OpenedDump, kernels: Kernels) -> Diagnosis | None:
    """Return the diagnosis of a dump without its vmlinux, or None; add what is known instead."""
    found, roots, problem = None, kernels.roots(), ""
    try:
        found = opened.diagnosis_without_namelist
        roots = [found.kernel.root.maddr, *roots]
    except NotPvError:
        raise
    except P2mError as error:
        problem = str(error).removeprefix(f"{opened.dump.incomplete}: ")
    banner = next(filter(None, map(kernels.banner, roots)), None)
    result.release = release_of(banner) if banner else None
    if result.verdict == INCOMPLETE and not banner:
        wanted = "dom0's page tables are not in the file, so no vmlinux can be matched with it"
    else:
        which = f"the vmlinux of {result.release}" if banner else "its kernel's vmlinux"
        wanted = _why_no_namelist(opened, which)
    result.problems.append(wanted)
    result.problems.extend(filter(None, map(_refused, opened.namelists)))
    known = found or (roots and _add_mapped(result, opened, roots[0]))
    if not known and (banner or result.verdict != INCOMPLETE):
        result.problems.append(problem)
    return found


def _why_no_namelist(opened: OpenedDump, wanted: str) -> str:
    """Return a sentence on the namelist that is missing, or on why those given do not match."""
    if not opened.namelists:
        return f"crash needs {wanted}"
    try:
        opened.proved  # noqa: B018  (raises the reason)
    except OtherKernelError as error:
        return str(error)
    except P2mError:
        pass
    return f"no given vmlinux matches this dump: crash needs {wanted}"


def _add_mapped(result: Report, opened: OpenedDump, root: int) -> bool:
    """Add how much the list covers by the direct map of a kernel; return False if it has none."""
    kernel = Kernel(opened.dump, NoNamelist(), Root(root, "cr3"), opened.tables(root))
    try:
        mapped = survey_by_direct_map(kernel, opened.published)
    except P2mError:
        return False
    if not mapped.pages:
        return False
    shared = opened.hints.shared
    end = (shared.max_pfn if shared else 0) or MAX_PFNS
    result.mapped, result.covered = mapped.pages, mapped.covered
    result.lost = [(first, min(last, end - 1)) for first, last in mapped.lost if first < end]
    broken = failure_by_direct_map(opened.hints.frame_list_mfn, opened.published, mapped)
    if not broken and result.verdict != INCOMPLETE:
        result.verdict = LOOKS_WHOLE
    _judge(result, broken)
    result.problems.append(
        "the kernel does not publish where its p2m is: its vmlinux adds the layout, the root of the"
        " page tables, and which pfns are missing, identity or foreign"
    )
    _add_next(result, opened, "p2mfix", ["VMLINUX"])
    return True


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
    if result.verdict != INCOMPLETE:
        result.verdict = HEALTHY
    _judge(result, failure_of(found))


def _add_next(result: Report, opened: OpenedDump, program: str, vmlinux: Sequence[str]) -> None:
    """Set the command that opens the dump; crash reads what is missing as zeros, if it can."""
    zeros = ["--zero_excluded"] if zeros_help(opened.dump) else []
    result.next = shlex.join([program, *vmlinux, *result.files, *zeros])


def _judge(result: Report, broken: Failure | None) -> None:
    """Set the verdict on a broken list; for an incomplete dump it is one problem more."""
    if broken is None:
        return
    result.crash_says = broken.crash_says((result.format or "").startswith("kdump-compressed"))
    if result.verdict != INCOMPLETE:
        result.verdict = broken.meaning
    elif broken.meaning not in result.problems:
        result.problems.append(broken.meaning)


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
        yield "p2m", f"{result.layout}, page tables at {result.root}"
        yield "pfns", f"{result.max_pfn:,} ({words.kinds(result.kinds)})"
        yield "covered", words.share(result.covered or 0, result.kinds["memory"])
    elif result.mapped:
        yield "covered", f"{words.share(result.covered or 0, result.mapped)} of the direct map"
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


def lines(result: Report, width: int | None = None) -> Iterator[str]:
    """Yield a report as lines of text, a pair on each.

    :param width: of a terminal, in characters: longer texts are wrapped between words, except
        those that are copied whole: the dump and the command to type next.
    """
    for name, text in pairs(result):
        line = f"{name + ':' if name else '':>14} {text}"
        if width is None or name in ("dump", "next"):
            yield line
            continue
        yield from textwrap.wrap(
            line, width, subsequent_indent=" " * 15,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def one_line(result: Report) -> str:
    """Return a report as one line: the dump, its Xen and kernel, its verdict."""
    facts = [f"Xen {result.xen}" if result.xen else "", result.release or ""]
    pages = result.kinds["memory"] if result.kinds else result.mapped
    if pages:
        facts.append(f"{words.percent(result.covered or 0, pages)} covered")
    verdict = result.verdict
    if verdict == "unknown" and result.problems:
        verdict += f" ({result.problems[0]})"
    return printable(": ".join([result.dump, ", ".join([*filter(None, facts), verdict])]))
