# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of crash that p2mfix must understand (main.c of crash)."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["WITH_VALUE", "relocation"]

# Options that take a value (getopt_long() in main.c), without -i, which p2mfix handles itself
WITH_VALUE = (
    "-c", "-d", "-e", "-m", "-o", "-p", "--cpus", "--hash", "--kaslr", "--kvmhost", "--kvmio",
    "--log", "--machdep", "--memory_device", "--memory_module", "--mod", "--offline",
    "--osrelease", "--p2m_mfn", "--reloc", "--src", "--xen_phys_start",
)  # fmt: skip


def relocation(options: Sequence[tuple[str, str]]) -> int:
    """Return how many bytes above its link-time addresses the kernel ran, by crash's options.

    ``--kaslr=OFFSET`` gives the bytes above, ``--reloc=SIZE`` the bytes below (main.c); the
    last of them counts.  Numbers have the syntax of calculate() in crash's tools.c.
    ``--kaslr=auto`` counts as no offset: crash takes it from the Linux vmcoreinfo, which the
    notes of a Xen host's dump lack.

    :param options: (option, value) pairs in the order of the command line.
    """
    offset = 0
    for option, value in options:
        number = re.fullmatch(r"(~?)(0[xX])?([0-9a-fA-F]+?)([kKmMgG]?)", value)
        if option not in ("--kaslr", "--reloc") or number is None:
            continue
        inverted, prefix, digits, unit = number.groups()
        found = int(digits, 10 if digits.isdecimal() and not prefix else 16)
        found <<= {"": 0, "k": 10, "m": 20, "g": 30}[unit.lower()]
        if inverted:
            found = ~found
        offset = found if option == "--kaslr" else -found
    return offset
