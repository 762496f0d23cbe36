# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists that the linker makes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .guest import Guest
from .machine import BANNER


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
    banner = BANNER.decode().rstrip("\n")
    source = f"""
    const char linux_banner[] __attribute__((section(".banner"), aligned(1))) = "{banner}\\n";
    int main(void) {{ return linux_banner[0]; }}
    """
    symbols = dict(guest.symbols)
    start = f"--section-start=.banner={symbols.pop('linux_banner'):#x}"
    defined = (f"--defsym={name}={address:#x}" for name, address in symbols.items())
    return link(folder, source, start, *defined, compiler=["-g"])
