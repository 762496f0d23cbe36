"""The p2m of every layout: read, listed, compared, diagnosed."""

from __future__ import annotations

import contextlib
import time
from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError
from pykdump_ext.kernel import Kernel, Root
from pykdump_ext.p2m import (
    LAYOUTS as KNOWN,
)
from pykdump_ext.p2m import (
    Diagnosis,
    Kind,
    P2mTable,
    build_list,
    check_direct_map,
    diagnose,
    find_layout,
    kind_of,
    read_list,
    read_table,
    survey,
)
from pykdump_ext.p2m.entries import CODES, kind_codes
from pykdump_ext.p2m.layouts import MAX_PFNS, leaf_count
from pykdump_ext.paging import NOT_MAPPED

from .machine import (
    BANNER,
    DIRECT_MAP,
    FOREIGN_BIT,
    IDENTITY_BIT,
    KERNEL_MAP,
    LAYOUTS,
    NOTHING,
    P2M_AREA,
    PAGE,
    PMD,
    PTE,
    Cell,
    Guest,
    Machine,
    P2m,
    Planted,
    SymbolTable,
    entry_of,
    guest_with,
    random_cells,
)
from .strategies import p2ms

layouts = pytest.mark.parametrize("layout", LAYOUTS)


def kernel_of(guest: Guest) -> Kernel:
    return Kernel(guest.machine.memory(), guest.symbols, Root(guest.root, "here"))


def diagnosed(guest: Guest, *cr3s: int) -> Diagnosis:
    memory = guest.machine.memory()
    return diagnose(memory, guest.symbols, guest.banner, guest.xen_info(*cr3s))


def memory_cells(amount: int = 1, leaves: int = 1) -> dict[int, list[Cell]]:
    """Return leaves with memory, by number."""
    random = Random(amount)
    return {i: random_cells(random, [Kind.MEMORY]) for i in range(leaves)}


def expected_leaves(p2m: P2m, planted: Planted) -> list[int]:
    """Return the mfn of each leaf in the kernel's own p2m."""
    missing = NOTHING if planted.missing is None else planted.missing
    leaves = [planted.leaf(leaf, missing) for leaf in range(p2m.leaf_total)]
    for leaf in p2m.identity:
        assert planted.identity is not None
        leaves[leaf] = planted.identity
    return leaves


# Entries


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (0x1234, Kind.MEMORY),
        (0, Kind.MEMORY),
        (2**52 - 1, Kind.MEMORY),
        (NOTHING, Kind.MISSING),
        (0x1234 | IDENTITY_BIT, Kind.IDENTITY),
        (IDENTITY_BIT, Kind.IDENTITY),
        (0x1234 | FOREIGN_BIT, Kind.FOREIGN),
        (FOREIGN_BIT, Kind.FOREIGN),
        (0x1234 | FOREIGN_BIT | IDENTITY_BIT, Kind.FOREIGN),
    ],
)
def test_the_uppermost_bits_of_an_entry_tell_its_kind(entry: int, kind: Kind) -> None:
    assert kind_of(entry) is kind
    assert kind_codes(entry.to_bytes(8, "little")) == bytes([CODES[kind]])


@given(st.lists(st.sampled_from(Kind), max_size=60), st.integers(0, 2**40))
def test_each_entry_of_a_leaf_has_its_code(kinds: list[Kind], mfn: int) -> None:
    leaf = b"".join(entry_of((k, mfn), i).to_bytes(8, "little") for i, k in enumerate(kinds))
    assert kind_codes(leaf) == bytes(CODES[kind] for kind in kinds)


@pytest.mark.parametrize(
    "entry", [NOTHING - 1, 0xFF << 56, FOREIGN_BIT | IDENTITY_BIT | 0x3F << 56]
)
def test_an_entry_that_only_begins_like_a_missing_one_has_one_code(entry: int) -> None:
    assert kind_codes(entry.to_bytes(8, "little")) == bytes([CODES[kind_of(entry)]])


@pytest.mark.parametrize(
    ("pfns", "leaves"),
    [(1, 1), (511, 1), (512, 1), (513, 2), (1024, 2), (2**32, 2**23), (2**32 + 1, 2**23 + 1)],
)
def test_a_leaf_is_512_pfns(pfns: int, leaves: int) -> None:
    assert leaf_count(pfns) == leaves


# Layouts


@layouts
@settings(max_examples=50)
@given(st.data())
def test_a_p2m_is_read_listed_and_measured_as_it_was_planted(
    layout: str, data: st.DataObject
) -> None:
    p2m = data.draw(p2ms(layout))
    guest = Guest(Machine())
    planted = guest.plant(layout, p2m)
    guest.publish(p2m, planted)
    kernel = kernel_of(guest)

    table = read_table(kernel)
    assert (table.layout, table.max_pfn) == (layout, p2m.max_pfn)
    assert list(table.leaves) == expected_leaves(p2m, planted)

    built = build_list(table)
    for pfn, mfn in p2m.memory().items():
        leaf = built.leaf(pfn // 512)
        assert leaf is not None
        assert guest.machine.get(leaf, pfn % 512) == mfn
    for leaf in range(p2m.leaf_total):
        if leaf not in p2m.own:  # missing, and identity as well
            assert built.leaf(leaf) == planted.missing
    assert built.leaf(p2m.leaf_total) is None

    for frames in (read_list(kernel.memory, guest.list_mfn), built):
        settled, coverage = survey(kernel, table, frames)
        assert settled == table
        assert {kind: coverage.kinds[kind] for kind in Kind} == {k: p2m.count(k) for k in Kind}
        assert coverage.covered == coverage.memory == len(p2m.memory())
        assert coverage.leaves == len(p2m.leaves_with_memory)
        assert (coverage.lost, coverage.leaves_lost, coverage.unreadable) == ([], 0, [])
        assert coverage.complete


@layouts
@pytest.mark.parametrize("max_pfn", [1, 2, 511, 512, 513, 1023, 1024, 1025])
def test_pfns_from_max_pfn_on_do_not_count(layout: str, max_pfn: int) -> None:
    p2m = P2m(max_pfn, memory_cells(leaves=(max_pfn + 511) // 512))
    guest, _ = guest_with(layout, p2m)
    diagnosis = diagnosed(guest)
    assert len(diagnosis.table.leaves) == p2m.leaf_total
    assert diagnosis.coverage.memory == max_pfn
    assert sum(diagnosis.coverage.kinds.values()) == max_pfn
    assert diagnosis.healthy


def test_the_symbols_tell_the_layout() -> None:
    cases = {
        "flat": ["phys_to_machine_mapping"],
        "two-level": ["p2m_top", "p2m_missing"],
        "three-level": ["p2m_top", "p2m_missing", "p2m_mid_missing", "p2m_identity"],
        "linear": ["xen_p2m_addr", "p2m_missing", "p2m_identity"],
    }
    for name, symbols in cases.items():
        assert find_layout(SymbolTable(dict.fromkeys(symbols, 1))).name == name
    assert {layout.name for layout in KNOWN} == set(cases) == set(LAYOUTS)


def test_a_kernel_without_a_p2m_is_told() -> None:
    with pytest.raises(P2mError, match=r"no p2m that is known.*xen_p2m_addr"):
        find_layout(SymbolTable(max_pfn=1, linux_banner=2))


def test_xenlinux_says_end_pfn() -> None:
    guest = Guest(Machine())
    planted = guest.plant("flat", P2m(700, memory_cells(leaves=2)), "end_pfn")
    table = read_table(kernel_of(guest))
    assert table.max_pfn == 700
    assert list(table.leaves) == [planted.leaves[0], planted.leaves[1]]


@pytest.mark.parametrize("max_pfn", [0, MAX_PFNS + 1, 2**64 - 1])
def test_a_max_pfn_that_cannot_be_is_told(max_pfn: int) -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512, memory_cells()))
    vaddr = guest.symbols["max_pfn"]
    guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, max_pfn)
    with pytest.raises(P2mError, match=f"max_pfn is {max_pfn:x}, which cannot be"):
        read_table(kernel_of(guest))


def test_a_flat_p2m_may_be_mapped_by_large_pages() -> None:
    guest = Guest(Machine())
    guest.variable("max_pfn", 1000 * 512)
    guest.variable("phys_to_machine_mapping", P2M_AREA)
    for i in range(2):
        guest.space.map(P2M_AREA + i * 2**21, 0x80000 - i * 0x200, PMD)
    table = read_table(kernel_of(guest))
    assert list(table.leaves) == [*range(0x80000, 0x80200), *range(0x7FE00, 0x7FFE8)]
    assert not any(table.shared(mfn) for mfn in table.leaves)


def test_leaves_of_a_linear_p2m_that_are_not_mapped_are_missing() -> None:
    p2m = P2m(2000 * 512, memory_cells())
    guest, planted = guest_with("linear", p2m)
    guest.space.set(P2M_AREA + 3 * PAGE, 3, 0)
    guest.space.set(P2M_AREA + 2**21, PMD, 0)
    diagnosis = diagnosed(guest)
    assert list(diagnosis.table.leaves) == [planted.leaves[0], *[planted.missing] * 1999]
    assert diagnosis.coverage.kinds[Kind.MISSING] == 1999 * 512
    assert diagnosis.healthy


def test_leaves_that_nothing_stands_for_are_missing() -> None:
    p2m = P2m(600 * 512, memory_cells())
    guest, planted = guest_with("linear", p2m)
    del guest.symbols["p2m_missing"], guest.symbols["p2m_identity"]
    guest.space.set(P2M_AREA + PAGE, 3, 0)
    table = read_table(kernel_of(guest))
    assert (table.missing_mfn, table.identity_mfn) == (NOT_MAPPED, None)
    assert table.leaves[1] == NOT_MAPPED
    assert table.shared(NOT_MAPPED)
    assert build_list(table).leaf(1) is None
    assert build_list(table).leaf(0) == planted.leaves[0]


@pytest.mark.parametrize("layout", ["two-level", "linear"])
def test_leaves_past_512_gigabytes_are_in_the_built_list_only(layout: str) -> None:
    leaf = 2**18 + 3
    guest, planted = guest_with(layout, P2m((leaf + 1) * 512, {leaf: memory_cells()[0]}))
    diagnosis = diagnosed(guest)
    assert diagnosis.rebuilt.leaf(leaf) == planted.leaves[leaf]
    assert diagnosis.coverage.lost == [(leaf * 512, leaf * 512 + 511)]


def test_three_levels_hold_512_gigabytes() -> None:
    own = {i: memory_cells(i)[0] for i in (0, 511, 512, 2**18 - 1)}
    guest, planted = guest_with("three-level", P2m(2**27, own))
    diagnosis = diagnosed(guest)
    assert {i: diagnosis.rebuilt.leaf(i) for i in own} == planted.leaves
    assert diagnosis.coverage.memory == diagnosis.coverage.covered == 4 * 512


def test_sixteen_terabytes_take_seconds() -> None:
    own = {i: memory_cells(i)[0] for i in (0, 2**18, 2**23 - 1)}
    p2m = P2m(2**32, own, frozenset(range(1024, 2048)))
    guest = Guest(Machine())
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted)
    kernel = kernel_of(guest)
    start = time.process_time()
    table = read_table(kernel)
    built = build_list(table)
    rebuilt_in = time.process_time() - start
    _, coverage = survey(kernel, table, built)
    assert len(table.leaves) == 2**23
    assert {i: built.leaf(i) for i in own} == planted.leaves
    assert built.leaf(1500) == built.leaf(5000) == planted.missing
    assert coverage.memory == coverage.covered == 3 * 512
    assert coverage.kinds[Kind.IDENTITY] == 2**19
    assert sum(coverage.kinds.values()) == 2**32
    assert rebuilt_in < 10


# The direct map as a witness


@layouts
def test_a_direct_map_that_agrees_passes(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(5 * 512, memory_cells(leaves=5)))
    check = diagnosed(guest).check
    assert (check.agree, check.disagree, check.passed) == (5, 0, True)


def test_a_direct_map_that_leads_elsewhere_does_not_pass() -> None:
    guest, _ = guest_with("linear", P2m(5 * 512, memory_cells(leaves=5)))
    guest.space.map(DIRECT_MAP + 1024 * PAGE, 0x99999)
    check = diagnosed(guest).check
    assert (check.agree, check.disagree, check.passed) == (4, 1, False)


def test_one_in_a_hundred_may_disagree() -> None:
    p2m = P2m(200 * 512, {i: [(Kind.MEMORY, 2**20 + i)] * 512 for i in range(200)})
    guest = Guest(Machine())
    guest.plant("linear", p2m)
    guest.direct_map({leaf * 512: 2**20 + leaf for leaf in range(200)})
    for wrong, passed in ((0, True), (1, True), (2, True), (3, False)):
        if wrong:
            guest.space.map(DIRECT_MAP + wrong * 512 * PAGE, 0x99999)
        kernel = kernel_of(guest)
        check = check_direct_map(kernel, read_table(kernel))
        assert (check.disagree, check.passed) == (wrong, passed)


def test_the_first_memory_of_a_leaf_is_compared() -> None:
    own = memory_cells()
    own[0][:77] = [(Kind.MISSING, 0)] * 77
    guest, _ = guest_with("linear", P2m(512, own))
    assert diagnosed(guest).check.agree == 1
    guest.space.map(DIRECT_MAP + 77 * PAGE, 0x99999)
    assert diagnosed(guest).check.disagree == 1


def test_memory_without_a_direct_map_is_not_compared() -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512 * 3, memory_cells(leaves=3)))
    guest.direct_map({512: memory_cells(leaves=3)[1][0][1]})
    kernel = kernel_of(guest)
    check = check_direct_map(kernel, read_table(kernel))
    assert (check.agree, check.disagree, check.passed) == (1, 0, True)


def test_nothing_compared_is_no_pass() -> None:
    guest = Guest(Machine())
    guest.plant("linear", P2m(512, memory_cells()))
    guest.direct_map({})
    kernel = kernel_of(guest)
    assert not check_direct_map(kernel, read_table(kernel)).passed


@pytest.mark.parametrize(
    ("leaves", "samples"),
    [
        (40, 4),
        (40, 40),
        (40, 1),
        (40, 21),
    ],
)
def test_no_more_than_the_samples_asked_for_are_compared(leaves: int, samples: int) -> None:
    guest, _ = guest_with("linear", P2m(leaves * 512, memory_cells(leaves=leaves)))
    kernel = kernel_of(guest)
    check = check_direct_map(kernel, read_table(kernel), samples)
    assert 1 <= check.agree <= samples


# Diagnosis


@layouts
@settings(max_examples=25)
@given(st.data())
def test_a_diagnosis_knows_every_pfn(layout: str, data: st.DataObject) -> None:
    p2m = data.draw(p2ms(layout))
    cut = data.draw(st.sampled_from([0, p2m.leaf_total // 2, p2m.leaf_total]))
    guest, _ = guest_with(layout, p2m, cut)
    diagnosis = diagnosed(guest)
    memory = p2m.memory()
    assert diagnosis.table.layout == layout
    assert diagnosis.kernel.root == Root(guest.root, "cr3, cpu 0")
    assert diagnosis.coverage.memory == len(memory)
    assert diagnosis.coverage.covered == sum(1 for pfn in memory if pfn < cut * 512)
    assert diagnosis.healthy == all(pfn < cut * 512 for pfn in memory)
    assert diagnosis.check.disagree == 0
    assert diagnosis.check.passed == bool(diagnosis.check.agree)
    asked = [
        *(leaf * 512 + i for leaf in p2m.own for i in (0, 1, 77, 511)),
        *(leaf * 512 + 5 for leaf in p2m.identity),
        *data.draw(st.lists(st.integers(0, p2m.max_pfn - 1), max_size=20)),
        p2m.max_pfn - 1,
    ]
    for pfn in [pfn for pfn in asked if pfn < p2m.max_pfn]:
        kind, mfn = p2m.cell(pfn)
        assert diagnosis.kind(pfn) is kind
        shared = pfn // 512 not in p2m.own
        expected = NOTHING if shared else entry_of((kind, mfn), pfn)
        assert diagnosis.entry(diagnosis.rebuilt, pfn) == expected
        published = diagnosis.entry(diagnosis.published, pfn)
        if pfn < cut * 512:
            assert published == expected
        else:
            assert published in (None, NOTHING)


@layouts
def test_the_pfns_of_a_frame_are_all_those_that_have_it(layout: str) -> None:
    own = memory_cells(leaves=3)
    own[0][0] = own[1][511] = own[2][17] = own[2][400] = (Kind.MEMORY, 0x1_2345_6789)
    own[1][5] = (Kind.FOREIGN, 0x1_2345_6789)
    own[1][6] = (Kind.IDENTITY, 0)
    guest, _ = guest_with(layout, P2m(2 * 512 + 400, own))
    diagnosis = diagnosed(guest)
    assert list(diagnosis.pfns_of(0x1_2345_6789)) == [0, 1023, 1041]
    assert list(diagnosis.pfns_of(0x7_7777_7777_7777)) == []
    assert list(diagnosis.pfns_of(own[1][9][1])) == [521]


def test_the_bytes_of_a_frame_number_across_two_entries_are_no_pfn() -> None:
    own = memory_cells()
    own[0][10], own[0][11], own[0][12] = [(Kind.MEMORY, mfn) for mfn in (0x100, 0x200, 1)]
    guest, _ = guest_with("linear", P2m(512, own))
    assert list(diagnosed(guest).pfns_of(1)) == [12]


@layouts
def test_a_list_that_ends_early_is_not_healthy(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(3 * 512, memory_cells(leaves=3)), 2)
    diagnosis = diagnosed(guest)
    assert not diagnosis.healthy
    assert diagnosis.coverage.lost == [(1024, 1535)]
    assert survey(diagnosis.kernel, diagnosis.table, diagnosis.rebuilt)[1].complete


@layouts
def test_the_root_is_found_among_the_cr3s_of_all_cpus(layout: str) -> None:
    guest, _ = guest_with(layout, P2m(512, memory_cells()))
    other = Guest(guest.machine, b"Linux version 2\n")
    diagnosis = diagnosed(guest, 0xDEAD000, other.root, guest.root, 0xBEEF000)
    assert diagnosis.kernel.root == Root(guest.root, "cr3, cpu 2")
    assert diagnosis.healthy


@pytest.mark.parametrize("symbol", ["init_top_pgt", "init_level4_pgt"])
def test_the_kernels_own_top_table_is_found_through_the_list(symbol: str) -> None:
    guest = Guest(Machine())
    own = memory_cells(leaves=9)
    pfn = 8 * 512 + 100
    own[8][100] = (Kind.MEMORY, guest.space.root)
    p2m = P2m(9 * 512, own)
    guest.symbols[symbol] = KERNEL_MAP + pfn * PAGE
    guest.publish(p2m, guest.plant("linear", p2m))
    guest.direct_map(p2m.memory())
    assert diagnosed(guest, 0xDEAD000).kernel.root == Root(guest.root, symbol)


@pytest.mark.parametrize("damage", ["missing", "foreign", "unlisted", "low", "leaf gone"])
def test_a_top_table_that_the_list_does_not_lead_to_is_no_candidate(damage: str) -> None:
    guest = Guest(Machine())
    own = memory_cells(leaves=9)
    cells: dict[str, Cell] = {
        "missing": (Kind.MISSING, 0),
        "foreign": (Kind.FOREIGN, guest.space.root),
    }
    own[8][100] = cells.get(damage, (Kind.MEMORY, guest.space.root))
    p2m = P2m(9 * 512, own)
    base = 0 if damage == "low" else KERNEL_MAP
    guest.symbols["init_top_pgt"] = base + (8 * 512 + 100) * PAGE
    planted = guest.plant("linear", p2m)
    guest.publish(p2m, planted, 8 if damage == "unlisted" else 9)
    if damage == "leaf gone":
        del guest.machine.pages[planted.leaves[8]]
    if damage == "unlisted":
        guest.machine.pages[planted.missing or 0][:] = bytes(b"\xff" * PAGE)
    with pytest.raises(P2mError, match=r"no page-table root.*dead000") as caught:
        diagnosed(guest, 0xDEAD000)
    assert "init_top_pgt" not in str(caught.value)


def test_a_diagnosis_needs_a_root() -> None:
    guest, _ = guest_with("linear", P2m(512, memory_cells()))
    with pytest.raises(P2mError, match="another kernel"):
        diagnose(guest.machine.memory(), guest.symbols, BANNER[:-2] + b"?\n", guest.xen_info())


@layouts
def test_a_p2m_without_memory_is_told_as_damage(layout: str) -> None:
    own = {0: random_cells(Random(1), [Kind.FOREIGN, Kind.IDENTITY, Kind.MISSING])}
    guest, _ = guest_with(layout, P2m(512, own))
    with pytest.raises(P2mError, match="no memory in it"):
        diagnosed(guest)


@layouts
def test_a_p2m_of_shared_leaves_alone_is_told_as_damage(layout: str) -> None:
    if layout == "flat":
        guest, planted = guest_with(layout, P2m(512, memory_cells()))
        guest.space.set(P2M_AREA, PTE, 0)
    else:
        guest, planted = guest_with(layout, P2m(1024))
    with pytest.raises(P2mError, match="no memory in it"):
        diagnosed(guest)
    assert planted.missing is None or not planted.leaves


@layouts
def test_a_dump_without_any_leaf_of_the_p2m_is_not_healthy(layout: str) -> None:
    guest, planted = guest_with(layout, P2m(1024, memory_cells(leaves=2)))
    for mfn in planted.leaves.values():
        del guest.machine.pages[mfn]
    with contextlib.suppress(P2mError):
        assert not diagnosed(guest).healthy


def test_a_pfn_past_the_p2m_is_missing() -> None:
    guest, _ = guest_with("linear", P2m(512, memory_cells()))
    diagnosis = diagnosed(guest)
    assert diagnosis.kind(512) is Kind.MISSING
    assert diagnosis.kind(2**40) is Kind.MISSING
    assert diagnosis.entry(diagnosis.rebuilt, 2**40) is None


def test_leaves_that_are_not_mapped_are_shared_whatever_is_missing() -> None:
    for missing, identity in ((5, 6), (5, None), (NOT_MAPPED, None), (NOT_MAPPED, 6)):
        table = P2mTable("linear", 512, array("Q", [NOT_MAPPED]), missing, identity)
        assert table.shared(NOT_MAPPED)
        assert table.shared(missing)
        assert table.shared(6) == (identity == 6)
        assert not table.shared(7)
