# SPDX-License-Identifier: GPL-3.0-or-later
"""C types as text: what gdb prints, and what users type."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.types.text import Array, Function, Pointer, Spec, Written, leaf, parse

INT, CHAR = (Spec("", name, basic=True) for name in ("int", "char"))
PAGE = Pointer(Spec("struct", "page"))
VALUES = [("A", 0), ("B", 5), ("C", 6), ("D", -1)]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("int", INT),
        ("type = int\n", INT),
        ("long unsigned int", Spec("", "long unsigned int", basic=True)),
        ("const volatile int * const", Pointer(INT)),
        ("struct list_head", Spec("struct", "list_head")),
        ("struct list_head *", Pointer(Spec("struct", "list_head"))),
        ("pid_t", Spec("", "pid_t")),
        ("char[16]", Array(16, CHAR)),
        ("int [2][3]", Array(2, Array(3, INT))),
        ("int *[]", Array(0, Pointer(INT))),
        ("int (*)[3]", Pointer(Array(3, INT))),
        ("int (void)", Function(INT)),
        ("int (const char *, ...)", Function(INT, [Pointer(CHAR)])),
        ("int (*(*)(int))(void)", Pointer(Function(Pointer(Function(INT)), [INT]))),
        ("int (*[4])(struct page *)", Array(4, Pointer(Function(INT, [PAGE])))),
        ("enum {A, B = 5, C, D = -1}", Spec("enum", None, values=VALUES)),
        ("enum big : unsigned long {A = 4294967296}", Spec("enum", "big", values=[("A", 1 << 32)])),
        ("struct far {\n    <incomplete type>\n}", Spec("struct", "far")),
        ("struct empty {\n    <no data fields>\n}", Spec("struct", "empty", members=[])),
        ("struct {...} *", Pointer(Spec("struct", None))),
    ],
)  # fmt: skip
def test_a_type_is_read(text: str, written: Written) -> None:
    assert parse(text) == written


@pytest.mark.parametrize(
    "text",
    ["", "1+2", "&init_task", "init_task.comm", "struct", "struct {", "int x", "int int int", "a b",
     "unsigned signed", "(((", "int (", "int [", "int [x]", "struct x {", "enum e {A", "*", "...",
     "<data variable, no debug info>", "struct x { int a", "int)", "int (*"],
)  # fmt: skip
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_declaration_has_a_name() -> None:
    assert parse("static pg_data_t *node_data[1024]", "node_data") == Array(
        1024, Pointer(Spec("", "pg_data_t"))
    )
    with pytest.raises(ValueError):
        parse("int other", "node_data")


WITH_PLACES = """\
/* offset    |  size */  type = struct made {
/*    0      |     4 */    unsigned int flags : 3;
/*    0: 3   |     4 */    enum kind kind : 5;
/* XXX  3-byte hole  */
/*    8      |    16 */    union {
/*                16 */        struct list_head {
/*    8      |     8 */            struct list_head *next;
/*   16      |     8 */            struct list_head *prev;

                                   /* total size (bytes):   16 */
                               } list;
/*                 4 */        u32 words[];

                               /* total size (bytes):   16 */
                           };
/*   24      |    24 */    struct {
/*    0      |     8 */        void (*call)(struct made *, int);

                               /* total size (bytes):    8 */
                           } calls[3];

                           /* total size (bytes):   48 */
                         }
"""


def test_the_places_of_members_are_read() -> None:
    made = parse(WITH_PLACES)
    assert isinstance(made, Spec) and made.size == 48 and made.members
    flags, kind, union, calls = made.members
    assert (flags.offset, flags.size, flags.bits) == (0, 4, 3)
    assert (kind.name, kind.offset, kind.bits) == ("kind", 3, 5)
    assert (union.name, union.offset, union.size, leaf(union.type).size) == ("", 64, 16, 16)
    inner, each = leaf(union.type).members, leaf(calls.type).members
    assert inner and each
    listed, words = inner
    assert (listed.name, listed.offset, listed.size) == ("list", None, 16)
    assert words.type == Array(0, Spec("", "u32"))
    assert (calls.offset, calls.size, leaf(calls.type).size) == (192, 24, 8)
    (call,) = each
    void, made = Spec("", "void", basic=True), Spec("struct", "made")
    assert call.type == Pointer(Function(void, [Pointer(made), INT]))


def shown(written: Written, inner: str = "") -> str:
    """Return a type as C has it."""
    if isinstance(written, Spec):
        return f"{written.word} {written.name} {inner}".strip()
    if isinstance(written, Pointer):
        boxed = isinstance(written.target, (Array, Function))
        return shown(written.target, f"(*{inner})" if boxed else f"*{inner}")
    if isinstance(written, Array):
        return shown(written.target, f"{inner}[{written.count or ''}]")
    parameters = ", ".join(map(shown, written.parameters)) or "void"
    return shown(written.result, f"{inner}({parameters})")


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    no_function = inner.filter(lambda written: not isinstance(written, Function))
    no_array = no_function.filter(lambda written: not isinstance(written, Array))
    return st.one_of(
        st.builds(Pointer, inner),
        st.builds(Array, st.integers(0, 9), no_function),
        st.builds(Function, no_array, st.lists(no_function, max_size=3)),
    )


LEAVES = st.sampled_from([("struct", "page"), ("", "pid_t"), ("union", "u"), ("enum", "e")])


@given(st.recursive(LEAVES.map(lambda words: Spec(*words)), larger, max_leaves=8))
def test_every_type_is_read_as_it_is_written(written: Written) -> None:
    assert parse(shown(written)) == written
