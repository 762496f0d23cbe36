# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a report on domains: what they have with each other."""

from __future__ import annotations

from pykdump_ext.opened import OpenedDump
from pykdump_ext.parts.blocks import Paragraph, Table
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.domains import Domains
from pykdump_ext.parts.part import Result, run

from ..made_up.channels import AT, IPI, UNBOUND, VIRQ, Made, bucket, interdomain
from ..made_up.dump import MadeUpDump
from ..made_up.grants import grant_table
from ..made_up.host import Host


def reported(host: Host) -> Result:
    return run(Domains(), Case(OpenedDump(MadeUpDump(host.memory(), host.notes()))))


def tables(result: Result) -> dict[str, list[tuple[object, ...]]]:
    found = [block for block in result.blocks if isinstance(block, Table)]
    return {table.title: [tuple(row) for row in table.rows] for table in found}


def host_with_guests() -> Host:
    host = Host()
    for number in (0, 5, 6):
        host.add(number)
    made: list[Made] = [
        {
            1: (VIRQ, b""), 2: (IPI, b""), 7: interdomain(host, 1, 3), 8: interdomain(host, 1, 4),
            9: interdomain(host, 0, 10), 10: interdomain(host, 0, 9),
        },
        {3: interdomain(host, 0, 7), 4: interdomain(host, 0, 8), 5: interdomain(host, 2, 1)},
        {1: interdomain(host, 1, 5), 2: (UNBOUND, b"\0\0")},
    ]  # fmt: skip
    for mfn, each in zip(host.domains, made):
        host.machine.put(mfn, AT, bucket(host, 0, each))
    return host


def test_event_channels_and_grants_by_domain() -> None:
    host = host_with_guests()
    grant_table(host, 1, [(0x19, 0), (1, 0)], [(9, 6), (0x19, 0), (1, 99)])
    found = reported(host)
    assert tables(found)["Event channels"] == [
        (0, 6, 0, 4, 0, 1, 1), (5, 3, 0, 3, 0, 0, 0), (6, 2, 1, 1, 0, 0, 0),
    ]  # fmt: skip
    between = tables(found)["Event channels between domains"]
    assert between == [(0, 5, 2, None), (5, 6, 1, None)]
    assert tables(found)["Grants"] == [(5, 0, 3, 2), (5, 6, 1, 1), (5, 99, 1, 0)]  # 99 is gone


def test_a_table_that_cannot_be_read_hides_no_other() -> None:
    host = host_with_guests()
    grant_table(host, 1, [(0xF000, 0)])
    grant_table(host, 2, [(1, 0)])
    found = reported(host)
    assert tables(found)["Grants"] == [(6, 0, 1, 0)]
    assert any(note.startswith("grants of domain 5: mfn ") for note in found.notes)


def test_where_nothing_is_granted_that_is_said() -> None:
    host = Host()
    host.add(0)
    found = reported(host)
    assert found.problem is None
    assert Paragraph("No domain grants pages to another.") in found.blocks
    assert "event channels: it is not clear where this Xen keeps event channels" in found.notes
