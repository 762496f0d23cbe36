# SPDX-License-Identifier: GPL-3.0-or-later
"""The session of crash: its memory, symbols, types, commands and output.

Inside crash this is also the module ``crash``.  Its names are those of PyKdump, so that
programs written for PyKdump run here::

    >>> import crash
    >>> crash.readmem(crash.sym2addr("linux_banner"), 13)
    b'Linux version'
    >>> print(crash.run_command("sys"))

Addresses, sizes and offsets are in bytes.  Where crash cannot do what is asked, a function
raises :class:`error` with crash's own message; Ctrl-C in crash's code raises KeyboardInterrupt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..types.codes import (
    TYPE_CODE_ARRAY,
    TYPE_CODE_BOOL,
    TYPE_CODE_ENUM,
    TYPE_CODE_FLT,
    TYPE_CODE_FUNC,
    TYPE_CODE_INT,
    TYPE_CODE_PTR,
    TYPE_CODE_STRUCT,
    TYPE_CODE_UNION,
    TYPE_CODE_VOID,
)
from . import tables
from .background import exec_crash_command_bg2
from .datatypes import (
    enumerator_value,
    member_offset,
    member_size,
    offsetof,
    sizeof,
    struct_size,
    union_size,
)
from .epython import exec_epython_command, get_epython_cmds, register_epython_prog
from .guarded import Excluded, NullPointer, c_text, error, ffi, lib
from .integers import (
    FD_ISSET,
    PAGEOFFSET,
    cpu_to_le32,
    le16_to_cpu,
    le32_to_cpu,
    mem2long,
    sLong,
)
from .lists import getFullBuckets, getFullBucketsH, getListSize, read_list
from .memory import (
    KVADDR,
    LARGEST_READ,
    PAGESIZE,
    PHYSADDR,
    UVADDR,
    XENMACHADDR,
    kvtop,
    read_machine,
    readInt,
    readmem,
    readmem_many,
    readPtr,
    set_readmem_task,
    uvtop,
)
from .output import (
    LONGEST_COMMAND,
    ReaderGone,
    crash_set_error,
    exec_crash_command,
    exec_gdb_command,
    get_GDB_output,
    run_command,
    set_default_timeout,
    setprocname,
    write,
)
from .symbols import addr2mod, addr2sym, sym2addr, sym2alladdr, symbol_exists
from .tables import (
    get_NR_syscalls,
    get_pathname,
    get_task_mem_usage,
    get_uptime,
    is_task_active,
    phys_to_page,
    pid_to_task,
    task_to_pid,
)
from .typeinfo import gdb_typeinfo, gdb_whatis

__all__ = [
    "AMBIGUOUS", "FD_ISSET", "HZ", "KVADDR", "LARGEST_READ", "LONGEST_COMMAND", "PAGEOFFSET",
    "PAGESIZE", "PAGE_CACHE_SHIFT", "PHYSADDR", "TYPE_CODE_ARRAY", "TYPE_CODE_BOOL",
    "TYPE_CODE_ENUM", "TYPE_CODE_FLT", "TYPE_CODE_FUNC", "TYPE_CODE_INT", "TYPE_CODE_PTR",
    "TYPE_CODE_STRUCT", "TYPE_CODE_UNION", "TYPE_CODE_VOID", "UVADDR", "WARNING", "XENMACHADDR",
    "Crash_build", "Crash_run", "Excluded", "NullPointer", "ReaderGone", "Session", "addr2mod",
    "addr2sym", "cpu_to_le32", "crash_set_error", "enumerator_value", "error", "exec_crash_command",
    "exec_crash_command_bg2", "exec_epython_command", "exec_gdb_command", "gdb_typeinfo",
    "gdb_whatis", "getFullBuckets", "getFullBucketsH", "getListSize", "get_GDB_output",
    "get_NR_syscalls", "get_epython_cmds", "get_pathname", "get_task_mem_usage", "get_uptime",
    "is_task_active", "kvtop", "le16_to_cpu", "le32_to_cpu", "mem2long", "member_offset",
    "member_size", "offsetof", "phys_to_page", "pid_to_task", "readInt", "readPtr", "read_list",
    "read_machine", "readmem", "readmem_many", "register_epython_prog", "run_command", "sLong",
    "session", "set_default_timeout", "set_readmem_task", "setprocname", "sizeof", "struct_size",
    "sym2addr", "sym2alladdr", "symbol_exists", "task_to_pid", "union_size", "uvtop", "version",
    "write",
]  # fmt: skip


class Session(NamedTuple):
    """The kind of this session, and its files; a path is None where crash has no such file.

    ``terminal`` is True when commands come from a terminal.  ``output_terminal`` is True when
    output now goes to a terminal, and to no pager, pipe or file.  ``relocate`` is how many
    bytes above its link-time addresses the kernel ran.
    """

    minimal: bool
    silent: bool
    live: bool
    xen_core: bool
    xen_hyper: bool
    terminal: bool
    output_terminal: bool
    relocate: int
    namelist: str | None
    namelist_debug: str | None
    dumpfile: str | None
    crash_version: str


def session() -> Session:
    """Return the kind of this session as it is now, and its files."""
    s = ffi.new("struct host_session *")
    lib.host_get_session(s)
    return Session(
        minimal=bool(s.minimal),
        silent=bool(s.silent),
        live=bool(s.live),
        xen_core=bool(s.xen_core),
        xen_hyper=bool(s.xen_hyper),
        terminal=bool(s.terminal),
        output_terminal=bool(s.output_terminal),
        relocate=s.relocate,
        namelist=c_text(s.namelist),
        namelist_debug=c_text(s.namelist_debug),
        dumpfile=c_text(s.dumpfile),
        crash_version=c_text(s.crash_version) or "",
    )


version = "3.2.1"
"""The version of PyKdump's C module whose names these are."""
Crash_run = session().crash_version
"""The version of the crash that is running."""
Crash_build = Crash_run
"""The version of crash that this package was built for: no other loads it."""
WARNING = "++WARNING+++"
"""What a program begins its warnings with."""
AMBIGUOUS = -1
"""crash's number for a task that is both a pid and an address (defs.h)."""
PAGE_CACHE_SHIFT = 12
"""Two to the power of this is ``PAGESIZE``."""
HZ: int
"""How many jiffies a second has; 0 before the full session."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "HZ":  # a minimal session may become a full one
            return tables.hz()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
