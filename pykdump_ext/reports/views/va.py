# SPDX-License-Identifier: GPL-3.0-or-later
"""The view of one virtual address: ``va``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from ...errors import P2mError
from ...linux.percpu import address_on, is_percpu
from ...machine.paging import Step
from ...p2m.diagnosis import Diagnosis
from ...p2m.without_namelist import NoNamelist
from .. import words
from .pfn_mfn import HEXADECIMAL, entries_data, hexadecimal
from .view import Screen, View

__all__ = ["VA"]

PLACE = re.compile(r"([\w.$]+)(?::(\d{1,5}))?(?:\+((?:0x)?[0-9a-fA-F]{1,16}))?")

# The bits of an entry (Intel SDM volume 3, 4.5), with the names that crash's vtop gives them.
# SOFTW1 to SOFTW3 are for the kernel to use (arch/x86/include/asm/pgtable_types.h).  Xen marks the
# kernel's own pages with GUEST_KERNEL, because a PV kernel runs in ring 3 and all of its pages are
# USER (xen/arch/x86/include/asm/x86_64/page.h: bit 12 of 24 flags, which is bit 52 of an entry).
FLAGS = {
    0: "PRESENT", 1: "RW", 2: "USER", 3: "PWT", 4: "PCD", 5: "ACCESSED", 6: "DIRTY", 8: "GLOBAL",
    9: "SOFTW1", 10: "SOFTW2", 11: "SOFTW3", 52: "GUEST_KERNEL", 63: "NX",
}  # fmt: skip
PSE = 7  # in an entry that could lead to a table; in a PTE the same bit is PAT
PAT_LARGE = 12  # in the entry of a page of 2 MiB or 1 GiB, whose address ends above
FLAG_BITS = (*range(12), *range(52, 64))


def flags(step: Step) -> list[str]:
    """Return the names of the bits that are set beside the address; none if it is not present."""
    if not step.present:
        return []
    large = step.is_page and step.page_size > 4096
    names = {**FLAGS, PSE: "PSE" if large or not step.is_page else "PAT"}
    bits = FLAG_BITS if not large else (*FLAG_BITS, PAT_LARGE)
    names[PAT_LARGE] = "PAT"
    return [names.get(bit, f"BIT{bit}") for bit in sorted(bits) if step.entry >> bit & 1]


def _va_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        help="a kernel virtual address, hexadecimal; or SYMBOL, SYMBOL+OFFSET, or SYMBOL:CPU of a"
        " per-cpu symbol",
    )


def _address(found: Diagnosis, text: str) -> int:
    symbols = found.kernel.symbols
    parts = PLACE.fullmatch(text)
    name, cpu, offset = parts.groups() if parts else (text, None, None)
    base = hexadecimal(name) if HEXADECIMAL.fullmatch(name) else None
    is_symbol = base is None
    if is_symbol:
        base = symbols.address(name)
    if base is None and isinstance(symbols, NoNamelist):
        raise P2mError(f"{name}: not a hexadecimal address; a symbol needs the dump's vmlinux")
    if base is None:
        raise P2mError(f"{name}: neither a hexadecimal address nor a symbol of the kernel")
    if is_symbol and is_percpu(symbols, base):
        if cpu is None:
            raise P2mError(f"{name}: each cpu has its own: add the number of one, as in {name}:0")
        base = address_on(found.kernel, base, int(cpu))
    elif cpu is not None:
        raise P2mError(f"{name}: not a per-cpu symbol, so no cpu has its own: leave out :{cpu}")
    vaddr = base + (hexadecimal(offset) if offset else 0)
    if vaddr >> 47 not in (0, 0x1FFFF):
        raise P2mError(f"{text}: not canonical: in an address of x86-64 bits 47 to 63 are equal")
    return vaddr


def _va_text(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> Iterator[str]:
    vaddr = _address(found, args.address)
    steps = list(found.kernel.tables.walk(vaddr))
    yield f"virtual address {vaddr:x}, page tables at {found.kernel.root.maddr:x}"
    for step in steps:
        kind = f" ({'|'.join(flags(step))})" if step.present else ", not present"
        if step.present and step.is_page and step.page_size > 4096:
            kind += f", a page of {step.page_size >> 20} MiB"
        yield f"  {step.name}: {step.entry_maddr:>12x} => {step.entry:x}{kind}"
    if not steps[-1].present:
        raise P2mError(f"virtual address {vaddr:x} is not mapped")
    maddr = steps[-1].target(vaddr)
    yield f"  machine address {maddr:x} (mfn {maddr >> 12:x})"
    pfns = list(found.pfns_of(maddr >> 12))
    if not pfns:
        yield f"  not {words.whose(found)} memory: no pfn has this mfn"
    for pfn in pfns:
        yield f"  pseudo-physical address {(pfn << 12) | (maddr & 4095):x} (pfn {pfn:x})"
        yield f"     dump's list: {words.entry(found, found.published, pfn)}"
        yield f"    rebuilt list: {words.entry(found, found.rebuilt, pfn)}"


def _va_data(found: Diagnosis, args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    vaddr = _address(found, args.address)
    steps = list(found.kernel.tables.walk(vaddr))
    if not steps[-1].present:
        raise P2mError(f"virtual address {vaddr:x} is not mapped")
    maddr = steps[-1].target(vaddr)
    return {
        "address": words.hexadecimal(vaddr),
        "root": words.hexadecimal(found.kernel.root.maddr),
        "steps": [
            {
                "level": step.name,
                "entry_maddr": words.hexadecimal(step.entry_maddr),
                "entry": words.hexadecimal(step.entry),
                "present": step.present,
                "flags": flags(step),
                "page_size": step.page_size if step.present and step.is_page else None,
            }
            for step in steps
        ],
        "maddr": words.hexadecimal(maddr),
        "pfns": [
            {"pfn": words.hexadecimal(pfn), **entries_data(found, pfn)}
            for pfn in found.pfns_of(maddr >> 12)
        ],
    }


VA = View(
    "va",
    "show how a kernel virtual address translates, level by level",
    "The output has each page-table entry on the way with its flags, the machine address, its"
    " pfn, and its entry by both lists. OFFSET is hexadecimal, CPU decimal: runqueues:1+10. A"
    " symbol needs the vmlinux of the dump.",
    _va_arguments,
    _va_text,
    _va_data,
)
