# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists that the linker makes."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .guest import Guest


def link(directory: Path, source: str, *options: str, compiler: Sequence[str] = ()) -> Path:
    """Compile and link ``source`` as kernels are: at a high address, with no libraries.

    :param options: of the linker.
    :param compiler: options of the compiler.
    """
    (directory / "kernel.c").write_text(source)
    program = directory / "vmlinux"
    compiling = ["gcc", "-c", "-mcmodel=kernel", "-fno-pic", "-o", "kernel.o", "kernel.c"]
    linking = ["ld", "-static", "-e", "main", "-Ttext=0xffffffff81000000", "-o", "vmlinux"]
    subprocess.run([*compiling, *compiler], cwd=directory, check=True)
    subprocess.run([*linking, *options, "kernel.o"], cwd=directory, check=True)
    return program


def vmlinux_of(guest: Guest, folder: Path) -> Path:
    """Link a vmlinux with the symbols of a guest, and its banner where the guest has it.

    :param folder: is made if it is not there; not the dump's, whose vmlinux is taken unasked.
    """
    folder.mkdir(exist_ok=True)
    banner = guest.banner.decode().rstrip("\n")
    source = f"""
    const char linux_banner[] __attribute__((section(".banner"), aligned(1))) = "{banner}\\n";
    int main(void) {{ return linux_banner[0]; }}
    """
    symbols = dict(guest.symbols)
    start = f"--section-start=.banner={symbols.pop('linux_banner'):#x}"
    defined = (f"--defsym={name}={address:#x}" for name, address in symbols.items())
    return link(folder, source, start, *defined, compiler=["-g"])


def elf(*sections: tuple[str, int, int, bytes]) -> bytes:
    """Return an ELF file of x86-64 with these sections: (name, sh_type, sh_flags, contents)."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in sections) + b".shstrtab\0"
    rows, body = [bytes(64)], b""
    for name, kind, flags, data in (*sections, (".shstrtab", 3, 0, names)):
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        place = (at, kind, flags, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        rows.append(struct.pack("<IIQQQQIIQQ", *place))
        body += data
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = (ident, 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, len(rows), len(rows) - 1)
    return struct.pack("<16sHHIQQQIHHHHHH", *header) + body + b"".join(rows)


@cache
def kernel_files() -> tuple[bytes, ...]:
    """Return a whole vmlinux, a stripped one, the debug file that it links to, a System.map."""
    at = 0xFFFFFFFF81000000 + 64 + 56  # behind the ELF header and the one program header
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, at - 120, 0, 1 << 16, 1 << 16, 0)
    text = (".text", 1, 6, load + b"Linux version 6.1.0 (builder) #1 SMP\n\0")
    notes = (".notes", 7, 2, struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(20))
    symbol = struct.pack("<IBBHQQ", 1, 0, 0, 1, at, 0)
    symbols = (".symtab", 2, 0, symbol * 2), (".strtab", 3, 0, b"\0linux_banner\0")
    debug_info = (".debug_info", 1, 0x800, bytes(32))
    debug = elf(notes, *symbols, debug_info, (".rela.debug_info", 4, 0, bytes(24)))
    link = b"file1".ljust(8, b"\0") + struct.pack("<I", zlib.crc32(debug))
    made = [elf(text, notes, *symbols, debug_info), elf(text, (".gnu_debuglink", 1, 0, link))]
    loaded = (one[:32] + struct.pack("<Q", 64) + one[40:56] + b"\1\0" + one[58:] for one in made)
    return (*loaded, debug, b"%x D linux_banner\n" % at * 4)
