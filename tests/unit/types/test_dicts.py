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


RAGGED = {
    "ptype/o int": "type = int\n",
    "ptype/or struct ragged": "type = struct ragged {\n    struct {\n        int a;\n    };\n"
    "    struct {\n        short b;\n    } words[];\n}\n",
    "ptype/or struct ragged **": """\
type = struct ragged {
/*      0      |      64 */    struct {
/*      0      |       4 */        int a;
/* XXX 60-byte padding   */

                                   /* total size (bytes):   64 */
                               };
/*     64      |       0 */    struct {
/*      0      |       2 */        short b;
                               } words[];

                               /* total size (bytes):   64 */
                             } **
""",
    'printf "%lu", sizeof(struct ragged)': "64",
    'printf "%lu", sizeof(((struct ragged *)0)->words[0])': "8",
}


def test_gdb_16_has_the_places_behind_two_pointers() -> None:
    a, b = (
        {"fname": name, "bitoffset": 0, "basetype": kind, "uint": 0, "codetype": 8,
         "typelength": size}
        for name, kind, size in (("a", "int", 4), ("b", "short int", 2))
    )  # fmt: skip
    assert of_gdb(RAGGED, "struct ragged") == {
        "basetype": "struct ragged", "codetype": 3, "typelength": 64,
        "body": [
            {"fname": "", "bitoffset": 0, "basetype": "struct", "codetype": 3, "typelength": 64,
             "body": [a]},
            {"fname": "words", "bitoffset": 512, "dims": [0], "basetype": "struct", "codetype": 3,
             "typelength": 8, "body": [b]},
        ],
    }  # fmt: skip


OLD = """\
type = struct old {{
    int first;
    struct {{
        int a;
        char b;
    }};
    {behind}
}}
"""


@pytest.mark.parametrize(
    ("behind", "places", "found"),
    [
        ("char c;", {"a": 4, "b": 8, "c": 12}, (4, 8)),
        ("long c;", {"a": 4, "b": 8, "c": 16}, (4, 8)),  # where its alignment puts it
        ("long c;", {"a": 64, "b": 68, "c": 128}, (64, 64)),  # an aligned struct
        ("char c;", {"a": 6, "b": 10, "c": 11}, (6, 5)),  # a packed one in a packed one
    ],
)
def test_an_old_gdb_gives_places_of_members_and_those_the_struct_of_them(
    behind: str, places: dict[str, int], found: tuple[int, int]
) -> None:
    places = {"first": 0, **places}
    root = "$pykdump_ext1"
    values = {root: 0, f"sizeof(*{root})": 256}
    values.update({f"&{root}->{name}": place for name, place in places.items()})

    def run(command: str) -> str | None:
        if command == "ptype/r struct old":
            return OLD.format(behind=behind)
        if command == "ptype/o int":
            return None
        _, _, asked = command.partition('", ')
        return " ".join(str(values.get(each, 0)) for each in asked.split(","))

    types = GdbTypes(run, Memory(lambda: 0, lambda address, size: bytes(size)))
    _, inner, _ = types.type("struct old").members()
    assert (inner.offset // 8, inner.type.size()) == found
    assert [each.offset for each in inner.type.members()] == [0, 32]


def test_an_old_gdb_is_asked_for_what_it_leaves_out() -> None:
    said = {
        "ptype/r struct deep": "type = struct deep {\n    struct {\n        union {...} u;\n"
        "        enum {...} e;\n    } dst;\n}\n",
        "ptype/r $pykdump_ext1->dst.u": "type = union {\n    int a;\n}\n",
        "ptype/r $pykdump_ext1->dst.e": "type = enum {ONE = 1}\n",
    }

    def run(command: str) -> str | None:
        _, _, asked = command.partition('", ')
        return said.get(command, None if command == "ptype/o int" else "0 " * len(asked.split(",")))

    types = GdbTypes(run, Memory(lambda: 0, lambda address, size: bytes(size)))
    found: dict[str, Any] = {}
    describe(types.type("struct deep"), found)
    u, e = found["body"][0]["body"]
    assert [each["fname"] for each in u["body"]] == ["a"]
    assert e["edef"] == [["ONE", 1]]


@pytest.mark.parametrize(
    ("has_places", "behind"),
    [
        # the first of the two is an error of syntax; a ptype evaluates nothing
        ({"ptype/o int": "type = int\n"}, {"ptype/or made(1) **", "ptype/or (&(made(1)))@1"}),
        # __typeof__() takes the type only
        ({}, {"ptype/o int", "set $pykdump_ext1 = (made(1) *)0",
              "set $pykdump_ext1 = (__typeof__(&(made(1))))0"}),
    ],
)  # fmt: skip
def test_gdb_evaluates_no_expression(has_places: dict[str, str], behind: set[str]) -> None:
    printed = "type = struct {\n    int words[];\n}\n"
    said = {
        **has_places,
        "whatis/r made(1)": "type = struct {...}\n",
        f"ptype/{'or' if has_places else 'r'} made(1)": printed,
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
    assert {*asked} - {*said} == behind


@pytest.mark.parametrize(
    "text", ["int : 3", "type = int", "struct made { int a; }", "static int", "int[-1]"]
)
def test_a_declaration_is_no_name_of_a_type(text: str) -> None:
    with pytest.raises(NoType):
        of_gdb(NEW, text)


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
