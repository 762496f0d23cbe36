# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of ``crash_host.so`` for cffi; only setup.py runs this file.

``host.h`` is the one list of functions, for C and for Python.  The compiler builds the code that
cffi generates together with the C files of this folder.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

__all__ = ["builder"]

FOLDER = Path(__file__).parent
MODULE = "crash_host"


def builder() -> FFI:
    """Return cffi's description of the shared object: its functions, and its start in Python."""
    ffi = FFI()
    ffi.cdef((FOLDER / "host.h").read_text())
    ffi.embedding_api(
        "int python_ready(void);"
        "int python_command(char *name, int argc, char **argv);"
        "char *python_complete(char *text, int state);"
    )
    ffi.embedding_init_code("import pykdump_ext.host.engine\n")
    ffi.set_source(MODULE, (FOLDER / "python.c").read_text())
    return ffi
