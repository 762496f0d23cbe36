# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on the domains of the Xen host, and on what they have with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..errors import P2mError
from ..xen.domains import Domain
from ..xen.event_channels import STATES, find_channels
from ..xen.grants import Grants, GrantTables, read_grants
from ..xen.handles import find_uuids
from .blocks import Block, Cell, Paragraph, Table
from .case import Case
from .part import Part

if TYPE_CHECKING:
    from ..drgn.xenstore import Store
    from ..xen.event_channels import Channel
    from ..xen.frame_table import Owned

__all__ = ["Domains"]

COLUMNS = ("domain", "name", "kind", "pages", "MiB", "vcpus", "UUID")
DEVICES = ("domain", "device", "state", "driver", "serves")
CHANNELS = ("domain", "in use", *STATES[2:])
BETWEEN = ("domain", "with", "channels", "handled in dom0 by")
GRANTS = ("domain", "to", "pages", "in use")
PAGES_PER_MIB = 256
SEVERAL = 12  # handlers that are named; a driver domain may have hundreds of channels with dom0


class Domains(Part):
    """The domains, their devices, event channels and grants."""

    name = "xendomains"
    title = "Domains"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield tables of domains, backend devices, event channels and grants."""
        opened = case.opened
        domains = opened.domains
        owned = case.tried("pages and kinds", lambda: opened.xen.owned(domains)) or {}
        uuids = case.tried("UUIDs", lambda: find_uuids(opened.xen, domains))
        if uuids is None:
            case.notes.append("UUIDs: it is not clear where this Xen keeps them")
        host = case.tried("vcpus", lambda: case.host)
        vcpus = Counter(vcpu.domain for vcpu in host.vcpus) if host else None
        guests = [domain.id for domain in domains if domain.id]
        what = "names, backend devices and what handles event channels"
        dom0 = case.tried(what, lambda: case.prog) is not None
        store = case.tried("Xen's store", lambda: find_store(case)) if dom0 and guests else None
        names: dict[int, str] = {}
        if dom0 and guests:
            names = case.tried("names of guests", lambda: names_of(case, store, guests)) or {}
        rows: list[list[Cell]] = []
        for domain in domains:
            own = owned.get(domain.id)
            rows.append(
                [
                    domain.id,
                    "dom0" if domain.id == 0 else names.get(domain.id),
                    own.kind if own else None,
                    own.pages if own else None,
                    own.pages // PAGES_PER_MIB if own else None,
                    vcpus[domain.id] if vcpus is not None else None,
                    str(uuids[domain.id]) if uuids and domain.id in uuids else None,
                ]
            )
        yield Table("Domains by id", COLUMNS, rows)
        devices = case.tried("backend devices", lambda: backends(case, store)) if dom0 else None
        if devices:
            yield Table("Backend devices of dom0", DEVICES, devices)
        elif devices is not None:
            yield Paragraph("dom0's kernel serves no devices to domains (xenbus has no backends).")
        yield from event_channels(case, domains, dom0)
        yield from granted(case, domains, owned)


def find_store(case: Case) -> Store | None:
    """Return Xen's store, if a process of dom0 has it in its memory in a known form.

    :raises P2mError: it is damaged.
    """
    prog = case.prog
    from ..drgn.xenstore import find_store  # noqa: PLC0415

    store = find_store(prog)
    if store:
        store.value("/local/domain/0/name")  # if it is damaged, that is said here once
    return store


def stored(store: Store | None, path: str) -> str | None:
    """Return a value of Xen's store, or None if it has none that can be read."""
    with suppress(P2mError):
        value = store.value(path) if store else None
        return value.decode(errors="replace") if value else None
    return None


def names_of(case: Case, store: Store | None, guests: Sequence[int]) -> dict[int, str]:
    """Return the names of guests: those in Xen's store, else those that processes of dom0 have."""
    prog = case.prog
    from ..drgn.guests import guest_names  # noqa: PLC0415

    values = {guest: stored(store, f"/local/domain/{guest}/name") for guest in guests}
    found = {guest: value for guest, value in values.items() if value}
    others = [guest for guest in guests if guest not in found]
    if others:
        found |= guest_names(prog, others, case.notes)
    if len(found) < len(guests):
        unnamed = ", ".join(str(guest) for guest in guests if guest not in found)
        case.notes.append(
            f"the names of these domains: {unnamed}: they are neither in the memory of an xenstored"
            " whose store is read, nor in command lines of dom0's processes"
        )
    return found


def backends(case: Case, store: Store | None) -> list[list[Cell]]:
    """Return the rows of backend devices, by domain."""
    prog = case.prog
    from ..drgn.backends import backends  # noqa: PLC0415

    rows: list[list[Cell]] = []
    for one in sorted(backends(prog, case.notes), key=lambda one: (one.domain, one.node)):
        serves = one.serves
        if serves is None:  # what a script or a process was told to serve
            serves = stored(store, f"/local/domain/0/{one.node}/params")
        rows.append([one.domain, one.device, one.state, one.driver or "none", serves])
    if any(driver == "vbd" and serves is None for *_, driver, serves in rows):
        case.notes.append(
            "the disks that vbd devices serve: neither Xen's store nor debug information of the"
            " module xen-blkback was found"
        )
    return rows


def event_channels(case: Case, domains: Sequence[Domain], dom0: bool) -> Iterator[Block]:
    """Yield how many channels each domain has, and those between two domains.

    :param dom0: it is known what dom0's kernel has.
    """
    xen = case.opened.xen
    found = case.tried("event channels", lambda: find_channels(xen, domains, case.notes))
    if found is None:
        return
    rows: list[list[Cell]] = []
    for number, channels in found.items():
        states = Counter(channel.state for channel in channels)
        rows.append([number, len(channels), *(states[state] for state in STATES[2:])])
    yield Table("Event channels", CHANNELS, rows)
    pairs = sorted(between(found).items())
    handled: dict[int, str] = {}
    if dom0 and pairs:
        handled = case.tried("what handles event channels", lambda: handlers(case)) or {}
    linked: list[list[Cell]] = []
    for (first, second), ports in pairs:
        names = dict.fromkeys(handled[port] for port in ports if port in handled and not first)
        text = ", ".join([*names][:SEVERAL]) + (" ..." if len(names) > SEVERAL else "")
        linked.append([first, second, len(ports), text if first == 0 and handled else None])
    if linked:
        yield Table("Event channels between domains", BETWEEN, linked)


def between(found: dict[int, list[Channel]]) -> dict[tuple[int, int], list[int]]:
    """Return the ports of channels by two domains: those of the domain with the lower id.

    A domain's channels with itself are left out.
    """
    pairs: dict[tuple[int, int], list[int]] = {}
    for number, channels in found.items():
        for channel in channels:
            other = channel.remote if channel.state == "interdomain" else None
            if other is not None and number < other:
                pairs.setdefault((number, other), []).append(channel.port)
    return pairs


def handlers(case: Case) -> dict[int, str]:
    """Return what handles dom0's event channels, by port."""
    prog = case.prog
    from ..drgn.backends import handlers  # noqa: PLC0415

    return handlers(prog, case.notes)


def granted(case: Case, domains: Sequence[Domain], owned: dict[int, Owned]) -> Iterator[Block]:
    """Yield how many pages each domain grants to another."""
    xen = case.opened.xen
    tables = GrantTables(xen)

    def found(domain: Domain) -> dict[int, Grants]:
        return read_grants(xen.memory, tables.frames(domain, owned[domain.id], case.notes))

    rows: list[list[Cell]] = []
    for domain in domains if owned else ():
        grants = case.tried(f"grants of domain {domain.id}", partial(found, domain))
        for to, one in sorted((grants or {}).items()):
            rows.append([domain.id, to, one.pages, one.in_use])
    if rows:
        yield Table("Grants", GRANTS, rows)
    elif owned:
        yield Paragraph("No domain grants pages to another.")
