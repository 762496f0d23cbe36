# SPDX-License-Identifier: GPL-3.0-or-later
"""banner: the kernel's banner, in full and in minimal sessions.

A first example: a command without arguments, which reads memory at a symbol.
"""

from __future__ import annotations

from pykdump_ext.host import command, crash, printable


@command("banner", help="print the kernel's banner", minimal=True)
def banner(words: list[str]) -> None:
    """Print linux_banner from the dump, up to the end of its line."""
    address = crash.sym2addr("linux_banner")
    text = crash.readmem(address, 256).split(b"\n")[0]
    print(printable(text.decode(errors="replace")))
