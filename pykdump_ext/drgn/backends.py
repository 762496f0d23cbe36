# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend devices that dom0's kernel has on xenbus, by drgn; what serves its event channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import drgn

from .helpers import FAULTS, linux
from .module_names import MOST_MODULES
from .walks import attempt, each, string, text

__all__ = ["Backend", "backends", "handlers"]

STATES = "XenbusState"  # an enumeration of include/xen/interface/io/xenbus.h
IFF_UP = 1  # include/uapi/linux/if.h
MOST = 1 << 16  # devices, interfaces, disks or channels; a host runs a thousand domains at most
# Files of Linux whose structures have the same names as others
BLKBACK, EVENTS = "xen-blkback/xenbus.c", "events_base.c"


@dataclass(frozen=True)
class Backend:
    """A device that dom0 serves to a domain, by xenbus.

    ``node`` is its path in the store below ``/local/domain/0``. Without a ``driver`` a process
    serves it, and the kernel does not know its state. ``serves`` is the network interface or
    the disk behind it, None where that is not known.
    """

    domain: int
    device: str
    node: str
    state: str | None
    driver: str | None
    serves: str | None


def backends(prog: drgn.Program, notes: list[str]) -> Iterator[Backend]:
    """Yield the backend devices that dom0's kernel has on xenbus.

    :raises LookupError: the kernel has no such bus, or no debug information of it.
    """
    bus = prog["xenbus_backend"].bus.address_of_()
    interfaces, disk_of = _interfaces(prog, notes), _disks(prog, notes)

    def found(device: drgn.Object) -> Backend:
        backend = drgn.container_of(device, "struct xenbus_device", "dev")
        node = string(backend.nodename)
        state = driver = None
        # a driver reads who is at the other end; without one there is 0
        domain = backend.otherend_id.value_() if backend.otherend else _domain_in(node)
        serves = interfaces.get(device.value_())
        if device.driver:
            driver = string(device.driver.name)
            state = backend.state.format_(type_name=False, symbolize=False).removeprefix(STATES)
        if driver == "vbd":
            serves = disk_of(device.driver_data)
        return Backend(domain, text(linux.dev_name(device)), node, state, driver, serves)

    for device in each("backend devices", notes, MOST, linux.bus_for_each_dev, bus):
        one = attempt(f"the backend device at {device.value_():x}", notes, found, device)
        if one:
            yield one


def _domain_in(node: str) -> int:
    """Return the domain in the path of a node, such as ``backend/vbd/1/51712``.

    :raises ValueError: it has none.
    """
    _, _, domain, _ = node.split("/")
    return int(domain)


def _interfaces(prog: drgn.Program, notes: list[str]) -> dict[int, str]:
    """Return the network interfaces by the address of the device that they belong to."""
    found = {}
    with suppress(*FAULTS):
        for net in each("network namespaces", notes, MOST, linux.for_each_net, prog):
            for interface in each("interfaces", notes, MOST, linux.for_each_netdev, net):
                name = text(linux.netdev_name(interface))
                up = "up" if interface.flags & IFF_UP else "down"
                found[interface.dev.parent.value_()] = f"{name} ({up})"
    return found


def _disks(prog: drgn.Program, notes: list[str]) -> Callable[[drgn.Object], str | None]:
    """Return what finds the disk that blkback serves, from a device's ``driver_data``.

    It needs debug information of that module, which drgn looks for where distributions put it.
    """
    names: dict[int, str] = {}
    with suppress(*FAULTS):
        loaded = islice(prog.loaded_modules(), MOST_MODULES)  # the list may come back to itself
        ours = [module for module, _ in loaded if module.name == "xen_blkback"]
        prog.find_standard_debug_info(ours)  # no other finder: one fetches it from elsewhere
    try:
        kind = prog.type("struct backend_info *", filename=BLKBACK)
        for part in each("disks", notes, MOST, linux.for_each_partition, prog):
            names[linux.part_devt(part).value_()] = text(linux.part_name(part))
    except FAULTS:
        return lambda data: None

    def disk(data: drgn.Object) -> str | None:
        with suppress(*FAULTS):
            info = drgn.cast(kind, data)
            major, minor = info.major.value_(), info.minor.value_()
            number = linux.MKDEV(major, minor)
            if number:  # it has been told of one
                name = names.get(number, "device")
                return f"{name} ({major}:{minor}, mode {string(info.mode)})"
        return None

    return disk


def handlers(prog: drgn.Program, notes: list[str]) -> dict[int, str]:
    """Return the names of what handles each event channel in dom0, by its port.

    They are those of ``/proc/interrupts``; channels that a process has are named after it.

    :raises LookupError: the kernel has no such list, or no debug information of it.
    """
    found: dict[int, str] = {}

    def add(info: drgn.Object) -> None:
        port = info.evtchn.value_()
        if port:
            names = linux.irq_desc_action_names(linux.irq_to_desc(prog, info.irq))
            found[port] = text(b", ".join(names))

    head = prog["xen_irq_list_head"].address_of_()
    kind = prog.type("struct irq_info", filename=EVENTS)
    channels = each("event channels", notes, MOST, linux.list_for_each_entry, kind, head, "list")
    for info in channels:
        attempt(f"the event channel at {info.value_():x}", notes, add, info)
    return found
