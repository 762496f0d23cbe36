# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that ``make bench-speed`` measures: those that triage begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ..lab.fragmented import WINDOW, WINDOW_PAGES
from ..lab.load import ADDRESS, MARK, MARK_PROCESS, MEGABYTES
from .figures import START_ROW

PAGE_OFFSET, VMEMMAP = 0xFFFF888000000000, 0xFFFFEA0000000000  # with nokaslr
STRUCT_PAGE = 64  # sizeof(struct page)
MEMORY = (range(0x10000, 0xB0000), range(0x100000, 0x1B0000))  # pfns of memory in both boots
BANNER = int.from_bytes(b"Linux ve", "little")


@dataclass(frozen=True)
class Command:
    """What a row of the table is called, and the lines of crash.

    ``in_process``: they are meant for a process of the load, which is set before.
    ``on_xen``: there is nothing to compare them with on bare metal.
    """

    name: str
    lines: tuple[str, ...]
    in_process: bool = False
    on_xen: bool = False


START = Command(START_ROW, ())
"""No command: what a session costs up to its first prompt."""


def _addresses(count: int, random: Random) -> Iterator[str]:
    """Yield so many addresses of each kind: direct map, memory map, a process's pages."""
    for _ in range(count):
        pfn = random.choice(random.choice(MEMORY))
        yield f"{PAGE_OFFSET + (pfn << 12) + random.randrange(512) * 8:x}"
        yield f"{VMEMMAP + random.choice(random.choice(MEMORY)) * STRUCT_PAGE:x}"
        yield f"-u {ADDRESS + (random.randrange(MEGABYTES << 8) << 12):x}"


def commands() -> list[Command]:
    """Return the commands of every table."""
    random = Random(10)
    return [
        Command("foreach user vm -p", ("foreach user vm -p",)),
        Command("kmem -i", ("kmem -i",)),
        Command("foreach bt", ("foreach bt",)),
        Command("kmem -v", ("kmem -v",)),
        Command("kmem -s", ("kmem -s",)),
        Command("kmem -p", ("kmem -p",)),
        Command("mod", ("mod",)),
        Command("search -k WORD", (f"search -k {BANNER:x}",)),
        Command("search -u WORD", (f"search -u -m {MARK_PROCESS:x} {MARK | 8:x}",), True),
        Command("foreach files", ("foreach files",)),
        Command(
            "rd of 900 random addresses",
            tuple(f"rd {address}" for address in _addresses(300, random)),
            True,
        ),
        Command(
            "vtop of 90 random addresses",
            tuple(f"vtop {address}" for address in _addresses(30, random)),
            True,
        ),
        Command("rd -p 100000000 2000000", ("rd -p 100000000 2000000",)),
    ]


def of_added_memory() -> Command:
    """Return a command that reads what a grown dump has more than the others."""
    pages = Random(11).sample(range(WINDOW_PAGES), 100)
    lines = tuple(f"rd {WINDOW + (page << 12):x} 2" for page in pages)
    return Command("rd of 100 random addresses of added memory", lines, on_xen=True)
