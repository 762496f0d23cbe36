"""crash's own options, as far as p2mfix has to understand them (main.c of crash)."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["WITH_VALUE", "relocation"]

# Options that take a value of their own (getopt_long()); -i apart
WITH_VALUE = (
    "-c", "-d", "-e", "-m", "-o", "-p", "--cpus", "--hash", "--kaslr", "--kvmhost", "--kvmio",
    "--log", "--machdep", "--memory_device", "--memory_module", "--mod", "--offline",
    "--osrelease", "--p2m_mfn", "--reloc", "--src", "--xen_phys_start",
)  # fmt: skip


def relocation(options: Sequence[tuple[str, str]]) -> int:
    """Return how far above its link-time addresses crash's options have the kernel, in bytes.

    ``--kaslr=OFFSET`` says that, ``--reloc=SIZE`` how far below (main.c); the numbers are
    what calculate() of crash's tools.c takes.  ``--kaslr=auto`` is no offset: the Linux
    vmcoreinfo that would have it is not in a host's dump.
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
