# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that make dom0's kernel fail: modules of the distribution with an init of the lab's.

A module needs no kernel headers that way: the distribution's has all that the kernel asks for, and
the linker takes the lab's ``init_module`` for the one that is weak.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .dump import Source
from .packages import Missing

__all__ = ["FAULTS", "MADE_FROM", "put_faults"]

PROGRAM = Path(__file__).with_name("faults.c")
# The module that carries it: it has to know each function of the kernel that is called
FAULTS = {"READS_NULL": "nls_cp437", "GIVES_FREED": "nls_ascii", "LOSES_TRAPS": "nls_ascii"}
SIGNATURE = b"~Module signature appended~\n"  # without it a module counts as unsigned
# The kernel unwinds what no table covers by frame pointers
FLAGS = ("-O1", "-Wall", "-Werror", "-fno-omit-frame-pointer", "-fno-pic", "-mcmodel=kernel",
         "-mno-red-zone", "-fcf-protection=none", "-fno-stack-protector",
         "-fno-asynchronous-unwind-tables")  # fmt: skip
TABLES = ("--remove-section=.orc_unwind", "--remove-section=.orc_unwind_ip",
          "--remove-section=.orc_header")  # fmt: skip

MADE_FROM = repr((FAULTS, FLAGS, TABLES, PROGRAM.read_text()))


def put_faults(source: Source, names: tuple[str, ...], tree: Path) -> None:
    """Put modules into ``tree``'s ``faults``; ``insmod`` of one makes the kernel fail.

    :raises Missing: the kernel has no such module.
    """
    folder = tree / "faults"
    folder.mkdir(parents=True)
    for name in names:
        content = source.module(FAULTS[name])
        if content is None:
            raise Missing(f"kernel {source.release()} has no module {FAULTS[name]}")
        module, own, made = (folder / f"{name}.{end}" for end in ("carrier", "o", "ko"))
        module.write_bytes(content.removesuffix(SIGNATURE))
        subprocess.run(["objcopy", "--weaken-symbol=init_module", *TABLES, module], check=True)
        subprocess.run(["gcc", *FLAGS, f"-D{name}", "-c", "-o", own, PROGRAM], check=True)
        subprocess.run(["ld", "-r", "-o", made, module, own], check=True)
        module.unlink()
        own.unlink()
