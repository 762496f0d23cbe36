# SPDX-License-Identifier: GPL-3.0-or-later
"""gdb_typeinfo and gdb_whatis: by gdb and by drgn, compared with each other and with gdb's words.

``kernel_types.txt`` has the names that PyKdump's programs ask for, and some more.  drgn's side is
worked out here, outside crash, by the code that crash's Python runs.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import drgn
import pytest

from pykdump_ext.types.by_drgn import DrgnTypes
from pykdump_ext.types.by_gdb import NoType
from pykdump_ext.types.model import describe
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell, untouched
from tests.lab.packages import Missing

from .modules import module_with_types
from .places import Place
from .sessions import Crash, minimal

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


def compare(types: DrgnTypes, asked: Asked) -> int:
    """Compare drgn's dicts with gdb's, and return how many types both have."""
    both = 0
    for name, found in asked.types.items():
        if mentions_half_an_enum(found):
            continue
        assert by_drgn(types, name) == found, name
        both += found is not None
    for name, found in asked.variables.items():
        if name != "jiffies" and by_drgn(types, name, fname=name) != {}:
            assert by_drgn(types, name, fname=name) == found, name
    assert asked.variables["jiffies"]["basetype"] == "long unsigned int"
    assert asked.variables["nosuch"] is None
    return both


def mentions_half_an_enum(found: Any) -> bool:
    """Has this dict an enum that gdb knows without its values, because some unit only names it?"""
    return found is not None and "'edef': []" in str(found)


def compare_words(asked: Asked) -> int:
    """Compare gdb's dicts with its words, and return how many members were compared."""
    compared = 0
    for name, ((size, printed), offsets) in asked.words.items():
        assert asked.types[name]["typelength"] == int(size), name
        members = asked.types[name]["body"]
        # those of the struct itself have four blanks before them
        own = re.findall(
            r"(?m)^    (?:[^ }].*?|}) ?\**\(?\*?(\w*)\)?(?:\[\d*\])*(?:\(.*\))?(?: : \d+)?;$",
            printed,
        )
        assert len(own) == len(members), (name, own)
        assert [m["fname"] for m in members if m["fname"]] == [n for n in own if n], name
        for member in members:
            if member["fname"] in offsets:
                assert member["bitoffset"] == 8 * int(offsets[member["fname"]]), name
                compared += 1
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


RAGGED = ["struct cpu_rmap"]
"""A type that ends with an array, without a size, of anonymous structs."""
OLD = ["struct sk_buff", "struct page", "struct net_device_path_ctx", "struct socket", *RAGGED]
"""Types with bit-fields, anonymous structs, arrays of them, an enum without a name."""
NO_TYPES = ["int " + "*" * 900, "int " + "(" * 900, "_Complex float", "x\0y"]


def test_gdb_and_drgn_give_the_same(crash: Crash, untouched: Dump, host: Path) -> None:
    types = DrgnTypes([str(untouched.vmlinux)])
    known, absent = known_names(types)
    names = [*known[::3], *RAGGED, *absent[::40]]
    files(crash.folder, names, known[::12])
    few = {"types": OLD, "variables": ["jiffies", "nosuch"], "words": []}
    (crash.folder / "few").write_text(json.dumps(few))
    ran = crash(
        untouched,
        [f"extend {host}", "py by_gdb.py new names found", "py by_gdb.py old few old"],
        "-s",
    )
    assert ran.status == 0 and (crash.folder / "old").exists(), ran.text
    asked = Asked(crash.folder / "found")
    assert compare(types, asked) == len(known[::3]) + len(RAGGED)
    assert compare_words(asked) > 20
    assert compare(types, Asked(crash.folder / "old")) == len(OLD)


CAN = [cell for cell in CELLS if not cell.cannot]


@pytest.mark.thorough
@pytest.mark.parametrize("cell", CAN, ids=str)
def test_thousands_of_types_in_every_crash(cell: Cell, tmp_path: Path) -> None:
    try:
        place, whole = Place(cell, tmp_path), untouched(cell.kernel)
    except Missing as error:
        pytest.skip(str(error))
    types = DrgnTypes([str(whole.vmlinux)])
    known, absent = known_names(types)
    names = [*dict.fromkeys([*known, *absent[::10], *reached(whole.vmlinux)])]
    if cell.crash == "7.2.9":  # its gdb 7.6 takes up to half a minute for a large struct
        names = names[::25]
    else:
        assert len(names) > 1500
    files(tmp_path, names, names[::20])
    words: list[str | Path] = [place.p2mfix, whole.vmlinux, whole.vmcore, "-s", *cell.options]
    ran = place.run(words, [f"py {tmp_path}/by_gdb.py new {tmp_path}/names {tmp_path}/found"])
    assert ran.status == 0 and (tmp_path / "found").exists(), ran.text
    asked = Asked(tmp_path / "found")
    assert compare(types, asked) > len(names) * 2 // 3
    assert compare_words(asked) > len(names) // 50


MODULES = """
import crash

def kind(name):
    try:
        found = crash.gdb_typeinfo(name)
    except crash.error as error:
        return str(error)
    return [(m["fname"], m["bitoffset"]) for m in found["body"]]

print(kind("struct brought"))
"""


@pytest.mark.parametrize("source", ["drgn", "gdb"])
def test_the_types_of_a_module_come_and_go(
    crash: Crash, untouched: Dump, host: Path, source: str
) -> None:
    made = module_with_types(crash.folder)
    crash.write("kind.py", MODULES)
    crash.write(
        "within.py",
        "from kind import kind\n"
        "import crash\n"
        "crash.run_command('mod -d xen_privcmd')\n"
        "print(kind('struct brought'))\n"
        "try:\n"
        "    crash.gdb_whatis('no_such')\n"
        "except crash.error as error:\n"
        "    print(error)\n"
        "print(crash.gdb_whatis('init_task'))\n"
        "crash.gdb_typeinfo('struct list_head').clear()\n"
        "print(sorted(crash.gdb_typeinfo('struct list_head')))\n"
        "from pykdump_ext.host import typeinfo\n"
        "print(bool(typeinfo._drgn), bool(typeinfo._gdb))\n",
    )
    ran = crash(
        untouched,
        [f"extend {host}", "py kind.py", f"mod -s xen_privcmd {made} > mod", "py kind.py",
         "py within.py"],
        "-s", PYKDUMP_EXT_TYPES=source,
    )  # fmt: skip
    none = "struct brought: the kernel has no such type or variable"
    has = str([("a", 0), ("b", 256)])
    size = DrgnTypes([str(untouched.vmlinux)]).type("struct task_struct")
    assert size
    init = {
        "fname": "init_task", "basetype": "struct task_struct", "codetype": 3,
        "typelength": size.size(),
    }  # fmt: skip
    own = ["True False"] if source == "drgn" else ["False True"]
    assert ran.after("object loaded\n").splitlines() == [
        none, has, has, none, "no_such: the kernel has no such type or variable", str(init),
        "['basetype', 'body', 'codetype', 'typelength']", *own,
    ]  # fmt: skip


def test_gdb_is_asked_where_drgn_cannot_read_a_module(tmp_path: Path) -> None:
    (tmp_path / "types.c").write_text("struct brought { int a[7]; } brought;\n")
    subprocess.run(["cc", "-g", "-c", "types.c"], cwd=tmp_path, check=True)
    types = DrgnTypes([str(tmp_path / "types.o")])
    types.use_modules(["types.o"])  # a relative path, of another folder
    assert types.type("struct brought") is not None
    assert types.type("struct other") is types.type("other") is None
    types.use_modules([])
    with pytest.raises(NoType):
        types.type("struct other")


@pytest.mark.parametrize("source", ["drgn", "gdb"])
def test_types_in_a_minimal_session(crash: Crash, truncated: Dump, host: Path, source: str) -> None:
    crash.write(
        "few.py",
        "import crash, json\n"
        f"for name in {NO_TYPES}:\n"
        "    try: print(crash.gdb_whatis(name))\n"
        "    except crash.error: continue\n"
        f"print(json.dumps([crash.gdb_typeinfo(name) for name in {OLD}]))\n",
    )
    ran = minimal(crash, truncated, host, "py few.py", PYKDUMP_EXT_TYPES=source)
    types = DrgnTypes([str(truncated.vmlinux)])
    assert json.loads(ran.after("loaded\n")) == [by_drgn(types, name) for name in OLD]


def test_ctrl_c_within_gdb_is_not_lost_and_no_answer(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    crash.write(
        "stopped.py",
        "import crash, os, subprocess\n"
        "from pykdump_ext.host import typeinfo\n"
        "said = 'lost'\n"
        "subprocess.Popen(['sh', '-c', f'sleep 1; kill -INT {os.getpid()}'])\n"
        "try:\n"
        "    for i in range(10):\n"
        "        typeinfo._gdb.clear(); typeinfo._kept.clear()\n"
        "        crash.gdb_typeinfo('struct task_struct')\n"
        "except KeyboardInterrupt:\n"
        "    said = 'stopped'\n"
        "print(said, len(crash.gdb_typeinfo('struct task_struct')['body']) > 100)\n",
    )
    ran = minimal(crash, truncated, host, "py stopped.py", PYKDUMP_EXT_TYPES="gdb")
    assert ran.after("loaded\n") == "stopped True\n"
