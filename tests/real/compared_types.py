# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of a kernel by gdb, in a session, and by drgn, compared.

``kernel_types.txt`` has the names that PyKdump's programs ask for, and some more.  drgn's side is
worked out here, outside crash, by the code that crash's Python runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import drgn

from pykdump_ext.types.by_drgn import DrgnTypes
from pykdump_ext.types.by_gdb import NoType
from pykdump_ext.types.model import describe

__all__ = ["Asked", "by_drgn", "compare", "compare_words", "files", "known_names", "reached"]

NAMES = Path(__file__).with_name("kernel_types.txt").read_text().splitlines()
VARIABLES = (
    "init_task", "jiffies", "linux_banner", "sys_call_table", "runqueues", "PIDTYPE_PID",
    "super_blocks", "net_namespace_list", "node_data", "cpu_online_mask", "irq_desc_tree",
    "system_wq", "vmalloc_to_page", "nosuch", "console_sem",
)  # fmt: skip
ROOTS = (
    "task_struct", "net", "super_block", "device", "request_queue", "sk_buff", "perf_event",
    "cgroup", "pci_dev", "module",
)  # fmt: skip
WORDS = {
    drgn.TypeKind.STRUCT: "struct", drgn.TypeKind.UNION: "union", drgn.TypeKind.ENUM: "enum",
}  # fmt: skip
MOST_EXCUSED = 5
"""Types that drgn and gdb may have differently: see the end of Types in docs/extensions.md."""

BY_GDB = """
import crash, json, re, sys
from pykdump_ext.host import typeinfo
from pykdump_ext.types.by_gdb import GdbTypes, NoType

kind, source, target = sys.argv[1:4]
if kind == "old":
    GdbTypes._has_places = False

def by_gdb(name, named):
    try: return typeinfo.by_gdb(name, named)
    except NoType: return None

def says(command):
    try: return crash.exec_gdb_command(command)
    except crash.error: return ""

names = json.load(open(source))
found = {name: by_gdb(name, False) for name in names["types"]}
variables = {name: by_gdb(name, True) for name in names["variables"]}
words = {}
for name in names["words"]:
    if found[name] is None or not re.fullmatch(r"(struct|union) \\w+", name): continue
    members = [m["fname"] for m in found[name]["body"] if m["fname"] and "bitsize" not in m]
    chosen = [m for n, m in enumerate(members) if n in (0, 1, len(members) // 2, len(members) - 1)]
    said = says("printf \\"%lu\\", sizeof(" + name + ")"), says("ptype " + name)
    words[name] = said, {m: says(f"printf \\"%lu\\", &(({name} *)0)->{m}") for m in chosen}
json.dump([found, variables, words], open(target, "w"))
"""


class Asked:
    """What gdb answered in a session: dicts of types and of variables, and its own words."""

    def __init__(self, path: Path) -> None:
        self.types, self.variables, self.words = json.loads(path.read_text())


def files(folder: Path, names: list[str], words: list[str]) -> None:
    """Write the script and what it asks for."""
    (folder / "by_gdb.py").write_text(BY_GDB)
    asked = {"types": names, "variables": VARIABLES, "words": words}
    (folder / "names").write_text(json.dumps(asked))


def by_drgn(types: DrgnTypes, name: str, **item: Any) -> dict[str, Any] | None:
    """Return the dict by drgn; it is empty where gdb has to answer."""
    try:
        found = types.type(name)
    except NoType:
        return None
    if found is None:
        return {}
    describe(found, item)
    return item


def compare(types: DrgnTypes, asked: Asked, several: Collection[str] = ()) -> int:
    """Compare drgn's dicts with gdb's, and return how many types both have.

    :param several: names that units have different types of; a few of those may differ.
    """
    both = 0
    differ: list[str] = []
    excused: list[str] = []
    for name, found in asked.types.items():
        both += found is not None
        if difference := unequal(by_drgn(types, name), found):
            knows_half = name in several or mentions_half_an_enum(found)
            (excused if knows_half else differ).append(f"{name}: {difference}")
    for name, found in asked.variables.items():
        own = by_drgn(types, name, fname=name)
        if name != "jiffies" and own != {} and (difference := unequal(own, found)):
            differ.append(f"{name}: {difference}")
    shown = "\n".join(differ[:8])
    assert not differ, f"{len(differ)} of {both} differ (drgn's, gdb's):\n{shown}"
    assert len(excused) <= MOST_EXCUSED, excused
    assert asked.variables["jiffies"]["basetype"] == "long unsigned int"
    assert asked.variables["nosuch"] is None
    return both


def unequal(one: Any, other: Any, path: str = "") -> str:
    """Return where two dicts differ first, and how; nothing where they are equal."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts = [(one[key], other[key], f"{path}.{key}") for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [(*each, f"{path}[{number}]") for number, each in enumerate(zip(one, other))]
    else:
        return "" if one == other else f"{path} {str(one)[:300]} != {str(other)[:300]}"
    return next(filter(None, (unequal(*part) for part in parts)), "")


def mentions_half_an_enum(found: Any) -> bool:
    """Has this dict an enum that gdb knows without its values, because some unit only names it?"""
    return found is not None and "'edef': []" in str(found)


def compare_words(asked: Asked) -> int:
    """Compare gdb's dicts with its words, and return how many members were compared."""
    compared = 0
    differ: list[str] = []
    for name, ((size, printed), offsets) in asked.words.items():
        found = asked.types[name]
        members = found["body"]
        # those of the struct itself have four blanks before them
        own = re.findall(
            r"(?m)^    (?:[^ }].*?|}) ?\**\(?\*?(?: const )?(\w*)\)?"
            r"(?:\[\d*\])*(?:\(.*\))?(?: : \d+)?;$",
            printed,
        )
        read = {member["fname"]: member["bitoffset"] for member in members}
        said = {member: 8 * int(offset) for member, offset in offsets.items()}
        if difference := unequal(
            [found["typelength"], [member["fname"] for member in members], read],
            [int(size), own, {**read, **said}],
        ):
            differ.append(f"{name}: {difference}")
        compared += len(said)
    shown = "\n".join(differ[:8])
    assert not differ, f"{len(differ)} of {len(asked.words)} differ (dict's, words'):\n{shown}"
    return compared


def reached(path: Path) -> list[str]:
    """Return the names of all types that lead from some large ones, in breadth."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.extra_module("kernel", create=True).try_file(path, force=True)
    names: dict[str, None] = {}
    waiting = [prog.type(f"struct {root}") for root in ROOTS]
    while waiting:
        of = waiting.pop(0)
        if of.kind in WORDS:
            if of.tag and f"{WORDS[of.kind]} {of.tag}" in names:
                continue
            if of.tag and not of.is_complete():
                try:
                    of = prog.type(f"{WORDS[of.kind]} {of.tag}")
                except LookupError:
                    continue
            if of.tag:
                names[f"{WORDS[of.kind]} {of.tag}"] = None
            if of.kind != drgn.TypeKind.ENUM:
                waiting += [member.type for member in of.members]
        elif of.kind == drgn.TypeKind.TYPEDEF:
            names[of.name] = None
            waiting.append(of.type)
        elif of.kind == drgn.TypeKind.FUNCTION:
            waiting += [of.type, *(parameter.type for parameter in of.parameters)]
        elif of.kind in (drgn.TypeKind.POINTER, drgn.TypeKind.ARRAY):
            waiting.append(of.type)
    return [*names]


def known_names(types: DrgnTypes) -> tuple[list[str], list[str]]:
    """Return the names of the file that the kernel has, and those that it has not."""
    known = [name for name in NAMES if by_drgn(types, name) is not None]
    absent = [name for name in NAMES if name not in known]
    assert len(known) > 150 and len(absent) > 50
    return known, absent
