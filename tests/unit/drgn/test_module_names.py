# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions of modules have names in a program that has no debug information of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import drgn
import pytest

from pykdump_ext.drgn import module_names
from pykdump_ext.drgn.module_names import name_modules
from pykdump_ext.parts.machinery import functions_of

TEXT, OTHER = 0xFFFFFFFFC0200000, 0xFFFFFFFFC0300000  # of two modules
BINDING = drgn.SymbolBinding.LOCAL


def module(number: int) -> Any:
    return SimpleNamespace(value_=lambda: number, name=number)


MODULES = {1: (TEXT, "nls_ascii"), 2: (OTHER, "damaged")}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules whose symbols were read."""
    asked: list[str] = []

    def regions(one: Any) -> list[tuple[int, int]]:
        return [(MODULES[one.name][0], 0x1000)]

    def symbols(one: Any) -> list[drgn.Symbol]:
        asked.append(MODULES[one.name][1])
        if one.name == 2:
            raise drgn.FaultError("not in the dump", OTHER)
        return [
            drgn.Symbol("init_module", TEXT + 0x74, 13, BINDING, drgn.SymbolKind.FUNC),
            drgn.Symbol("table", TEXT + 0x74, 13, BINDING, drgn.SymbolKind.OBJECT),
        ]

    monkeypatch.setattr(module_names, "for_each_module", lambda prog: map(module, MODULES))
    monkeypatch.setattr(module_names, "module_address_regions", regions)
    monkeypatch.setattr(module_names, "module_kallsyms", symbols)
    monkeypatch.setattr(module_names, "string", lambda name: MODULES[name][1])
    return asked


def test_a_function_of_a_module_has_its_name_and_the_modules(read: list[str]) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    name_modules(prog)
    name_modules(prog)  # another part of the report
    for address in (0x47B5E1, 0xFFFFFFFF81000000):  # of a program, of the kernel
        with pytest.raises(LookupError):
            prog.symbol(address)
    with pytest.raises(LookupError):
        prog.symbol("init_module")  # a name means what it means without this finder
    assert read == []
    for offset in (0x74, 0x7E):
        assert prog.symbol(TEXT + offset).name == "init_module [nls_ascii]"
    with pytest.raises(LookupError):
        prog.symbol(TEXT + 0x81)
    for _ in range(2):
        with pytest.raises(LookupError):
            prog.symbol(OTHER)
    assert read == ["nls_ascii", "damaged"]  # once each


def test_the_module_stays_in_where_it_died() -> None:
    stack = ["#0  init_module [nls_ascii]+0xa/0xd", "#1  does.isra.0 [xen_x-y]+0x1/0x2", "#2  0x47"]
    assert functions_of(stack) == ("init_module [nls_ascii]", "does [xen_x-y]")
    assert functions_of(["#10 do_open.part.0+0x1/0x2", "#11 a (b.c:1:2)"]) == ("do_open", "a")
