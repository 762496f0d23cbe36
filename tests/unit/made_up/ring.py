# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's console ring in a made-up Xen host, written as xen/drivers/char/console.c does it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from .host import IMAGE, XEN_HEAP, Host
from .machine import PAGE

RING_MFN = 0x3000  # the first of consecutive frames, beyond those that Machine.frame() gives
CONRING = IMAGE + 0x5000 + 0x400  # in the page of the host's variables
COUNTERS = CONRING + 0x200


@dataclass
class Ring:
    """A ring of ``size`` bytes on a host, with ``old`` in its memory before."""

    host: Host
    size: int = 16384
    old: bytes = b""
    counters: tuple[str, str] = ("conringp", "conringc")
    size_at: int = -8  # of conring_size from conring

    def __post_init__(self) -> None:
        self.memory = bytearray(self.old.ljust(self.size, b"\0"))
        self.produced = self.consumed = 0
        self.mfns = range(RING_MFN, RING_MFN + -(-self.size // PAGE))
        for mfn in self.mfns:
            self.host.page_info(mfn, XEN_HEAP, 0, 0)
            self.vaddr = self.host.direct(mfn) - (mfn - RING_MFN) * PAGE

    def write(self, text: bytes) -> None:
        """Write as conring_puts() does."""
        for at in range(0, len(text), self.size):
            part = text[at : at + self.size]
            first = self.produced % self.size
            room = self.size - first
            self.memory[first : first + min(len(part), room)] = part[:room]
            if len(part) > room:
                self.memory[: len(part) - room] = part[room:]
            self.produced = (self.produced + len(part)) % 2**32
        if (self.produced - self.consumed) % 2**32 > self.size:
            self.consumed = (self.produced - self.size) % 2**32

    def clear(self) -> None:
        """Do what ``xl dmesg -c`` does."""
        self.consumed = self.produced

    def plant(self, names: Iterable[str] = ("conring", "conring_size", "counters")) -> None:
        """Put the ring and its variables into the host's memory."""
        for number, mfn in enumerate(self.mfns):
            part = self.memory[number * PAGE : number * PAGE + PAGE]
            self.host.machine.pages[mfn] = bytearray(part.ljust(PAGE, b"\0"))
        variables = self.host.machine.pages[self.host.variables]
        at = CONRING % PAGE
        if "conring" in names:
            struct.pack_into("<Q", variables, at, self.vaddr)
        if "conring_size" in names:
            struct.pack_into("<I", variables, at + self.size_at, self.size)
        if "counters" in names:
            values = {"conringp": self.produced, "conringc": self.consumed}
            words = [values[name] for name in self.counters]
            struct.pack_into("<II", variables, COUNTERS % PAGE, *words)

    @property
    def symbols(self) -> dict[str, int]:
        """Where Xen's symbols are."""
        places = {name: COUNTERS + 4 * at for at, name in enumerate(self.counters)}
        variables = IMAGE + 0x5000
        own = {"domain_list": variables, "frame_table": variables + 8, "max_page": variables + 16}
        return {**own, "conring": CONRING, "conring_size": CONRING + self.size_at, **places}
