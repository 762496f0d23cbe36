# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of drgn's helpers and of its programs, which any drgn can make on any dump of Linux.

``main(prog)`` is what drgn runs: it prints the answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import drgn

from .agree import AGREE
from .alike import ALIKE
from .same import SAME

__all__ = ["CALLS", "main"]

CALLS = {"agree": AGREE, "same": SAME, "alike": ALIKE}
"""By what is to be seen without Xen: agreement as everywhere, the same, something alike."""


def main(prog: drgn.Program) -> None:
    """Print the answer to each call, by kind and by name, as JSON."""
    answers: dict[str, dict[str, str]] = {}
    for kind, calls in CALLS.items():
        answers[kind] = {}
        for name, call in calls.items():
            try:
                answers[kind][name] = shown(call(prog))
            except drgn.FaultError as error:
                answers[kind][name] = f"FaultError: at {error.address:#x}"
            except Exception as error:
                answers[kind][name] = f"{type(error).__name__}: {error}"
    print(json.dumps(answers))


def shown(value: object) -> str:
    """Return an answer as text, with a line for each element, and with the types of objects."""
    if isinstance(value, drgn.Object):
        if value.type_.kind == drgn.TypeKind.POINTER:
            return f"({value.type_.type_name()}){value.value_():#x}"
        return str(value)
    if isinstance(value, drgn.StackTrace):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {shown(found)}" for key, found in value.items())
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return "\n".join(map(shown, value))
    return repr(value)
