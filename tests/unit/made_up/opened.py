# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of made-up hosts and guests, opened."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis

from .dump import CountingDump, MadeUpNamelist
from .guest import Guest
from .host import dom0_on_host


class CountingNotes(CountingDump):
    """A dump that counts as well how often it is asked for its notes."""

    asked = 0

    def __getattribute__(self, name: str) -> object:
        if name == "notes":
            self.asked += 1
        return super().__getattribute__(name)


class OnHost(NamedTuple):
    """A host's dump that counts, and its two kernels."""

    dump: CountingNotes
    dom0: Guest
    guest: Guest

    def opened(self, domain: int = 0) -> OpenedDump:
        namelist = MadeUpNamelist.of(self.guest if domain else self.dom0)
        return OpenedDump(self.dump, [namelist], ["vmcore"], domain)


def host_dump() -> OnHost:
    """Return the dump of a host with two kernels."""
    host, dom0, guest = dom0_on_host()
    return OnHost(CountingNotes(host.memory(), host.notes()), dom0, guest)


def of_guest(guest: Guest, *namelists: MadeUpNamelist) -> tuple[OpenedDump, CountingNotes]:
    """Open the dump of a host of which only dom0's memory is there."""
    dump = CountingNotes(guest.machine.memory(), guest.notes())
    return OpenedDump(dump, namelists or [MadeUpNamelist.of(guest)]), dump


def same(one: Diagnosis, other: Diagnosis) -> bool:
    """Return True for diagnoses that say the same, however long each took."""
    return one.kernel.root == other.kernel.root and all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(Diagnosis)
        if field.name not in ("kernel", "seconds")
    )
