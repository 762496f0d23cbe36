# SPDX-License-Identifier: GPL-3.0-or-later
"""What dom0's kernel and its processes know of guests, by drgn: backend devices, names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import drgn

from ..errors import printable
from .helpers import linux

__all__ = ["Backend", "backends", "guest_names"]

STATES = "XenbusState"  # an enumeration of include/xen/interface/io/xenbus.h
ID_OPTION, NAME_OPTION = b"-xen-domid", b"-name"  # of QEMU, the device model


@dataclass(frozen=True)
class Backend:
    """A device that dom0 serves to a domain, by xenbus."""

    domain: int
    kind: str
    node: str
    state: str


def backends(prog: drgn.Program) -> Iterator[Backend]:
    """Yield the backend devices that dom0's kernel has on xenbus.

    :raises LookupError: the kernel has no such bus, or no debug information of it.
    """
    bus = prog["xenbus_backend"].bus
    for device in linux.bus_for_each_dev(bus.address_of_()):
        backend = drgn.container_of(device, "struct xenbus_device", "dev")
        yield Backend(
            backend.otherend_id.value_(),
            _text(backend.devicetype),
            _text(backend.nodename),
            backend.state.format_(type_name=False, symbolize=False).removeprefix(STATES),
        )


def _text(pointer: drgn.Object) -> str:
    return printable(pointer.string_().decode(errors="replace")) if pointer else ""


def guest_names(prog: drgn.Program) -> dict[int, str]:
    """Return the names of domains, as the command lines of their device models have them."""
    found: dict[int, str] = {}
    for task in linux.for_each_task(prog):
        if task.mm and task.comm.string_().startswith(b"qemu"):
            try:
                words = linux.cmdline(task) or []
            except drgn.FaultError:  # its memory is not in the dump
                continue
            values = dict(zip(words, words[1:]))
            number, name = values.get(ID_OPTION, b""), values.get(NAME_OPTION)
            if number.isdigit() and len(number) < 6 and name:
                found[int(number)] = printable(name.partition(b",")[0].decode(errors="replace"))
    return found
