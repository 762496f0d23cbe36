# SPDX-License-Identifier: GPL-3.0-or-later
"""The combinations of crash and kernel that the package is tested on."""

from __future__ import annotations

from dataclasses import dataclass

from .dump import Dump, Source, dom0_dump
from .suites import archive, own

KERNELS = {
    "5.10": ("bullseye", "bookworm"),
    "6.1": ("bookworm", "bookworm"),
    "6.12": ("trixie", "trixie"),
    "newest": ("testing", "trixie"),
}
"""Each kernel with the release that it is of, and the release of the Xen below it."""
MAIN = "6.1"
"""The kernel of the dump that most tests run on, whichever release this machine has."""


@dataclass(frozen=True)
class Cell:
    """A crash, by its release, a kernel, and options that crash needs for it.

    ``unrecognised``: plain crash does not know the kernel for a PV one, so it
    dies on the untouched dump too.  ``cannot``: what crash says where it cannot
    read this kernel's own data at all, on the untouched dump.  ``fails``: commands
    that fail in this crash with this kernel, on the untouched dump too, so that
    nothing is compared of them.  ``misses_tasks``: this crash alone finds few.
    """

    crash: str
    release: str
    kernel: str
    options: tuple[str, ...] = ()
    unrecognised: bool = False
    cannot: str = ""
    fails: tuple[str, ...] = ()
    misses_tasks: bool = False

    @property
    def folder(self) -> str | None:
        """The release whose folder has the crash; None where it is this machine's own."""
        return None if self.release == own() else self.release

    def __str__(self) -> str:
        return f"crash {self.crash}, Linux {self.kernel}"


DWARF = "Dwarf Error: wrong version in compilation unit header (is 5"
SLABS = "invalid structure member offset: kmem_cache_s_num"
CELLS = (
    Cell("7.2.9", "bullseye", "5.10", unrecognised=True),
    Cell("7.2.9", "bullseye", "6.1", cannot=DWARF),
    Cell("7.2.9", "bullseye", "6.12", cannot=DWARF),
    Cell("7.2.9", "bullseye", "newest", cannot=DWARF),
    Cell("8.0.2", "bookworm", "5.10"),
    Cell("8.0.2", "bookworm", "6.1", fails=("vm",), misses_tasks=True),
    # with --no_modules it starts, knows 2 tasks, and damages its own memory
    Cell("8.0.2", "bookworm", "6.12", cannot="invalid structure member offset: module_core_size"),
    Cell("8.0.2", "bookworm", "newest", cannot=SLABS),
    Cell("8.0.6", "trixie", "5.10"),
    Cell("8.0.6", "trixie", "6.1"),
    Cell("8.0.6", "trixie", "6.12"),
    Cell("8.0.6", "trixie", "newest", cannot=SLABS),
    Cell("9.0.2", "testing", "5.10"),
    Cell("9.0.2", "testing", "6.1"),
    Cell("9.0.2", "testing", "6.12"),
    # crash 9.0.2 does not know the struct module of the newest kernel
    Cell("9.0.2", "testing", "newest", ("--no_modules",), fails=("kmem", "mod")),
)


def source(kernel: str) -> Source:
    """Return what the dump of that kernel is made of.

    :raises Missing: the package archive lacks it.
    """
    kernels, xens = KERNELS[kernel]
    return Source(archive(kernels), archive(xens))


def untouched(kernel: str) -> Dump:
    """Return the untouched dump of that kernel.

    :raises Missing: the package archive lacks what it is made of.
    """
    return dom0_dump(source(kernel))
