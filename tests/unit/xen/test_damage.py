# SPDX-License-Identifier: GPL-3.0-or-later
"""Xen's memory and notes, damaged: an answer or a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.opened import OpenedDump
from pykdump_ext.xen.console import read_console
from pykdump_ext.xen.event_channels import find_channels
from pykdump_ext.xen.grants import Grants
from pykdump_ext.xen.pcpus import read_cpus

from ..made_up.damage_xen import XEN_PARTS, damaged_host, find_grants, look_at_host
from ..made_up.dump import MadeUpDump
from ..made_up.strategies import times


def test_the_host_that_is_damaged_is_whole_before() -> None:
    target, _, _, notes = damaged_host("everything")
    opened = OpenedDump(MadeUpDump(target.damaged(b""), notes))
    assert [domain.id for domain in opened.domains] == [0, 1]
    assert [(vcpu.current, len(vcpu.registers)) for vcpu in opened.vcpus] == [(True, 1), (False, 3)]
    assert len(read_console(opened.xen).lines) == 683
    assert [cpu.vcpu is not None for cpu in read_cpus(opened.xen, notes).cpus] == [True, False]
    channels = find_channels(opened.xen, opened.domains, [])
    assert [[one.port for one in each] for each in channels.values()] == [[1, 2, 5]] * 2
    assert find_grants(opened) == [{1: Grants(2, 1)}, {0: Grants(2, 1)}]


@pytest.mark.parametrize("part", XEN_PARTS)
@settings(max_examples=times(0.3))
@given(st.binary(max_size=64), st.binary(max_size=32))
def test_a_damaged_host_is_described_or_refused_with_a_sentence(
    part: str, strokes: bytes, text: bytes
) -> None:
    look_at_host(part, strokes, text)
