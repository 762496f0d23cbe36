# SPDX-License-Identifier: GPL-3.0-or-later
"""The session of crash: its memory, symbols, types, commands and output.

Inside crash this is also the module ``crash``.  Its names are those of PyKdump, so that
programs written for PyKdump run here::

    >>> import crash
    >>> crash.readmem(crash.sym2addr("linux_banner"), 13)
    b'Linux version'
    >>> print(crash.exec_crash_command("sys"))

Addresses, sizes and offsets are in bytes.  Where crash cannot do what is asked, a function
raises :class:`error` with crash's own message; Ctrl-C in crash's code raises KeyboardInterrupt.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple

from . import lookups
from .datatypes import (
    member_offset,
    member_size,
    offsetof,
    sizeof,
    struct_size,
    union_size,
)
from .guarded import (
    Excluded,
    NullPointer,
    c_name,
    c_text,
    check,
    error,
    ffi,
    lib,
    message,
    succeeded,
)
from .memory import (
    KVADDR,
    LARGEST_READ,
    PAGESIZE,
    PHYSADDR,
    UVADDR,
    XENMACHADDR,
    mem2long,
    read_list,
    read_machine,
    readInt,
    readmem,
    readmem_many,
    readPtr,
    set_readmem_task,
)

__all__ = [
    "KVADDR", "LARGEST_READ", "LONGEST_COMMAND", "PAGESIZE", "PHYSADDR", "UVADDR", "XENMACHADDR",
    "Crash_run", "Excluded", "NullPointer", "ReaderGone", "Session", "addr2mod", "addr2sym",
    "error", "exec_crash_command", "exec_gdb_command", "get_GDB_output", "kvtop", "mem2long",
    "member_offset", "member_size", "offsetof", "readInt", "readPtr", "read_list", "read_machine",
    "readmem", "readmem_many", "session", "set_readmem_task", "sizeof", "struct_size", "sym2addr",
    "symbol_exists", "union_size", "uvtop", "write",
]  # fmt: skip

_ALL_BITS = (1 << 64) - 1


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


def _symbol(name: str) -> int | None:
    try:
        return lookups.symbols[name]
    except KeyError:
        value = ffi.new("uint64_t *")
        found = succeeded(lib.host_symbol(c_name(name), value))
        return lookups.keep_symbol(name, int(value[0]) if found else None)


def sym2addr(name: str) -> int:
    """Return the address of the symbol ``name``, or 0 where there is no such symbol.

    The address of a symbol may be 0, too, as that of the first per-cpu variable was until Linux
    6.15: :func:`symbol_exists` tells the two apart.
    """
    return _symbol(name) or 0


def symbol_exists(name: str) -> bool:
    """Return True when the kernel or a module has the symbol ``name``, whatever its address."""
    return _symbol(name) is not None


def addr2sym(addr: int, loose: bool = False) -> Any:
    """Return the name of the symbol whose address is ``addr``, or None.

    :param loose: return (name, offset) of the nearest symbol at or below ``addr``, or
        (None, None).
    """
    name, offset = ffi.new("char **"), ffi.new("uint64_t *")
    there = succeeded(lib.host_symbol_near(addr & _ALL_BITS, name, offset))
    found = c_text(name[0]) if there else None
    if loose:
        return (found, int(offset[0])) if found else (None, None)
    return found if found and not offset[0] else None


def addr2mod(addr: int) -> str | None:
    """Return the name of the kernel module that ``addr`` is in, or None."""
    name = ffi.new("char **")
    return c_text(name[0]) if succeeded(lib.host_module_of(addr & _ALL_BITS, name)) else None


def _translate(addr: int, user: bool, task: int) -> int:
    physical = ffi.new("uint64_t *")
    result = lib.host_translate(addr & _ALL_BITS, user, task, physical)
    check(result, f"virtual address {addr & _ALL_BITS:x} is not mapped")
    return int(physical[0])


def uvtop(task: int, addr: int) -> int:
    """Return the physical address behind virtual address ``addr`` of a task.

    :param task: the address of its ``struct task_struct``.
    :raises error: the address is not mapped, or crash has no such task.
    """
    return _translate(addr, True, task)


def kvtop(addr: int) -> int:
    """Return the physical address behind virtual address ``addr`` of the kernel.

    :raises error: the address is not mapped.
    """
    return _translate(addr, False, 0)


LONGEST_COMMAND = 1499  # bytes: BUFSIZE of crash's defs.h, less the final zero


def _captured(function: Any, line: str) -> str:
    words = c_name(line)
    if len(words) > LONGEST_COMMAND:
        raise error(
            f"a command of {len(words)} bytes is too long: crash takes {LONGEST_COMMAND} at most"
        )
    output, length = ffi.new("char **"), ffi.new("size_t *")
    result = function(words, output, length)
    lookups.forget()
    text = ""
    if output[0] != ffi.NULL:
        text = bytes(ffi.buffer(output[0], length[0])).decode("utf-8", "replace")
        lib.free(output[0])
    name = line.split(maxsplit=1)[0] if line.strip() else "command"
    check(result, f"{name}: {'wrong usage' if 'Usage:' in text else 'failed'}", text)
    return text


def exec_crash_command(command: str) -> str:
    """Run a command of crash, and return all that it prints.

    Pipes and redirections do not work here: crash's prompt handles them, not its commands.

    :raises error: crash has no such command, or the command failed; ``output`` is what it
        printed before, such as its usage.
    """
    text = _captured(lib.host_run, command)
    said = message()
    if said.startswith("command not found") or "not available in minimal mode" in said:
        raise error(said.splitlines()[0], text)
    return text


def get_GDB_output(command: str) -> str | None:
    """Run a command of gdb, and return what it prints, or None where it fails."""
    try:
        return exec_gdb_command(command)
    except error:
        return None


def exec_gdb_command(command: str) -> str:
    """Run a command of gdb, and return what it prints.

    :raises error: the command failed; the text is gdb's message.
    """
    return _captured(lib.host_gdb, command)


class ReaderGone(BrokenPipeError):
    """The reader of crash's output has closed it, as ``head`` does when it has enough."""


def write(text: str) -> None:
    """Write ``text`` to where crash's output goes now: terminal, pager, pipe or file.

    :raises ReaderGone: nobody reads the output any more.
    :raises OSError: the text cannot be written, for example to a full disk.
    """
    data = text.encode("utf-8", "backslashreplace")
    number = lib.host_write(data, len(data)) if data else 0
    if number == errno.EPIPE:
        raise ReaderGone(number, os.strerror(number))
    if number:
        raise OSError(number, os.strerror(number))


Crash_run = session().crash_version
"""The version of the crash that is running."""
