# SPDX-License-Identifier: GPL-3.0-or-later
"""Namelists that the linker makes."""

from __future__ import annotations

import subprocess
from pathlib import Path


def link(directory: Path, source: str, *options: str) -> Path:
    """Compile and link ``source`` as kernels are: at a high address, with no libraries."""
    (directory / "kernel.c").write_text(source)
    program = directory / "vmlinux"
    compiling = ["gcc", "-c", "-mcmodel=kernel", "-fno-pic", "-o", "kernel.o", "kernel.c"]
    linking = ["ld", "-static", "-e", "main", "-Ttext=0xffffffff81000000", "-o", "vmlinux"]
    subprocess.run(compiling, cwd=directory, check=True)
    subprocess.run([*linking, *options, "kernel.o"], cwd=directory, check=True)
    return program
