# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on the domains of the Xen host, and the devices that dom0 serves to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..xen.handles import find_uuids
from .blocks import Block, Cell, Paragraph, Table
from .case import Case
from .part import Part

__all__ = ["Domains"]

COLUMNS = ("domain", "name", "kind", "pages", "MiB", "vcpus", "UUID")
PAGES_PER_MIB = 256


class Domains(Part):
    """The domains and their devices."""

    name = "xendomains"
    title = "Domains"

    def blocks(self, case: Case) -> Iterator[Block]:
        """Yield a table of domains, and one of backend devices."""
        opened = case.opened
        domains = opened.domains
        owned = case.tried("pages and kinds", lambda: opened.xen.owned(domains)) or {}
        uuids = case.tried("UUIDs", lambda: find_uuids(opened.xen, domains))
        if uuids is None:
            case.notes.append("UUIDs: it is not clear where this Xen keeps them")
        host = case.tried("vcpus", lambda: case.host)
        vcpus = Counter(vcpu.domain for vcpu in host.vcpus) if host else None
        guests = any(domain.id for domain in domains)
        names = case.tried("names of guests", lambda: guest_names(case)) or {} if guests else {}
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
        devices = case.tried("backend devices", lambda: backends(case))
        if devices:
            columns = ("domain", "device", "node", "state")
            yield Table("Backend devices of dom0", columns, devices)
        elif devices is not None:
            yield Paragraph("dom0's kernel serves no devices to domains (xenbus has no backends).")


def guest_names(case: Case) -> dict[int, str]:
    """Return the names of guests that have a device model in dom0."""
    prog = case.prog
    from ..drgn import backends  # noqa: PLC0415

    return backends.guest_names(prog)


def backends(case: Case) -> list[list[Cell]]:
    """Return the rows of backend devices, by domain."""
    prog = case.prog
    from ..drgn.backends import backends  # noqa: PLC0415

    found = sorted(backends(prog), key=lambda one: (one.domain, one.node))
    return [[one.domain, one.kind, one.node, one.state] for one in found]
