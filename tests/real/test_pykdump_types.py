# SPDX-License-Identifier: GPL-3.0-or-later
"""gdb_typeinfo and gdb_whatis: by gdb and by drgn, compared, also with gdb's words."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pykdump_ext.types.by_drgn import DrgnTypes
from pykdump_ext.types.by_gdb import NoType
from tests.lab.dump import Dump
from tests.lab.matrix import CELLS, Cell, untouched
from tests.lab.packages import Missing

from .btf import names_of_several_types
from .compared_types import Asked, by_drgn, compare, compare_words, files, known_names, reached
from .modules import module_with_types
from .places import Place
from .sessions import Crash, minimal

RAGGED = ["struct cpu_rmap"]
"""A type that ends with an array, without a size, of anonymous structs."""
OLD = ["struct sk_buff", "struct page", "struct net_device_path_ctx", "struct socket",
       "struct blk_mq_ctx", "struct nf_conntrack_tuple", *RAGGED]  # fmt: skip
"""Types with bit-fields, anonymous structs, also aligned ones, arrays of them, a nameless enum."""
NO_TYPES = ["int " + "*" * 900, "int " + "(" * 900, "_Complex float", "x\0y",
            "int : 3", "type = int"]  # fmt: skip


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
        names = [*dict.fromkeys([*names[::25], *OLD])]
    else:
        assert len(names) > 1500
    files(tmp_path, names, names[::20])
    words: list[str | Path] = [place.p2mfix, whole.vmlinux, whole.vmcore, "-s", *cell.options]
    ran = place.run(words, [f"py {tmp_path}/by_gdb.py new {tmp_path}/names {tmp_path}/found"])
    assert ran.status == 0 and (tmp_path / "found").exists(), ran.text
    asked = Asked(tmp_path / "found")
    several = names_of_several_types(whole.vmlinux)
    assert len(several) < 50
    assert compare(types, asked, several) > len(names) * 2 // 3
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
