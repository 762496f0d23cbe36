"""Real dumps turned into those of older kernels: their p2m planted where they kept it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pykdump_ext.kernel import Symbols
from pykdump_ext.memory import PAGE_SHIFT, PAGE_SIZE
from pykdump_ext.namelist import Namelist
from pykdump_ext.p2m import Diagnosis, Kind

from .broken import DumpFile, copy_of, diagnosis, truncate_list
from .cache import product
from .dump import Dump

WORD = 8
PER_PAGE = PAGE_SIZE // WORD


def free_pages(found: Diagnosis, count: int) -> list[int]:
    """Return ``count`` consecutive pfns of memory that nothing has ever been written to.

    From the end of memory down: there the kernel has handed out least.
    """
    run: list[int] = []
    for pfn in range(found.table.max_pfn - 1, 0, -1):
        entry = found.entry(found.rebuilt, pfn)
        empty = (
            entry is not None
            and found.kind(pfn) is Kind.MEMORY
            and not any(found.kernel.memory.read(entry << PAGE_SHIFT, PAGE_SIZE, "a page"))
        )
        run = [pfn, *run] if empty else []
        if len(run) == count:
            return run
    raise RuntimeError("the dump has no free pages to plant anything in")


def words(values: list[int]) -> bytes:
    """Return 64-bit values as they stand in memory."""
    return b"".join(value.to_bytes(WORD, "little") for value in values)


def leaf_addresses(found: Diagnosis) -> Iterator[int]:
    """Yield each leaf's address in the direct map; shared ones are where the kernel has them."""
    base = found.kernel.page_offset()
    shared = {
        found.table.missing_mfn: found.kernel.value("p2m_missing"),
        found.table.identity_mfn: found.kernel.value("p2m_identity"),
    }
    pfns = {}
    for pfn in range(found.table.max_pfn):
        if found.kind(pfn) is Kind.MEMORY:
            pfns[found.entry(found.rebuilt, pfn)] = pfn
    for mfn in found.table.leaves:
        yield shared[mfn] if mfn in shared else base + (pfns[mfn] << PAGE_SHIFT)


def plant_three_levels(dump: Dump, copy: Path) -> None:
    """Plant the tree of 2.6.37 to 3.18 in ``copy``.

    The two pointers to it stand where ``xen_p2m_addr`` and ``xen_p2m_size`` were.
    """
    found = diagnosis(dump)
    base = found.kernel.page_offset()
    leaves = list(leaf_addresses(found))
    mids = -(-len(leaves) // PER_PAGE)
    pages = free_pages(found, mids + 2)
    addresses = [base + (pfn << PAGE_SHIFT) for pfn in pages]
    top, mid_missing, *mid = addresses
    missing = found.kernel.value("p2m_missing")
    content = {
        top: [*mid, *[mid_missing] * (PER_PAGE - mids)],
        mid_missing: [missing] * PER_PAGE,
    }
    for number, address in enumerate(mid):
        part = leaves[number * PER_PAGE : (number + 1) * PER_PAGE]
        content[address] = [*part, *[missing] * (PER_PAGE - len(part))]
    file = DumpFile(copy)
    tables = found.kernel.tables
    for address, values in content.items():
        file.write(tables.translate(address), words(values))
    for variable, value in (("xen_p2m_addr", top), ("xen_p2m_size", mid_missing)):
        file.write(tables.translate(found.kernel.address(variable)), words([value]))


def three_levels(dump: Dump) -> tuple[Dump, Dump]:
    """Return a dump with a three-level p2m, whole and truncated, and its vmlinux."""

    def make(folder: Path) -> None:
        subprocess.run(
            [
                "objcopy",
                "--redefine-sym", "xen_p2m_addr=p2m_top",
                "--redefine-sym", "xen_p2m_size=p2m_mid_missing",
                dump.vmlinux, folder / dump.vmlinux.name,
            ],
            check=True,
        )  # fmt: skip
        for name in ("whole", "truncated"):
            (folder / name).mkdir()
            copy = copy_of(dump, folder / name)
            plant_three_levels(dump, copy)
            if name == "truncated":
                truncate_list(dump, copy)

    release = dump.vmlinux.name.removeprefix("vmlinux-")
    folder = product(f"three-levels-{release}", (1, str(dump.vmcore), str(dump.vmlinux)), make)
    vmlinux = folder / dump.vmlinux.name
    return Dump(vmlinux, folder / "whole/vmcore"), Dump(vmlinux, folder / "truncated/vmcore")


@dataclass(frozen=True)
class OtherSymbols:
    """A namelist's symbols, some of them added, changed or (None) taken away."""

    symbols: Symbols
    changes: Mapping[str, int | None]

    def address(self, name: str) -> int | None:
        """Return the address of symbol ``name``, or None."""
        return self.changes[name] if name in self.changes else self.symbols.address(name)


def flat(dump: Dump) -> OtherSymbols:
    """Return the symbols by which ``dump`` has XenLinux's flat p2m: a linear one is that, too."""
    symbols = Namelist(dump.vmlinux)
    gone = {"xen_p2m_addr": None, "p2m_missing": None, "p2m_identity": None}
    place = symbols.address("xen_p2m_addr")
    return OtherSymbols(symbols, {**gone, "phys_to_machine_mapping": place})


def plant_two_levels(dump: Dump, file: DumpFile) -> OtherSymbols:
    """Plant the array of 2.6.27 to 2.6.36 in ``file``; return the symbols by which it is found."""
    found = diagnosis(dump)
    base = found.kernel.page_offset()
    leaves = list(leaf_addresses(found))
    pages = free_pages(found, -(-len(leaves) // PER_PAGE))
    for number, pfn in enumerate(pages):
        part = words(leaves[number * PER_PAGE : (number + 1) * PER_PAGE])
        file.write(found.kernel.tables.translate(base + (pfn << PAGE_SHIFT)), part)
    changes = {
        "xen_p2m_addr": None,
        "p2m_top": base + (pages[0] << PAGE_SHIFT),
        "p2m_missing": found.kernel.value("p2m_missing"),
        "p2m_identity": found.kernel.value("p2m_identity"),
    }
    return OtherSymbols(Namelist(dump.vmlinux), changes)
