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
from dataclasses import dataclass
from typing import Any, NamedTuple

from .datatypes import (
    forget_absent_types,
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

__all__ = [
    "KVADDR", "LARGEST_READ", "LONGEST_COMMAND", "PAGESIZE", "PHYSADDR", "UVADDR", "XENMACHADDR",
    "Crash_run", "Excluded", "NullPointer", "ReaderGone", "Session", "addr2mod", "addr2sym",
    "error", "exec_crash_command", "exec_gdb_command", "get_GDB_output", "kvtop", "mem2long",
    "member_offset", "member_size", "offsetof", "readInt", "readPtr", "read_machine", "readmem",
    "session", "set_readmem_task", "sizeof", "struct_size", "sym2addr", "symbol_exists",
    "union_size", "uvtop", "write",
]  # fmt: skip

KVADDR = 0x1
"""A kernel virtual address."""
UVADDR = 0x2
"""A virtual address of the task set by :func:`set_readmem_task`, or of the current task."""
PHYSADDR = 0x4
"""A physical address; in a Xen dom0, a pseudo-physical address."""
XENMACHADDR = 0x8
"""A machine address; crash reads it by way of a pseudo-physical address where it has one."""
PAGESIZE = 4096
LARGEST_READ = 1 << 30
"""The most bytes that one call of :func:`readmem` reads: it has them in memory twice."""

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


@dataclass
class _Readmem:
    memtype: int = KVADDR
    task: int = 0


_readmem = _Readmem()


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


def _read(addr: int, size: int, mtype: int, machine: bool, what: str) -> bytes:
    if size <= 0:
        raise error(f'invalid size request: {size}  type: "{what}"')
    if size > LARGEST_READ:
        raise error(
            f"a read of {size:,} bytes at once is too large: read {LARGEST_READ:,} at most, and"
            " the rest by further calls"
        )
    buffer = ffi.new("char[]", size)
    task = _readmem.task if mtype == UVADDR else 0
    result = lib.host_readmem(addr & _ALL_BITS, mtype, task, machine, buffer, size, c_name(what))
    check(result, f'read error: address: {addr & _ALL_BITS:x}  type: "{what}"')
    return bytes(ffi.buffer(buffer, size))


def readmem(addr: int, size: int, mtype: int | None = None) -> bytes:
    """Return ``size`` bytes from ``addr``.

    :param mtype: the kind of address: ``KVADDR``, ``UVADDR``, ``PHYSADDR`` or
        ``XENMACHADDR``.  Without it: ``UVADDR`` once a task is set, else ``KVADDR``.
    :raises NullPointer: ``addr`` is the virtual address 0.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: the memory cannot be read, and crash's message has the address and its kind;
        or ``size`` is above ``LARGEST_READ``.
    """
    kind = _readmem.memtype if mtype is None else mtype
    if not addr and kind in (KVADDR, UVADDR):
        raise NullPointer("read of a NULL pointer")
    return _read(addr, size, kind, False, "Python")


def read_machine(maddr: int, size: int, what: str = "Python") -> bytes:
    """Return ``size`` bytes from machine address ``maddr``, without any translation.

    In a session that is not on a Xen host's dump it is a physical address.

    :param what: what is being read, for the error message.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: the memory is not in the dump.
    """
    return _read(maddr, size, PHYSADDR, True, what)


def readPtr(addr: int, mtype: int | None = None) -> int:
    """Return the pointer of 8 bytes at ``addr``; raise what :func:`readmem` raises."""
    return int.from_bytes(readmem(addr, 8, mtype), "little")


def readInt(addr: int, size: int, signed: bool = False) -> int:
    """Return the integer of ``size`` bytes at ``addr``; raise what :func:`readmem` raises."""
    return int.from_bytes(readmem(addr, size), "little", signed=bool(signed))


def mem2long(source: bytes, signed: bool = False, array: int = 0) -> int | list[int]:
    """Return bytes as an integer, or as a list of ``array`` integers of one size.

    :raises error: the bytes cannot be divided into so many integers.
    """
    if array <= 1:
        return int.from_bytes(source, "little", signed=bool(signed))
    if not source or len(source) % array:
        raise error(f"{len(source)} bytes cannot be divided into {array} integers of one size")
    size = len(source) // array
    return [
        int.from_bytes(source[i : i + size], "little", signed=bool(signed))
        for i in range(0, len(source), size)
    ]


def set_readmem_task(task: int) -> None:
    """Make :func:`readmem` read virtual addresses of a task, or of the kernel again.

    The session's own task stays as it is, and ``UVADDR`` means its memory again after a 0.

    :param task: the address of its ``struct task_struct``; 0 for the kernel.
    :raises error: crash has no such task.
    """
    if task:
        check(lib.host_task(task & _ALL_BITS), f"crash has no task at {task & _ALL_BITS:x}")
    _readmem.task = task & _ALL_BITS
    _readmem.memtype = UVADDR if task else KVADDR


def readmem_task() -> int:
    """Return the task that :func:`set_readmem_task` has set, or 0."""
    return _readmem.task


def _symbol(name: str) -> int | None:
    value = ffi.new("uint64_t *")
    return int(value[0]) if succeeded(lib.host_symbol(c_name(name), value)) else None


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
    forget_absent_types()  # it may be add-symbol-file
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
