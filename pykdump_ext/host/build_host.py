"""Describe crash_host.so, the shared object that ``extend`` loads, to cffi.

Only setup.py uses this file.  ``host.h`` is the one list of functions, for C
and for Python; cffi's code is compiled together with the C files beside it.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

FOLDER = Path(__file__).parent
MODULE = "crash_host"


def builder() -> FFI:
    """Return the cffi description of the embedding library."""
    ffi = FFI()
    ffi.cdef((FOLDER / "host.h").read_text())
    ffi.embedding_api("int python_command(char *name, int argc, char **argv);")
    ffi.embedding_init_code("import pykdump_ext.host.engine\n")
    ffi.set_source(MODULE, (FOLDER / "python.c").read_text())
    return ffi
