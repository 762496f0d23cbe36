# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel module for ``mod -s``, with a type and a variable of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.matrix import MAIN, source

__all__ = ["module_with_types"]


def module_with_types(folder: Path) -> Path:
    """Make the main kernel's ``xen_privcmd`` with a ``struct brought brought``; return its path."""
    plain = source(MAIN).module("xen-privcmd")
    assert plain
    (folder / "plain.ko").write_bytes(plain)
    (folder / "types.c").write_text("struct brought { int a[7]; long b; } brought;\n")
    subprocess.run(["cc", "-g", "-c", "types.c"], cwd=folder, check=True)
    made = folder / "xen-privcmd.ko"
    subprocess.run(["ld", "-r", "-o", made, "plain.ko", "types.o"], cwd=folder, check=True)
    return made
