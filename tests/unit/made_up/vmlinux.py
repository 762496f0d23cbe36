# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists that the linker makes."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
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
