"""Damage of every sort: it ends soon, with an answer or with a sentence."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.p2m import Kind, diagnose, read_list, survey

from .machine import (
    FLAGS,
    FOREIGN_BIT,
    IDENTITY_BIT,
    KERNEL_DATA,
    LARGE,
    LAYOUTS,
    NOTHING,
    P2M_AREA,
    PAGE,
    WORDS,
    Guest,
    P2m,
    Planted,
    guest_with,
    random_cells,
)

layouts = pytest.mark.parametrize("layout", LAYOUTS)


def small_guest(layout: str, seed: int) -> tuple[Guest, Planted]:
    random = Random(seed)
    total = 4 if layout == "flat" else 700
    own = {i: random_cells(random) for i in (range(4) if layout == "flat" else (0, 1, 511, 699))}
    own[0][0] = (Kind.MEMORY, random.randrange(2**20, 2**30))
    identity = frozenset({2, 600}) if layout in ("three-level", "linear") else frozenset()
    return guest_with(layout, P2m(total * 512 - 5, own, identity), random.choice([None, 1]))


def look_at_everything(guest: Guest) -> None:
    """Do all there is to do with a dump; any answer is right, or a P2mError."""
    memory = guest.machine.memory()
    try:
        diagnosis = diagnose(memory, guest.symbols, guest.banner, guest.xen_info())
        for pfn in (0, 1, 512, 1024, 2555, 700 * 512 - 6, 2**40):
            diagnosis.kind(pfn)
            diagnosis.entry(diagnosis.published, pfn)
        list(diagnosis.pfns_of(0x123))
        _, again = survey(diagnosis.kernel, diagnosis.table, diagnosis.rebuilt)
        assert again.covered <= again.memory
        assert diagnosis.coverage.covered <= diagnosis.coverage.memory
    except P2mError as error:
        assert str(error)


def bad_word(random: Random, guest: Guest) -> int:
    """Return a word such as turn up where they should not be."""
    some_frame = random.choice(list(guest.machine.pages))
    return random.choice(
        [
            0,
            1,
            NOTHING,
            some_frame,
            some_frame * PAGE | FLAGS,
            some_frame * PAGE | FLAGS | LARGE,
            some_frame | FOREIGN_BIT,
            some_frame | IDENTITY_BIT,
            KERNEL_DATA + random.randrange(100) * PAGE,
            P2M_AREA + random.randrange(2**22),
            random.randrange(2**16),
            2**63 + random.randrange(2**63),
        ]
    )


def used_words(guest: Guest, mfn: int) -> list[int]:
    """Return the indices of words of a frame that are not zero, and one that is."""
    return [i for i in range(WORDS) if guest.machine.get(mfn, i)] + [WORDS - 2]


@layouts
@settings(deadline=20000, max_examples=120)
@given(seed=st.integers(0, 2**32), words=st.integers(1, 40), where=st.sampled_from(
    ["tables", "list", "leaves", "directories", "everything"]))  # fmt: skip
def test_overwritten_words_give_an_answer_or_a_sentence(
    layout: str, seed: int, words: int, where: str
) -> None:
    random = Random(seed)
    guest, planted = small_guest(layout, seed % 7)
    frames = {
        "tables": guest.space.tables,
        "list": [guest.list_mfn, *(guest.machine.get(guest.list_mfn, i) for i in range(3))],
        "leaves": list(planted.leaves.values()),
        "directories": planted.frames,
        "everything": list(guest.machine.pages),
    }[where]
    for _ in range(words):
        mfn = random.choice(frames or guest.space.tables)
        if mfn in guest.machine.pages:
            guest.machine.put(mfn, random.choice(used_words(guest, mfn)), bad_word(random, guest))
    look_at_everything(guest)


@layouts
@settings(deadline=20000, max_examples=60)
@given(seed=st.integers(0, 2**32), gone=st.integers(1, 6))
def test_frames_that_are_not_in_the_dump_give_an_answer_or_a_sentence(
    layout: str, seed: int, gone: int
) -> None:
    guest, _ = small_guest(layout, seed % 7)
    for mfn in Random(seed).sample(sorted(guest.machine.pages), gone):
        del guest.machine.pages[mfn]
    look_at_everything(guest)


@layouts
def test_each_frame_in_turn_may_be_gone(layout: str) -> None:
    guest, _ = small_guest(layout, 3)
    frames = dict(guest.machine.pages)
    step = max(1, len(frames) // 60)
    for mfn in sorted(frames)[::step]:
        guest.machine.pages = {m: page for m, page in frames.items() if m != mfn}
        look_at_everything(guest)


@layouts
@settings(deadline=20000, max_examples=30)
@given(seed=st.integers(0, 2**32), table=st.integers(0, 40))
def test_a_table_in_a_circle_gives_an_answer_or_a_sentence(
    layout: str, seed: int, table: int
) -> None:
    random = Random(seed)
    guest, _ = small_guest(layout, seed % 7)
    tables = guest.space.tables
    back = random.choice(tables)
    mfn = tables[table % len(tables)]
    for index in used_words(guest, mfn):
        if mfn != guest.space.root or random.random() < 0.3:
            guest.machine.put(mfn, index, back * PAGE | FLAGS)
    look_at_everything(guest)


@pytest.mark.parametrize(
    ("layout", "pointer"),
    [
        ("flat", "phys_to_machine_mapping"),
        ("three-level", "p2m_top"),
        ("three-level", "p2m_missing"),
        ("three-level", "p2m_identity"),
        ("linear", "p2m_missing"),
        ("linear", "p2m_identity"),
        ("linear", "xen_p2m_addr"),
    ],
)
@pytest.mark.parametrize("value", [0, 0x1234, NOTHING, P2M_AREA + 2**40, KERNEL_DATA - 2**30])
def test_a_pointer_that_leads_nowhere_is_a_sentence(layout: str, pointer: str, value: int) -> None:
    guest, _ = small_guest(layout, 1)
    vaddr = guest.symbols[pointer]
    guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, value)
    with pytest.raises(P2mError):
        diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.xen_info())


@pytest.mark.parametrize("layout", ["two-level", "three-level"])
def test_a_directory_that_leads_nowhere_names_the_address(layout: str) -> None:
    guest, planted = small_guest(layout, 1)
    directory = planted.frames[0 if layout == "two-level" else 1]
    guest.machine.put(directory, 5, 0xFFFFC10012345000)
    with pytest.raises(ReadError) as caught:
        diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.xen_info())
    assert caught.value.address == 0xFFFFC10012345000
    assert caught.value.what == "p2m leaf"


@settings(deadline=20000, max_examples=100)
@given(seed=st.integers(0, 2**32), mfn=st.one_of(st.just(NOTHING), st.integers(0, 2**64 - 1)))
def test_any_frame_at_all_is_read_as_a_list(seed: int, mfn: int) -> None:
    guest, _ = small_guest("linear", seed % 7)
    frames = sorted(guest.machine.pages)
    memory = guest.machine.memory()
    for start in (mfn, frames[mfn % len(frames)]):
        published = read_list(memory, start)
        assert len(published.problems) <= 513
        assert published.leaf(2**18) is None
