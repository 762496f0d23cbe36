"""banner: the kernel's own words, in any session, minimal ones too.

A first example: a command without arguments that reads memory by symbol.
"""

from __future__ import annotations

from pykdump_ext.host import command, crash


@command("banner", help="print the kernel's banner", minimal=True)
def banner(words: list[str]) -> None:
    """Print linux_banner as it stands in the dump, to the end of its line."""
    address = crash.sym2addr("linux_banner")
    text = crash.readmem(address, 256).split(b"\n")[0]
    print(text.decode())
