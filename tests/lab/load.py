# SPDX-License-Identifier: GPL-3.0-or-later
"""Two boots with the same load: a dom0 of 6 GiB, and the same kernel without Xen.

The second is the oracle of speed: what crash needs where no p2m is between it and the memory.
The load is a program of a screen (load.c), which makes the memory fragmented.  The dumps are
sparse: most of their memory was never written.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .cache import product
from .dump import (
    LINUX_OPTIONS,
    XEN_OPTIONS,
    Dump,
    Machine,
    crash_machine,
    initramfs_that_starts,
    made_from,
)
from .matrix import MAIN, source

PROGRAM = Path(__file__).with_name("load.c")
PROCESSES, MEGABYTES, DIRECTORIES, FILES = 60, 40, 300, 10
START = f"/load {PROCESSES} {MEGABYTES} {DIRECTORIES} {FILES}"
LOADED = re.compile(rf"lab: load of {PROCESSES} processes, the first is (\d+)")
ADDRESS = 0x100000000000  # of the pages that each process wrote
MARK, MARK_PROCESS = 0x10AD << 48, 0xFF << 32  # what some of them begin with (load.c)

EMULATED = ("-smp", "4", "-accel", "tcg,thread=multi", "-cpu", "qemu64")
XEN = Machine(
    # Dom0's memory begins below the hole that ends at 4 GiB, so that its last gigabyte is
    # remapped above nr_pages
    ("-machine", "pc,max-ram-below-4g=3G", "-m", "8G", *EMULATED),
    XEN_OPTIONS.replace("700M", "6G").replace("crashkernel=192M", "crashkernel=256M")
    + " bootscrub=0",  # it would write all of the machine's memory
    disk=10 << 30,
)
BARE = Machine(
    ("-machine", "pc,max-ram-below-4g=3G", "-m", "6G", *EMULATED),
    None,
    LINUX_OPTIONS.replace("console=hvc0 earlyprintk=xen", "console=ttyS0") + " crashkernel=256M",
    disk=8 << 30,
)


def _more(folder: Path) -> bytes:
    """Return an initramfs with the program, and with an init that runs it."""
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", tree / "load", PROGRAM], check=True
    )
    return initramfs_that_starts(f"{START}\n", tree, folder)


def _loaded(name: str, machine: Machine) -> Dump:
    parts = source(MAIN)
    symbols = parts.vmlinux()

    def make(folder: Path) -> None:
        crash_machine(parts, folder, _more(folder), machine)
        console = (folder / "console.log").read_text(errors="replace")
        if not LOADED.search(console):
            raise RuntimeError(f"the load failed; the console ended:\n{console[-3000:]}")
        subprocess.run(["fallocate", "--dig-holes", folder / "vmcore"], check=True)

    of = (made_from(parts), PROGRAM.read_text(), START, machine)
    return Dump(symbols, product(f"load-{name}-{parts.release()}", of, make) / "vmcore")


def loaded() -> Dump:
    """Return a real dump of a loaded dom0 of 6 GiB, untouched.

    :raises Missing: the archive lacks what it is made of.
    """
    return _loaded("xen", XEN)


def bare() -> Dump:
    """Return a real dump of the same kernel with the same load and memory, without Xen.

    :raises Missing: the archive lacks what it is made of.
    """
    return _loaded("bare", BARE)


def process(dump: Dump) -> int:
    """Return the PID of a process of the load in one of these two dumps."""
    found = LOADED.search(dump.vmcore.with_name("console.log").read_text(errors="replace"))
    assert found
    return int(found[1])


def compressed(dump: Dump) -> Dump:
    """Return the dump as makedumpfile compresses it, pages of zeros included."""
    name = dump.vmcore.parent.name.rpartition("-")[0]

    def make(folder: Path) -> None:
        options = ("-c", "-d", "0", "-x", dump.vmlinux)
        command: list[str | Path] = ["makedumpfile", *options, dump.vmcore, folder / "vmcore"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    made_from = (1, str(dump.vmcore))
    return Dump(dump.vmlinux, product(f"compressed-{name}", made_from, make) / "vmcore")
