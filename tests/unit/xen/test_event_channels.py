# SPDX-License-Identifier: GPL-3.0-or-later
"""Event channels of domains, found by the ports in their first bucket."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.xen import event_channels
from pykdump_ext.xen.event_channels import Channel, find_channels

from ..made_up.channels import (
    AT,
    DEBUG,
    INTERDOMAIN,
    IPI,
    NEW,
    OLD,
    PIRQ,
    UNBOUND,
    VIRQ,
    Made,
    bucket,
    interdomain,
)
from ..made_up.host import ALLOCATED, DIRECT_MAP, Host
from ..made_up.machine import PAGE


def channels(host: Host, notes: list[str] | None = None) -> dict[int, list[Channel]]:
    xen = host.open()
    found: list[str] = [] if notes is None else notes
    channels = find_channels(xen, [*xen.domains()], found)
    assert notes is not None or not found
    return channels


@pytest.mark.parametrize("layout", [NEW, OLD, DEBUG])
@pytest.mark.parametrize("at", [AT, 40])
def test_each_state_with_what_it_is_bound_to(layout: tuple[int, int, int], at: int) -> None:
    host = Host()
    for number in (0, 7):
        host.add(number)
    made: list[Made] = [
        {
            1: (VIRQ, b"\3\0"), 2: (IPI, b""), 3: (PIRQ, b"\x09\0\0\0"), 4: (UNBOUND, b"\7\0"),
            9: interdomain(host, 1, 5),
        },
        {5: interdomain(host, 0, 9), 6: (INTERDOMAIN, struct.pack("<IIQ", 1, 0, DIRECT_MAP))},
    ]  # fmt: skip
    for mfn, each in zip(host.domains, made):
        host.machine.put(mfn, at, bucket(host, 0, each, layout))
    assert channels(host) == {
        0: [
            Channel(1, "virq", virq=3),
            Channel(2, "ipi"),
            Channel(3, "pirq"),
            Channel(4, "unbound", remote=7),
            Channel(9, "interdomain", remote=7, remote_port=5),
        ],
        7: [
            Channel(5, "interdomain", remote=0, remote_port=9),
            Channel(6, "interdomain", remote=None, remote_port=1),  # a domain that is gone
        ],
    }


def test_further_buckets_are_in_groups() -> None:
    host = Host()
    host.add(0)
    (mfn,) = host.domains
    host.machine.put(mfn, AT, bucket(host, 0, {63: (IPI, b"")}))
    for group, index, made in ((0, 1, {64: (IPI, b"")}), (1, 3, {32768 + 200: (VIRQ, b"\1")})):
        page = host.heap()
        first = (group * 512 + index) * 64
        host.machine.put(page, index, bucket(host, first, made))
        host.machine.put(mfn, AT + 1 + group, DIRECT_MAP + page * PAGE)
    assert [channel.port for channel in channels(host)[0]] == [63, 64, 32968]


def test_a_bucket_that_is_not_one_is_damaged() -> None:
    """It takes no other domain's channels with it."""
    host = Host()
    host.add(0)
    host.add(7)
    for mfn in host.domains:
        host.machine.put(mfn, AT, bucket(host, 0, {2: (IPI, b"")}))
    page = host.heap()
    host.machine.put(page, 1, bucket(host, 128, {}))
    host.machine.put(host.domains[1], AT + 1, DIRECT_MAP + page * PAGE)
    notes: list[str] = []
    assert channels(host, notes) == {0: [Channel(2, "ipi")]}
    assert notes == [
        "event channels of domain 7: Xen's event channels from 64 on are damaged, or not in the"
        " dump"
    ]


@pytest.mark.parametrize(("group", "first"), [(0, 64), (1, 32768)])
def test_a_group_of_buckets_that_is_not_there_is_damaged(group: int, first: int) -> None:
    host = Host()
    host.add(0)
    (mfn,) = host.domains
    host.machine.put(mfn, AT, bucket(host, 0, {63: (IPI, b"")}))
    page = host.heap()
    host.machine.put(mfn, AT + 1 + group, DIRECT_MAP + page * PAGE)
    assert [channel.port for channel in channels(host)[0]] == [63]
    del host.machine.pages[page]
    notes: list[str] = []
    assert channels(host, notes) == {}
    assert f"Xen's event channels from {first} on are damaged" in notes[0]
    host.machine.put(mfn, AT + 1 + group, 0x4141414141414141)
    assert channels(host, notes) == {} and notes[0] == notes[1]


def test_a_domain_without_buckets_takes_no_others_channels() -> None:
    """Such as one that is about to go. The place that fits most domains is the right one."""
    host = Host()
    for number in (0, 5, 7):
        host.add(number)
    for mfn in host.domains[:2]:
        host.machine.put(mfn, AT, bucket(host, 0, {2: (IPI, b"")}))
    notes: list[str] = []
    assert channels(host, notes) == {0: [Channel(2, "ipi")], 5: [Channel(2, "ipi")]}
    assert [note.partition(":")[0] for note in notes] == ["event channels of domain 7"]
    host.machine.put(host.domains[0], AT + 20, bucket(host, 0, {3: (IPI, b"")}))
    assert [*channels(host, notes)] == [0, 5]


def test_without_buckets_or_with_two_places_there_is_no_answer() -> None:
    host = Host()
    host.add(0)
    with pytest.raises(P2mError, match="it is not clear where"):
        channels(host)
    (mfn,) = host.domains
    for at in (AT, AT + 20):
        host.machine.put(mfn, at, bucket(host, 0, {}))
    with pytest.raises(P2mError, match="it is not clear where"):
        channels(host)


def test_a_page_outside_xens_heap_is_no_bucket() -> None:
    host = Host()
    host.add(0)
    vaddr = bucket(host, 0, {})
    host.page_info((vaddr - DIRECT_MAP) // PAGE, ALLOCATED, 0, host.domains[0])
    host.machine.put(host.domains[0], AT, vaddr)
    with pytest.raises(P2mError, match="it is not clear where"):
        channels(host)


@given(st.binary(max_size=PAGE))
def test_no_page_makes_it_fail(data: bytes) -> None:
    event_channels._layout(data.ljust(PAGE, b"\0"))
