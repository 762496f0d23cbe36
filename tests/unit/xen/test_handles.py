# SPDX-License-Identifier: GPL-3.0-or-later
"""The UUIDs of domains, found by what is around them in struct domain."""

from __future__ import annotations

from uuid import UUID

import pytest

from pykdump_ext.xen.handles import find_uuids

from ..made_up.host import IMAGE, XEN_HEAP, Host

ONE = UUID("5f8d2c3e-1b7a-4c55-9f0e-0123456789ab")
TIMEOUT = IMAGE + 0x24D490  # domain_watchdog_timeout()


def add(host: Host, number: int, uuid: UUID, at: int = 241, timer: int = 252) -> None:
    """Add a domain whose handle is at word ``at``, and a timer's function at word ``timer``."""
    mfn = host.add(number)
    vaddr = host.direct(mfn)
    buffer = host.machine.frame()
    host.page_info(buffer, XEN_HEAP, 0, 0)
    low, high = (int.from_bytes(uuid.bytes[i : i + 8], "little") for i in (0, 8))
    words = {at: low, at + 1: high, at + 2: host.direct(buffer) + 0xC70, at + 3: 17 | 5 << 32}
    for start in (timer, timer + 6):
        words |= {start: TIMEOUT, start + 1: vaddr}
    for index, word in words.items():
        host.machine.put(mfn, index, word)


def found(host: Host) -> dict[int, UUID] | None:
    xen = host.open()
    return find_uuids(xen, [*xen.domains()])


@pytest.mark.parametrize(("at", "timer"), [(241, 252), (200, 211), (150, 155), (180, 196)])
def test_each_domain_has_its_own(at: int, timer: int) -> None:
    host = Host()
    add(host, 0, UUID(int=0), at, timer)
    add(host, 3, ONE, at, timer)
    assert found(host) == {0: UUID(int=0), 3: ONE}


def test_where_nothing_is_around_it_there_is_no_answer() -> None:
    host = Host()
    host.add(0)
    assert found(host) is None
    add(host, 3, ONE)
    assert found(host) is None  # not in all domains


def test_two_places_that_fit_equally_well_are_no_answer() -> None:
    host = Host()
    add(host, 0, ONE)
    buffer = host.machine.get(host.domains[0], 243)
    host.machine.put(host.domains[0], 247, buffer)
    assert found(host) is None


def test_a_buffer_that_is_fuller_than_it_can_be_is_none() -> None:
    host = Host()
    add(host, 0, ONE)
    host.machine.put(host.domains[0], 244, 200)
    assert found(host) is None


def test_a_buffer_of_a_domain_is_none_of_xens_heap() -> None:
    host = Host()
    add(host, 0, ONE)
    host.give(host.domains[0], host.machine.get(host.domains[0], 243) // 4096 % 2**20)
    assert found(host) is None
