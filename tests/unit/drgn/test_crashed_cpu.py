# SPDX-License-Identifier: GPL-3.0-or-later
"""The cpu that called Xen to crash the host."""

from __future__ import annotations

import pytest

from pykdump_ext.drgn.crashed_cpu import crashed_cpu
from pykdump_ext.xen.vcpus import REGISTERS, Registers, Vcpu


def vcpu(number: int, current: bool, rax: int, rdi: int) -> Vcpu:
    words = [0] * REGISTERS
    words[10], words[14], words[16] = rax, rdi, 1 << 63  # as struct pt_regs has them
    words[11] = words[16]  # behind the instruction syscall
    return Vcpu(number, current, (Registers(tuple(words)),))


@pytest.mark.parametrize(("rax", "rdi"), [(29, 2), (37, 0)])
def test_it_is_the_one_that_called(rax: int, rdi: int) -> None:
    others = [vcpu(0, True, 29, 1), vcpu(1, True, 24, 2), vcpu(2, False, rax, rdi)]
    assert crashed_cpu([*others, vcpu(3, True, rax, rdi)]) == 3


def test_there_is_none_when_xen_crashed_by_itself() -> None:
    assert crashed_cpu([vcpu(0, True, 29, 0), Vcpu(1, True, ())]) is None
