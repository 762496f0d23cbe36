"""The running crash session: its memory, its symbols, its commands.

Inside crash this is also the module ``crash``, and its names are those of
PyKdump, so that programs written for it feel at home::

    >>> import crash
    >>> crash.readmem(crash.sym2addr("linux_banner"), 13)
    b'Linux version'
    >>> print(crash.exec_crash_command("sys"))

All addresses and sizes are in bytes.  What crash cannot do raises
:class:`error` with crash's own message; Ctrl-C in crash's code raises
KeyboardInterrupt.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

try:
    from crash_host import ffi, lib
except ImportError:
    raise ImportError("the module crash is there only inside crash: see 'py' there") from None

KVADDR = 0x1
"""A kernel virtual address."""
UVADDR = 0x2
"""A virtual address of the task that :func:`set_readmem_task` has set, or the current one."""
PHYSADDR = 0x4
"""A physical address; of a Xen dom0, a pseudo-physical one."""
XENMACHADDR = 0x8
"""A Xen machine address, read by way of the pseudo-physical one where there is one."""
PAGESIZE = 4096

_ALL_BITS = (1 << 64) - 1


class error(Exception):
    """crash could not do what was asked; the text is crash's own message.

    ``output`` has what a command had printed until then.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class NullPointer(error, IndexError):
    """The address was 0, as at the end of many lists."""


class Excluded(error):
    """The page was left out of the dump when it was filtered."""


class Session(NamedTuple):
    """What kind of session this is; paths are None where crash has none.

    ``terminal`` tells where commands come from, ``output_terminal`` where their
    output goes at this moment: not to a pager, a pipe or a file.
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


def _text(pointer: Any) -> str | None:
    return None if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def _message() -> str:
    """Return crash's last message without the command's name that it begins with."""
    message = _text(lib.host_message()) or ""
    head, separator, rest = message.partition(": ")
    return rest if separator and " " not in head and head not in ("WARNING", "NOTE") else message


def _found(result: int) -> bool:
    """True when a guarded call has succeeded, False when crash has no answer.

    :raises KeyboardInterrupt: Ctrl-C in crash's code.
    :raises error: this is not crash's own thread.
    """
    if result == lib.HOST_INTERRUPTED:
        raise KeyboardInterrupt
    if result == lib.HOST_WRONG_THREAD:
        raise error("crash can be asked by its own thread only, not by one that Python started")
    return bool(result == lib.HOST_OK)


def _check(result: int, otherwise: str, output: str = "") -> None:
    """Turn the result of a guarded call into an exception."""
    if not _found(result):
        kind = Excluded if result == lib.HOST_EXCLUDED else error
        raise kind(_message() or otherwise, output)


def session() -> Session:
    """Return what kind of session this is now."""
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
        namelist=_text(s.namelist),
        namelist_debug=_text(s.namelist_debug),
        dumpfile=_text(s.dumpfile),
        crash_version=_text(s.crash_version) or "",
    )


def _read(addr: int, size: int, mtype: int, machine: bool, what: str) -> bytes:
    if size <= 0:
        raise error(f'invalid size request: {size}  type: "{what}"')
    buffer = ffi.new("char[]", size)
    result = lib.host_readmem(addr & _ALL_BITS, mtype, machine, buffer, size, what.encode())
    _check(result, f'read error: address: {addr & _ALL_BITS:x}  type: "{what}"')
    return bytes(ffi.buffer(buffer, size))


def readmem(addr: int, size: int, mtype: int | None = None) -> bytes:
    """Return ``size`` bytes from ``addr``.

    :param mtype: ``KVADDR`` (the default), ``UVADDR``, ``PHYSADDR`` or ``XENMACHADDR``.
    :raises NullPointer: a virtual address of 0.
    :raises Excluded: the page was left out when the dump was filtered.
    :raises error: it cannot be read; crash's message has the address and its kind.
    """
    kind = _readmem.memtype if mtype is None else mtype
    if not addr and kind in (KVADDR, UVADDR):
        raise NullPointer("read of a NULL pointer")
    return _read(addr, size, kind, False, "Python")


def read_machine(maddr: int, size: int, what: str = "Python") -> bytes:
    """Return ``size`` bytes from machine address ``maddr`` of a Xen host's dump.

    The address is not translated at all.  Elsewhere it is a physical address.

    :param what: what is being read, for the error message.
    :raises error: it is not in the dump.
    """
    return _read(maddr, size, PHYSADDR, True, what)


def readPtr(addr: int, mtype: int | None = None) -> int:
    """Return the pointer at ``addr``; raises as :func:`readmem` does."""
    return int.from_bytes(readmem(addr, 8, mtype), "little")


def readInt(addr: int, size: int, signed: bool = False) -> int:
    """Return the integer of ``size`` bytes at ``addr``; raises as :func:`readmem` does."""
    return int.from_bytes(readmem(addr, size), "little", signed=bool(signed))


def mem2long(source: bytes, signed: bool = False, array: int = 0) -> int | list[int]:
    """Return bytes as an integer, or as a list of ``array`` integers of the same size."""
    if array <= 1:
        return int.from_bytes(source, "little", signed=bool(signed))
    if not source or len(source) % array:
        raise error(f"{len(source)} bytes cannot be {array} integers")
    size = len(source) // array
    return [
        int.from_bytes(source[i : i + size], "little", signed=bool(signed))
        for i in range(0, len(source), size)
    ]


def set_readmem_task(task: int) -> None:
    """Read virtual addresses of the task at ``task`` from now on; 0: the kernel's again."""
    _readmem.task = task
    _readmem.memtype = UVADDR if task else KVADDR
    if task:
        exec_crash_command(f"set {task:x}")


def sym2addr(name: str) -> int:
    """Return the address of the symbol ``name``, or 0 where there is none."""
    value = ffi.new("uint64_t *")
    return int(value[0]) if _found(lib.host_symbol(name.encode(), value)) else 0


def symbol_exists(name: str) -> bool:
    """True when the kernel or a module has the symbol ``name``."""
    return bool(sym2addr(name))


def addr2sym(addr: int, loose: bool = False) -> Any:
    """Return the name of the symbol at ``addr``, or None.

    :param loose: return (name, offset) of the symbol that ``addr`` is in, or
        (None, None).
    """
    name, offset = ffi.new("char **"), ffi.new("uint64_t *")
    there = _found(lib.host_symbol_near(addr & _ALL_BITS, name, offset))
    found = _text(name[0]) if there else None
    if loose:
        return (found, int(offset[0])) if found else (None, None)
    return found if found and not offset[0] else None


def addr2mod(addr: int) -> str | None:
    """Return the name of the module that ``addr`` is in, or None."""
    name = ffi.new("char **")
    return _text(name[0]) if _found(lib.host_module_of(addr & _ALL_BITS, name)) else None


def _datatype(kind: str, member: str | None) -> tuple[int, int, int]:
    size, offset, member_size = (ffi.new("long *") for _ in range(3))
    name = ffi.NULL if member is None else member.encode()
    if member is not None:
        name = ffi.new("char[]", name)
    result = lib.host_datatype(kind.encode(), name, size, offset, member_size)
    _check(result, f"no data type {kind}")
    return int(size[0]), int(offset[0]), int(member_size[0])


def struct_size(name: str) -> int:
    """Return the size of ``struct name`` in bytes, or -1 where there is none."""
    return _datatype(name, None)[0]


union_size = struct_size


def member_offset(name: str, member: str) -> int:
    """Return the offset of a member of ``struct name`` in bytes, or -1."""
    return _datatype(name, member)[1]


def member_size(name: str, member: str) -> int:
    """Return the size of a member of ``struct name`` in bytes, or -1."""
    return _datatype(name, member)[2]


def _translate(addr: int, user: bool, task: int) -> int:
    physical = ffi.new("uint64_t *")
    result = lib.host_translate(addr & _ALL_BITS, user, task, physical)
    _check(result, f"virtual address {addr & _ALL_BITS:x} is not mapped")
    return int(physical[0])


def uvtop(task: int, addr: int) -> int:
    """Return the physical address of ``addr`` in the task at ``task``.

    :raises error: it is not mapped, or there is no such task.
    """
    return _translate(addr, True, task)


def kvtop(addr: int) -> int:
    """Return the physical address of the kernel's virtual address ``addr``.

    :raises error: it is not mapped.
    """
    return _translate(addr, False, 0)


LONGEST_COMMAND = 1499  # BUFSIZE of defs.h, less one


def _captured(function: Any, line: str) -> str:
    words = line.encode()
    if len(words) > LONGEST_COMMAND:
        raise error(f"a command of {len(words)} bytes: crash takes {LONGEST_COMMAND} at most")
    output, length = ffi.new("char **"), ffi.new("size_t *")
    result = function(words, output, length)
    text = ""
    if output[0] != ffi.NULL:
        text = bytes(ffi.buffer(output[0], length[0])).decode("utf-8", "replace")
        lib.free(output[0])
    name = line.split(maxsplit=1)[0] if line.strip() else "command"
    _check(result, f"{name}: {'not used as it should be' if 'Usage:' in text else 'failed'}", text)
    return text


def exec_crash_command(command: str) -> str:
    """Run a command of crash and return all it printed.

    Pipes and redirections are the prompt's, not the command's: they do not
    work here.

    :raises error: crash has no such command, or gave it up; ``output`` has what
        it had printed, such as how it is used.
    """
    text = _captured(lib.host_run, command)
    message = _message()
    if message.startswith("command not found") or "not available in minimal mode" in message:
        raise error(message.splitlines()[0], text)
    return text


def get_GDB_output(command: str) -> str | None:
    """Return what gdb prints for ``command``, or None where it fails."""
    try:
        return _captured(lib.host_gdb, command)
    except error:
        return None


def exec_gdb_command(command: str) -> str:
    """Return what gdb prints for ``command``.

    :raises error: gdb failed; the text is gdb's message.
    """
    return _captured(lib.host_gdb, command)


class ReaderGone(BrokenPipeError):
    """Whoever read crash's output has gone, as ``head`` does when it has enough."""


def write(text: str) -> None:
    """Print ``text`` where crash's output goes: terminal, pager, pipe or file.

    :raises ReaderGone: nobody reads it any more.
    :raises OSError: it cannot be written, the disk being full for one.
    """
    data = text.encode("utf-8", "backslashreplace")
    number = lib.host_write(data, len(data)) if data else 0
    if number == errno.EPIPE:
        raise ReaderGone(number, os.strerror(number))
    if number:
        raise OSError(number, os.strerror(number))


Crash_run = session().crash_version
"""The version of the crash that is running."""
