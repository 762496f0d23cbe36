# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks of dom0's vcpus in the part on physical cpus."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import drgn
import pytest

from pykdump_ext.drgn import helpers, module_names
from pykdump_ext.drgn import stacks as drgn_stacks
from pykdump_ext.parts.blocks import Lines
from pykdump_ext.parts.case import Case
from pykdump_ext.parts.cpus import stacks
from pykdump_ext.xen.pcpus import DomainVcpu, HostCpus

from .sample import opened


def test_a_stack_that_cannot_be_read_takes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def current(prog: Any, vcpu: int) -> int:
        if vcpu == 1:
            raise drgn.FaultError("address is not mapped", 0x41)
        return vcpu

    fake = SimpleNamespace(for_each_present_cpu=lambda prog: range(4), cpu_curr=current)
    monkeypatch.setattr(helpers, "linux", fake)
    monkeypatch.setattr(drgn_stacks, "stack_lines", lambda task: [f"PID {task}", "#0"])
    monkeypatch.setattr(module_names, "name_modules", lambda prog: None)
    program: Any = object()
    case = Case(opened(), program=lambda: program)
    vcpus = [DomainVcpu(0, n, 0x1000 + n, n, cpu) for n, cpu in enumerate([5, 6, None, 7])]
    case.__dict__["host"] = HostCpus((), (*vcpus, DomainVcpu(3, 2, 0, 0, 4)), ())
    assert [*stacks(case)] == [
        Lines("Stack of dom0's vcpu 0, cpu 5", ["PID 0", "#0"]),
        Lines("Stack of dom0's vcpu 3, cpu 7", ["PID 3", "#0"]),
    ]
    assert case.notes == ["the stack of dom0's vcpu 1: FaultError: address is not mapped: 0x41"]
