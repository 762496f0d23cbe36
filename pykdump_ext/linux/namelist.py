# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel's namelist in each form that crash takes: its banner, symbols and initialised data."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import P2mError
from ..machine.files import OpenFile
from .banners import BANNER_START, LONGEST_BANNER
from .kernel import START_KERNEL_MAP, KernelFile
from .packed import LARGEST, first_bytes, packing
from .system_map import SystemMap, is_system_map
from .vmlinux import VmlinuxFile

__all__ = ["Namelist", "Relocated", "group_namelists", "is_namelist"]

ELF_CORE = 4  # e_type, ET_CORE
HEAD = 4096  # bytes at the start of a file, which show what it is
SETUP_HEADER = 0x202  # "HdrS" in a bzImage: Documentation/arch/x86/boot.rst
KERNEL_VERSION = 0x20E  # there: where the version is, less 0x200
GZIP_FNAME = 1 << 3  # RFC 1952: the flag in byte 3 of a file that has its name from byte 10 on
DEBUG_ONLY = "has debug information only: give the kernel's own file as well"
DEBUG_FOLDER = Path("/usr/lib/debug")


class Namelist:
    """A kernel's namelist: a vmlinux, packed or not; with its debug file, or with a System.map.

    Two ELF files may be given in any order: the smaller one is the kernel, as it is to crash.
    A kernel without symbols takes those of its debug file, which is looked for by its
    ``.gnu_debuglink`` where crash looks for it.

    :param paths: one or two files, as they are given to crash.
    :raises P2mError: the files are no namelist.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.given = tuple(str(path) for path in paths)
        maps = [path for path in paths if is_system_map(first_bytes(path, HEAD))]
        elves = sorted(
            (_open(path) for path in paths if path not in maps), key=lambda elf: elf.size
        )
        if not elves or len(paths) > 2:
            shown = ", ".join(self.given)
            raise P2mError(
                f"{shown}: give one vmlinux, with its debug file or its System.map if it needs that"
            )
        self.kernel = elves[0]
        self.debug = elves[1] if len(elves) > 1 else None
        if self.debug is None and not self.kernel.has_symbols:
            self.debug = _linked(self.kernel)
        files = [elf for elf in (self.kernel, self.debug) if elf is not None]
        symbols = next((elf for elf in files if elf.has_symbols), None)
        if symbols is None:
            raise P2mError(f"{self.kernel.path}: has no symbols")
        self.maps = tuple(str(path) for path in maps)
        self._symbols: VmlinuxFile | SystemMap = SystemMap(maps[0]) if maps else symbols
        self._own = symbols
        self._data = next((elf for elf in files if elf.has_data), symbols)

    @property
    def path(self) -> Path:
        """The kernel's file."""
        return self.kernel.path

    @property
    def files(self) -> list[Path]:
        """The ELF files, unpacked, for a program that reads debug information."""
        elves = (self.kernel, self.debug, self.with_debug)
        return [*dict.fromkeys(elf.plain for elf in elves if elf is not None)]

    @cached_property
    def with_debug(self) -> VmlinuxFile | None:
        """The file that has the debug information: one that was given, or that one links to."""
        given = (elf for elf in (self.debug, self.kernel) if elf is not None and elf.has_debug)
        return next(given, None) or _linked(self.kernel)

    def address(self, name: str) -> int | None:
        """Return the link-time address of the symbol ``name``, or None."""
        return self._symbols.address(name)

    def read(self, vaddr: int, size: int) -> bytes:
        """Return up to ``size`` bytes of initialised data at link-time ``vaddr``.

        :raises P2mError: the file has no data for that address.
        """
        return self._data.read(vaddr, size)

    def banner(self) -> bytes:
        """Return ``linux_banner`` without its final zero byte.

        Return only its first words where a System.map has another address for it: then the
        vmlinux is of another build, and gives crash its types alone.

        :raises P2mError: the file is not the namelist of a Linux kernel.
        """
        if not self._data.has_data:
            raise P2mError(f"{self.path}: {DEBUG_ONLY}")
        address = self._own.address("linux_banner")
        text = b"" if address is None else self.read(address, LONGEST_BANNER).split(b"\0")[0]
        if not text.startswith(BANNER_START):
            raise P2mError(f"{self.path}: not a Linux kernel with its symbols")
        return text if self.address("linux_banner") == address else BANNER_START

    @property
    def refused(self) -> str | None:
        """Why crash refuses this namelist, and what helps, or None if crash takes it."""
        kernel = self.kernel
        if not kernel.has_data:
            return DEBUG_ONLY
        if not kernel.has_symbols:
            # The debug file has no data, so that to crash all variables are in .bss: 8.0.2 takes
            # linux_banner for a pointer, 8.0.6 finds no idle tasks
            return "has no symbols of its own: eu-unstrip joins it with its debug file"
        debug = self.with_debug
        if debug is None:
            return "has no debug information: give the vmlinux of the kernel's debug package"
        if debug.refused_debug:
            return (
                f"has {debug.refused_debug}, which crash cannot read: objcopy"
                " --decompress-debug-sections makes a copy without"
            )
        if any(elf and elf.packed and not _named(elf.path) for elf in (kernel, self.debug)):
            return "is packed, and crash unpacks only a file whose name begins with vmlinux"
        return None


def _open(path: str | Path) -> VmlinuxFile:
    """Open an ELF file of a kernel.

    :raises P2mError: it is something else; the text says what, and what is needed.
    """
    head = first_bytes(path, HEAD)
    if head[SETUP_HEADER : SETUP_HEADER + 4] == b"HdrS":
        raise P2mError(
            f"{path}: is a vmlinuz, which boots the kernel and has no symbols: give the vmlinux of"
            f" {_release(path)} from the kernel's debug package"
        )
    return VmlinuxFile(path)


def _release(path: str | Path) -> str:
    """Return the release in the header of a vmlinuz."""
    head = first_bytes(path, 1 << 16)
    at = int.from_bytes(head[KERNEL_VERSION : KERNEL_VERSION + 2], "little") + 0x200
    words = head[at : at + 256].split(b"\0")[0].split()
    text = words[0].decode("latin-1") if words else ""
    return text if text.isascii() and text.isprintable() and text else "this kernel"


def _named(path: Path) -> bool:
    """Return True if crash unpacks a file of that name: is_compressed_kernel() in symbols.c."""
    with path.open("rb") as file:
        head = file.read(32)
    if packing(head) == "gzip":  # the name in the file counts, where it has one
        return not head[3] & GZIP_FNAME or head[10:].startswith(b"vmlinux")
    return path.name.startswith("vmlinux")


def _linked(kernel: VmlinuxFile) -> VmlinuxFile | None:
    """Return the debug file that ``.gnu_debuglink`` names, where crash and its gdb find it."""
    if kernel.debuglink is None:
        return None
    name, crc = kernel.debuglink
    if "/" in name:  # a path, perhaps to a device
        return None
    folder = kernel.path.parent
    for path in (folder / name, folder / ".debug" / name, DEBUG_FOLDER / "boot" / name):
        try:
            if not path.samefile(kernel.path) and _crc(path) == crc:
                return VmlinuxFile(path)
        except (OSError, P2mError):
            continue
    return None


def _crc(path: Path) -> int | None:
    """Return the CRC-32 of a file, or None if it is too large to be a debug file.

    :raises P2mError: it cannot be read, or is not a regular file.
    """
    file = OpenFile(path)
    if file.size > LARGEST:
        return None
    value = 0
    for at in range(0, file.size, 1 << 20):
        value = zlib.crc32(file.read_at(at, 1 << 20), value)
    return value


def is_namelist(path: str | Path) -> bool:
    """Return True if the file begins as one of those that make a namelist, or as a vmlinuz."""
    head = first_bytes(path, HEAD)
    if head.startswith(b"\x7fELF"):
        return int.from_bytes(head[16:18], "little") != ELF_CORE
    return head[SETUP_HEADER : SETUP_HEADER + 4] == b"HdrS" or is_system_map(head)


def group_namelists(paths: Sequence[str]) -> list[Namelist]:
    """Return the namelists that these files make.

    A kernel and its debug file have the same build ID. Where the files have none, one kernel
    without debug information and one debug file belong together.

    :raises P2mError: a file is no namelist, or nothing shows to which kernel it belongs.
    """
    if len(paths) < 2:
        return [Namelist(path) for path in paths]
    maps = [path for path in paths if is_system_map(first_bytes(path, HEAD))]
    elves = [_open(path) for path in paths if path not in maps]
    whole = [elf for elf in elves if elf.has_data and elf.has_symbols and elf.has_debug]
    debugs = [elf for elf in elves if not elf.has_data]
    kernels = [elf for elf in elves if elf not in whole and elf not in debugs]
    groups = [[str(elf.path)] for elf in whole]
    for kernel in kernels:
        twins = [elf for elf in (*debugs, *whole) if elf.build_id == kernel.build_id is not None]
        if not twins and len(kernels) == len(debugs) == 1:
            twins = debugs
        own = [str(twin.path) for twin in twins[:1]]
        groups.append([str(kernel.path), *own])
        debugs = [elf for elf in debugs if elf not in twins[:1]]
        if twins and twins[0] in whole and own in groups:  # not yet beside another copy
            groups.remove(own)
    groups += [[str(elf.path)] for elf in debugs]
    if maps and len(groups) == 1:
        return [Namelist(*groups[0], *maps)]
    if maps:
        raise P2mError(f"{', '.join(maps)}: give one vmlinux with a System.map")
    return [Namelist(*group) for group in groups]


@dataclass(frozen=True)
class Relocated:
    """The namelist of a kernel that ran ``by`` bytes above its link-time address.

    Addresses below the kernel's mapping, such as those of per-cpu variables, are offsets
    and stay as they are.
    """

    namelist: KernelFile
    by: int

    @property
    def path(self) -> Path:
        """The namelist's file."""
        return self.namelist.path

    def banner(self) -> bytes:
        """Return the namelist's banner; see :class:`~.kernel.KernelFile`."""
        return self.namelist.banner()

    def address(self, name: str) -> int | None:
        """Return the address of symbol ``name`` in the dump, or None."""
        address = self.namelist.address(name)
        if address is None or address < START_KERNEL_MAP:
            return address
        return (address + self.by) % (1 << 64)
