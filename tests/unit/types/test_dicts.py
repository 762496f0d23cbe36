# SPDX-License-Identifier: GPL-3.0-or-later
"""The dicts of types, from what a gdb prints."""

from __future__ import annotations

from typing import Any

import pytest

from pykdump_ext.types.by_gdb import GdbTypes, NoType
from pykdump_ext.types.model import base_type, describe
from pykdump_ext.types.places import Memory

NEW = {
    "ptype/o int": "type = int\n",
    "ptype/or struct made": """\
/* offset    |  size */  type = struct made {
/*    0: 0   |     4 */    unsigned int flags : 3;
/*    0: 3   |     4 */    enum kind kind : 5;
/*    8      |    16 */    union {
/*                16 */        struct list_head {
/*    8      |     8 */            struct list_head *next;
/*   16      |     8 */            struct list_head *prev;

                                   /* total size (bytes):   16 */
                               } list;
/*                 0 */        u32 words[];

                               /* total size (bytes):   16 */
                           };
/*   24      |    24 */    struct {
/*    0      |     8 */        void (*call)(struct made *, u32);

                               /* total size (bytes):    8 */
                           } calls[3];

                           /* total size (bytes):   48 */
                         }
""",
    "ptype/or enum kind": "type = enum kind {ONE = 1, TWO, LOW = -1}\n",
    "whatis/r (u32 *)0": "type = u32 *\n",
    "whatis/r u32": "type = unsigned int\n",
    "whatis/r (made_t *)0": "type = made_t *\n",
    "whatis/r made_t": "type = struct made\n",
    "whatis/r (pair_t *)0": "type = pair_t *\n",
    "whatis/r pair_t": "type = int [2]\n",
    "whatis/r all": "type = struct made *[2][4]\n",
    "whatis/r one": "type = struct made\n",
    'printf "%lu", sizeof(one)': "48",
    'printf "%lu", sizeof(struct made)': "48",
    'printf "%lu", sizeof(enum kind)': "4",
    "whatis/r twice": "type = u32 []\n",
    "info variables ^twice$": "File a.c:\n9:\tu32 twice[];\n\nFile b.c:\n7:\tu32 twice[5];\n",
    "whatis/r undefined": "type = <data variable, no debug info>\n",
    "whatis/r _Complex float": "type = complex\n",
    "whatis/r (complex *)0": "type = complex *\n",
    "whatis/r complex": "type = complex\n",
}
U32 = {"typedef": "u32", "basetype": "unsigned int", "uint": 1, "codetype": 8, "typelength": 4}
KIND = {
    "basetype": "enum kind", "codetype": 5, "typelength": 4,
    "edef": [["ONE", 1], ["TWO", 2], ["LOW", -1]],
}  # fmt: skip
TO_MADE = {
    "basetype": "struct made", "stars": 1, "ptrbasetype": 3, "codetype": 1, "typelength": 8,
}  # fmt: skip
CALL = {
    "basetype": "(func)", "stars": 1, "ptrbasetype": 7, "codetype": 1, "typelength": 8,
    "prototype": [
        {"fname": "returntype", "basetype": "void", "codetype": 10, "typelength": 1},
        {"fname": "arg0", **TO_MADE},
        {"fname": "arg1", **U32},
    ],
}  # fmt: skip
MADE = {
    "basetype": "struct made", "codetype": 3, "typelength": 48,
    "body": [
        {"fname": "flags", "bitoffset": 0, "bitsize": 3, "basetype": "unsigned int", "uint": 1,
         "codetype": 8, "typelength": 4},
        {"fname": "kind", "bitoffset": 3, "bitsize": 5, **KIND},
        {"fname": "", "bitoffset": 64, "basetype": "union", "codetype": 4, "typelength": 16,
         "body": [
            {"fname": "list", "bitoffset": 0, "basetype": "struct list_head", "codetype": 3,
             "typelength": 16},
            {"fname": "words", "bitoffset": 0, "dims": [0], **U32}]},
        {"fname": "calls", "bitoffset": 192, "dims": [3], "basetype": "struct", "codetype": 3,
         "typelength": 8, "body": [{"fname": "call", "bitoffset": 0, **CALL}]},
    ],
}  # fmt: skip


def of_gdb(printed: dict[str, str], text: str, **item: Any) -> dict[str, Any]:
    memory = Memory(lambda: 0, lambda address, size: bytes(size))
    describe(GdbTypes(printed.get, memory).type(text), item)
    return item


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("struct made", MADE),
        ("made_t", {"typedef": "made_t", **MADE}),
        ("struct made *", TO_MADE),
        ("struct made[2]", {**MADE, "dims": [2]}),
        ("enum kind", KIND),
        ("u32 **", {**U32, "stars": 2, "ptrbasetype": 8, "codetype": 1, "typelength": 8}),
        # of a typedef that is an array, all of it is meant
        ("pair_t", {"typedef": "pair_t", "dims": [2], "basetype": "int", "uint": 0, "codetype": 2,
                    "typelength": 8}),
        ("unsigned long", {"basetype": "unsigned long", "uint": 1, "codetype": 8, "typelength": 8}),
        ("void *", {"basetype": "void", "stars": 1, "ptrbasetype": 10, "codetype": 1,
                    "typelength": 8}),
        ("all", {**TO_MADE, "dims": [2, 4]}),
        ("twice", {**U32, "dims": [5]}),
        ("_Bool", {"basetype": "_Bool", "codetype": 21, "typelength": 1}),
    ],
)  # fmt: skip
def test_a_type_is_a_dict(text: str, found: dict[str, Any]) -> None:
    assert of_gdb(NEW, text) == found


def test_a_struct_is_not_expanded_where_it_has_a_name() -> None:
    found = of_gdb(NEW, "one", fname="one")
    assert found == {"fname": "one", "basetype": "struct made", "codetype": 3, "typelength": 48}


@pytest.mark.parametrize(
    "text",
    ["struct other", "other", "other *", "enum other", "undefined", "_Complex float"],
)
def test_what_gdb_does_not_know_is_no_type(text: str) -> None:
    with pytest.raises(NoType):
        of_gdb(NEW, text)


def test_gdb_evaluates_no_expression() -> None:
    said = {
        "ptype/o int": "type = int\n",
        "whatis/r made(1)": "type = struct {...}\n",
        "ptype/or made(1)": "type = struct {\n    int words[];\n}\n",
        'printf "%lu", sizeof(made(1))': "0",
    }
    asked: list[str] = []

    def run(command: str) -> str | None:
        asked.append(command)
        return said.get(command)

    with pytest.raises(NoType):
        describe(
            GdbTypes(run, Memory(lambda: 0, lambda address, size: bytes(size))).type("made(1)"), {}
        )
    # the first of the two is an error of syntax, and __typeof__() takes the type only
    assert {*asked} - {*said} == {
        "set $pykdump_ext1 = (made(1) *)0", "set $pykdump_ext1 = (__typeof__(&(made(1))))0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "gccs", "gdbs"),
    [
        ("unsigned long", "long unsigned int", "unsigned long"),
        ("long int", "long int", "long"),
        ("short", "short int", "short"),
        ("unsigned", "unsigned int", "unsigned int"),
        ("signed char", "signed char", "signed char"),
        ("long long unsigned int", "long long unsigned int", "unsigned long long"),
        ("__int128 unsigned", "__int128 unsigned", "unsigned __int128"),
    ],
)
def test_integers_are_spelled_as_gdb_does(words: str, gccs: str, gdbs: str) -> None:
    own, typed = base_type(words.split()), base_type(words.split(), typed=True)
    assert own and typed and (own.name, typed.name) == (gccs, gdbs)
