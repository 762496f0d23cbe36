# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump opened once: everything that commands ask of it, each answer found once.

    opened = OpenedDump(open_dump(["vmcore"]), [Namelist("vmlinux")])
    print(opened.kernel.root, opened.diagnosis.coverage.covered)

The same class works on a dump's files and in a session of crash, whose memory is used as a
dump and whose symbols are used as a namelist (see ``host/session.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from .errors import NotPvError, P2mError, ReadError
from .limits import Once
from .linux.banners import MOST_PAGES, find_banner, release_of
from .linux.find_namelist import installed_namelists, none_found
from .linux.kernel import Kernel, KernelFile
from .linux.other_kernel import other_build, refuse_others
from .linux.root_proof import prove_root
from .linux.vmcoreinfo import release_in
from .machine.dumps import Dump
from .machine.paging import ADDRESS_MASK, PageTables
from .native.memory import NativeMemory
from .p2m.diagnosis import (
    Diagnosis,
    diagnose_kernel,
    diagnose_without_namelist,
    root_candidates,
)
from .p2m.framelist import FrameList, read_list
from .xen.domains import Domain, Xen, open_xen
from .xen.frame_table import FrameTable
from .xen.hints import DomainHints, hints_from_note, hints_from_xen
from .xen.notes import CrashNote, read_crash_note
from .xen.shared_info import LIST_INVALID
from .xen.vcpus import Vcpu, dom0_vcpus
from .xen.vmcoreinfo import read_vmcoreinfo

__all__ = ["OpenedDump"]


class OpenedDump(Once):
    """A dump, the namelists given for it, and one domain of its Xen host.

    A property raises :class:`P2mError` if the dump has no answer; that error is raised
    again each time the property is read.

    :param dump: its memory and notes.
    :param namelists: the namelists among which the domain's is found.
    :param paths: the dump's files, for messages.
    :param domain: the id of the domain, 0 for dom0.
    """

    def __init__(
        self,
        dump: Dump,
        namelists: Sequence[KernelFile] = (),
        paths: Sequence[str] = (),
        domain: int = 0,
    ) -> None:
        super().__init__()
        self.dump = dump
        self.namelists = tuple(namelists)
        self.paths = tuple(paths)
        self.domain = domain
        self._tables: dict[int, PageTables] = {}
        self._banners: dict[int, bytes | None] = {}
        self._pages = iter(range(MOST_PAGES))  # that may still be searched for a banner
        self.found: KernelFile | None = None
        """The namelist that :meth:`look_for_namelist` took."""
        self._sought: str | None = None  # the release that it looked for

    @cached_property
    def note(self) -> CrashNote | None:
        """Xen's crash notes, or None if this is not a dump of a Xen host."""
        return self._once("note", lambda: read_crash_note(self.dump.notes))

    @cached_property
    def xen(self) -> Xen:
        """Xen's memory."""
        return self._once("xen", self._open_xen)

    def _open_xen(self) -> Xen:
        try:
            return open_xen(self.dump, self.dump.notes)
        except P2mError as error:
            raise self._explained(error) from None

    @cached_property
    def domains(self) -> list[Domain]:
        """The Xen host's domains, by id."""
        return self._once("domains", lambda: sorted(self.xen.domains(), key=lambda one: one.id))

    @cached_property
    def frames(self) -> FrameTable | None:
        """Xen's frame table, or None where the dump does not have it."""
        with suppress(P2mError):
            return self.xen.frames
        with suppress(P2mError):  # Xen's list of domains may be damaged; a kernel maps Xen as well
            tables = self.diagnosis.kernel.tables
            return FrameTable(tables, read_vmcoreinfo(self.dump.notes), self.hints.version)
        return None

    @cached_property
    def native(self) -> NativeMemory:
        """The domain's memory as its kernel would have it without Xen."""
        return self._once("native", lambda: NativeMemory(self.diagnosis, self.frames))

    def owner(self, cr3: int) -> int | None:
        """Return the id of the domain that owns a top page table.

        Return None if it is Xen's own, or its owner cannot be found.
        """
        try:
            return self.xen.owner(cr3)
        except P2mError:
            return None

    @cached_property
    def vcpus(self) -> list[Vcpu]:
        """dom0's vcpus, by number, with the registers that Xen has of them."""
        return self._once("vcpus", lambda: dom0_vcpus(self.dump, self.dump.notes))

    @cached_property
    def hints(self) -> DomainHints:
        """Where the domain's page tables and frame list may be."""
        return self._once("hints", self._hints)

    def _hints(self) -> DomainHints:
        if self.note is None:
            raise P2mError("this is not a dump of a Xen host, so there is no p2m to repair")
        try:
            return hints_from_xen(self.xen, self.domain)
        except P2mError:
            if self.domain:
                raise
            return hints_from_note(self.note)  # less, but enough for most dumps

    @cached_property
    def published(self) -> FrameList:
        """The dump's list for the domain, as far as it can be read."""
        return self._once("published", lambda: read_list(self.dump, self.hints.frame_list_mfn))

    def tables(self, root: int) -> PageTables:
        """Return the page tables below a root (a machine address), always the same ones."""
        maddr = root & ADDRESS_MASK
        if maddr not in self._tables:
            self._tables[maddr] = PageTables(self.dump, maddr)
        return self._tables[maddr]

    @cached_property
    def proved(self) -> tuple[KernelFile, Kernel]:
        """The namelist that matches the dump, and its kernel, read through a proved root."""
        return self._once("proved", self._proved)

    def _proved(self) -> tuple[KernelFile, Kernel]:
        for same_release in (False, True):  # the dump's own before another build of it
            problems = []
            for namelist in self.namelists:
                roots = root_candidates(self.dump, namelist, self.hints, self.published)
                try:
                    kernel = prove_root(
                        self.dump, namelist, namelist.banner(), roots, self.tables, same_release
                    )
                except P2mError as error:
                    problems.append((namelist, error))
                    continue
                return namelist, kernel
        self._refuse_hvm()
        self._refuse_others()
        if len(problems) > 1:
            reasons = "; ".join(f"{one.path}: {problem}" for one, problem in problems)
            raise self._explained(f"no given vmlinux matches this dump: {reasons}")
        if problems:
            raise self._explained(problems[0][1])
        raise self.no_namelist()

    def no_namelist(self) -> P2mError:
        """Return the error that no namelist was given, and that none was found."""
        text = none_found(self._sought, bool(self.dump.incomplete))
        return P2mError(text) if self._sought else self._explained(text)

    def _explained(self, problem: P2mError | str) -> P2mError:
        """Return a problem as an error that begins with its likely cause: an incomplete dump."""
        why = self.dump.incomplete
        return P2mError(f"{why}: {problem}" if why else str(problem))

    def banner(self, root: int) -> bytes | None:
        """Return the banner of the kernel that a top page table maps, found without symbols.

        Return None if it maps no Linux kernel.

        :raises ReadError: the page table is not in the dump.
        """
        tables = self.tables(root)
        # All processes share a kernel's tables below the top one; START_KERNEL_MAP is in the
        # last 512 GiB
        below = tables.table(root & ADDRESS_MASK, 0)[-1] & ADDRESS_MASK
        if below not in self._banners:
            self._banners[below] = find_banner(tables, self._pages)
        return self._banners[below]

    @cached_property
    def own_banner(self) -> bytes | None:
        """The banner of the domain's kernel, found without symbols, or None if it is not.

        Where Xen's memory is not in the dump, a cpu may have run another domain's kernel.
        """
        try:
            roots = [(root.maddr, self.owner(root.maddr)) for root in self.hints.roots]
        except P2mError:
            return None
        found: dict[bytes, bool] = {}
        for maddr, owner in roots:
            with suppress(ReadError):
                banner = self.banner(maddr)
                if banner is not None:
                    found[banner] = found.get(banner, False) or owner == self.domain
        known = [banner for banner, own in found.items() if own] or list(found)
        return known[0] if len(known) == 1 else None

    def _refuse_others(self) -> None:
        """Say what the dump's kernel is, and what the given namelists are of.

        :raises OtherKernelError: they are all of another kernel.
        """
        try:
            given = [(namelist.path, namelist.banner()) for namelist in self.namelists]
        except P2mError:
            return
        if given and self.own_banner is not None:
            refuse_others(given, self.own_banner)

    @property
    def other_build(self) -> str | None:
        """A sentence where the namelist is of another build of the dump's release, else None."""
        namelist, kernel = self.proved
        return other_build(namelist.path, namelist.banner(), kernel.banner)

    def look_for_namelist(self) -> str | None:
        """If no namelist was given, take the dump's own where it is installed or beside the dump.

        Return the release that was looked for, or None: none was, or the dump does not say it.
        """
        release = None if self.namelists else self.own_release
        if release is None:
            return None
        self._sought = release
        folders = dict.fromkeys(Path(path).parent for path in self.paths)
        # All at once, so that the dump's own is taken before another build of the release
        self.namelists = tuple(installed_namelists(release, [*folders]))
        if self.namelists:
            self.found = self.namelists[0] if self.note is None else self.namelist
            self.namelists = () if self.found is None else (self.found,)
            self._failures.pop("proved", None)
        return release

    @property
    def own_release(self) -> str | None:
        """The release that the dump itself says, or None; it may be that of a dump without Xen."""
        banner = self.own_banner
        return release_in(self.dump.notes) if banner is None else release_of(banner)

    def _refuse_hvm(self) -> None:
        """Say so where the domain's kernel cannot be found because it is not a PV one.

        Such a kernel publishes no list.

        :raises NotPvError: it is a PVH or HVM domain, which has no p2m.
        """
        kind = ""
        if self.hints.frame_list_mfn in (0, LIST_INVALID):
            with suppress(P2mError):
                kind = self.xen.owned([self.xen.domain(self.domain)])[self.domain].kind
        if kind == "HVM":
            name = f"domain {self.domain}" if self.domain else "dom0"
            raise NotPvError(
                f"{name} is a PVH or HVM domain: it has no p2m, and p2mfix opens PV domains only"
            )

    @property
    def namelist(self) -> KernelFile | None:
        """The namelist that matches the dump, or None if none of those given does.

        :raises NotPvError: no namelist can match, because the domain has no p2m.
        """
        try:
            return self.proved[0]
        except NotPvError:
            raise
        except P2mError:
            return None

    @property
    def kernel(self) -> Kernel:
        """The domain's kernel, read through its proved page-table root."""
        return self.proved[1]

    @property
    def release(self) -> str:
        """The release of the domain's kernel, such as ``6.1.0-56-amd64``."""
        return release_of(self.proved[1].banner)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The domain's p2m, the dump's list, and the difference.

        If no namelist is given, the p2m is found through the kernel's shared_info.
        """
        return self._once("diagnosis", self._diagnosis)

    def _diagnosis(self) -> Diagnosis:
        start = time.perf_counter()
        if not self.namelists:
            return self.diagnosis_without_namelist
        return diagnose_kernel(self.hints, self.kernel, self.published, start)

    @cached_property
    def diagnosis_without_namelist(self) -> Diagnosis:
        """The same, found through shared_info even if namelists are given."""
        return self._once("diagnosis_without_namelist", self._diagnosis_without_namelist)

    def _diagnosis_without_namelist(self) -> Diagnosis:
        try:
            return diagnose_without_namelist(self.dump, self.hints, self.published)
        except P2mError as error:
            self._refuse_hvm()
            raise self._explained(error) from None
