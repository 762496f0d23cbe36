# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's vmcoreinfo, of kernels that the lab has no dump of."""

from __future__ import annotations

import pytest

from pykdump_ext.errors import P2mError
from pykdump_ext.linux.kernel import START_KERNEL_MAP, Kernel, Root
from pykdump_ext.linux.vmcoreinfo import native_vmcoreinfo, own_vmcoreinfo, swapper
from pykdump_ext.machine.memory import PageMemory

TOP = START_KERNEL_MAP + 0x1C0A000
TEXT = f"OSRELEASE=4.1.12\nNUMBER(phys_base)=0\nSYMBOL(swapper_pg_dir)={TOP:x}\nCRASHTIME=5\n"
SYMBOLS = {"vmcoreinfo_data": 0x1000, "vmcoreinfo_size": 0x2000}


class Names:
    def address(self, name: str) -> int | None:
        return SYMBOLS.get(name)


class Plain(Kernel):
    """A kernel whose virtual addresses are machine addresses."""

    def read(self, vaddr: int, size: int, what: str) -> bytes:
        return self.memory.read(vaddr, size, what)


def kernel(data: bytes, size: int, top: int = 0x5C0A000) -> Plain:
    pages = {1: data, 2: size.to_bytes(8, "little"), 3: TEXT.encode()}
    memory = PageMemory({mfn: page.ljust(4096, b"\0") for mfn, page in pages.items()})
    return Plain(memory, Names(), Root(top, "swapper_pg_dir"))


def test_the_text_is_behind_a_pointer_or_before_4_13_an_array() -> None:
    array = kernel(TEXT.encode(), len(TEXT))
    pointer = kernel((0x3000).to_bytes(8, "little"), len(TEXT))
    assert own_vmcoreinfo(array) == own_vmcoreinfo(pointer) == TEXT
    assert swapper(array) == TOP


@pytest.mark.parametrize("top", [0x5C0A000, 0xA000])  # above and below where the kernel has it
def test_phys_base_leads_to_the_top_table(top: int) -> None:
    lines = native_vmcoreinfo(kernel(TEXT.encode(), len(TEXT)), top, 1795648821).decode()
    told = dict(line.split("=") for line in lines.splitlines())
    assert len(told) == len(lines.splitlines()) == 4
    assert told["CRASHTIME"] == "1795648821"
    phys_base = int(told["NUMBER(phys_base)"])
    assert 0 <= phys_base < 1 << 64  # drgn reads it so
    assert TOP - START_KERNEL_MAP + phys_base & (1 << 64) - 1 == top


@pytest.mark.parametrize("size", [0, 4097, 1 << 63])
def test_a_size_that_cannot_be_is_told(size: int) -> None:
    with pytest.raises(P2mError, match=f"damaged: it has {size} bytes"):
        own_vmcoreinfo(kernel(TEXT.encode(), size))
