# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for addresses in a kernel's modules, whose debug information drgn may not have.

The kernel keeps the symbols of each module in its memory (``CONFIG_KALLSYMS``). Those of a module
are read when the first address in it is looked up, so that a stack without modules costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import drgn
from drgn.helpers.linux.kallsyms import module_kallsyms
from drgn.helpers.linux.module import for_each_module, module_address_regions

from .walks import attempt, each, string

__all__ = ["MOST_MODULES", "name_modules"]

FINDER = "pykdump_ext modules"
MOST_MODULES = 1 << 12  # a kernel of a distribution has 4,000, of which it loads a few hundred
KERNEL = 1 << 63  # where the kernel's half of addresses begins


def name_modules(prog: drgn.Program) -> None:
    """Have a program name functions of modules in stacks, as ``name [module]``.

    What other finders know is theirs: this one is asked last.
    """
    if FINDER not in prog.registered_symbol_finders():
        prog.register_symbol_finder(FINDER, Modules().find, enable_index=-1)


@dataclass
class Modules:
    """A kernel's modules: where they are, once that was asked for, and symbols of some."""

    regions: list[tuple[int, int, drgn.Object]] | None = None
    symbols: dict[int, drgn.SymbolIndex] = field(default_factory=dict)

    def find(
        self, prog: drgn.Program, name: str | None, address: int | None, one: bool
    ) -> list[drgn.Symbol]:
        """Return the symbol of a module's function at an address; drgn calls this."""
        if name is not None or address is None or address < KERNEL:
            return []
        if self.regions is None:
            self.regions = []  # what cannot be read now is not tried for each address again
            for module in each("", [], MOST_MODULES, for_each_module, prog):
                for start, size in attempt("", [], module_address_regions, module) or ():
                    self.regions.append((start, start + size, module))
        for start, end, module in self.regions:
            if start <= address < end:
                index = self.symbols.get(module.value_())
                if index is None:
                    found = attempt("", [], functions, module) or []
                    index = self.symbols[module.value_()] = drgn.SymbolIndex(found)
                return list(index(prog, name, address, one))
        return []


def functions(module: drgn.Object) -> list[drgn.Symbol]:
    """Return the functions among a module's symbols, each with the module's name."""
    of = string(module.name)
    return [
        drgn.Symbol(f"{one.name} [{of}]", one.address, one.size, one.binding, one.kind)
        for one in module_kallsyms(module)
        if one.kind == drgn.SymbolKind.FUNC
    ]
