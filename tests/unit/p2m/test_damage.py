# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage of every sort: it ends soon, with an answer or with a sentence."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.errors import P2mError, ReadError
from pykdump_ext.p2m.diagnosis import Diagnosis, diagnose
from pykdump_ext.p2m.framelist import read_list

from ..made_up.damage import (
    KINDS_OF_GUESTS,
    PARTS,
    STROKE,
    Target,
    frames_of,
    look_at_everything,
    small_guest,
)
from ..made_up.guest import Guest
from ..made_up.machine import FLAGS, KERNEL_DATA, LAYOUTS, NOTHING, P2M_AREA, PAGE, WORDS
from ..made_up.strategies import times

layouts = pytest.mark.parametrize("layout", LAYOUTS)
guests = pytest.mark.parametrize("layout", KINDS_OF_GUESTS)


def used_words(guest: Guest, mfn: int) -> list[int]:
    """Return the indices of words of a frame that are not zero, and one that is."""
    return [i for i in range(WORDS) if guest.machine.get(mfn, i)] + [WORDS - 2]


@guests
@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=times(1.5))
@given(early=st.integers(0, 6), seed=st.integers(0, 2**32), strokes=st.integers(1, 40))
def test_any_damage_gives_an_answer_or_a_sentence(
    layout: str, part: str, early: int, seed: int, strokes: int
) -> None:
    guest, planted = small_guest(layout, early)
    target = Target.of(guest, frames_of(guest, planted, part))
    look_at_everything(guest, target.damaged(Random(seed).randbytes(STROKE.size * strokes)))


@cache
def sound_diagnosis(layout: str, early: int) -> Diagnosis:
    guest, _ = small_guest(layout, early)
    return diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())


@layouts
@settings(max_examples=times(2))
@given(early=st.integers(0, 6), seed=st.integers(0, 2**32), strokes=st.integers(1, 40))
def test_the_rebuilt_list_is_the_same_whatever_has_become_of_the_dumps(
    layout: str, early: int, seed: int, strokes: int
) -> None:
    guest, planted = small_guest(layout, early)
    sound = sound_diagnosis(layout, early)
    target = Target.of(guest, frames_of(guest, planted, "list"))
    memory = target.damaged(Random(seed).randbytes(STROKE.size * strokes))
    found = diagnose(memory, guest.symbols, guest.banner, guest.hints())
    assert found.rebuilt == sound.rebuilt
    assert found.coverage.kinds == sound.coverage.kinds
    assert found.check == sound.check


@guests
@settings(max_examples=times(1.5))
@given(seed=st.integers(0, 2**32), gone=st.integers(1, 6))
def test_frames_that_are_not_in_the_dump_give_an_answer_or_a_sentence(
    layout: str, seed: int, gone: int
) -> None:
    guest, _ = small_guest(layout, seed % 7)
    for mfn in Random(seed).sample(sorted(guest.machine.pages), gone):
        del guest.machine.pages[mfn]
    look_at_everything(guest, guest.machine.memory())


@guests
def test_each_frame_in_turn_may_be_gone(layout: str) -> None:
    guest, _ = small_guest(layout, 3)
    frames = dict(guest.machine.pages)
    step = max(1, len(frames) // 60)
    for mfn in sorted(frames)[::step]:
        guest.machine.pages = {m: page for m, page in frames.items() if m != mfn}
        look_at_everything(guest, guest.machine.memory())


@guests
@settings(max_examples=times(1))
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
    look_at_everything(guest, guest.machine.memory())


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
        diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())


@pytest.mark.parametrize("layout", ["two-level", "three-level"])
def test_a_directory_that_leads_nowhere_names_the_address(layout: str) -> None:
    guest, planted = small_guest(layout, 1)
    directory = planted.frames[0 if layout == "two-level" else 1]
    guest.machine.put(directory, 5, 0xFFFFC10012345000)
    with pytest.raises(ReadError) as caught:
        diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())
    assert caught.value.address == 0xFFFFC10012345000
    assert caught.value.what == "p2m leaf"


@settings(max_examples=times(2.5))
@given(seed=st.integers(0, 2**32), mfn=st.one_of(st.just(NOTHING), st.integers(0, 2**64 - 1)))
def test_any_frame_at_all_is_read_as_a_list(seed: int, mfn: int) -> None:
    guest, _ = small_guest("linear", seed % 7)
    frames = sorted(guest.machine.pages)
    memory = guest.machine.memory()
    for start in (mfn, frames[mfn % len(frames)]):
        published = read_list(memory, start)
        assert len(published.problems) <= 513
        assert published.leaf(2**18) is None


def test_a_max_pfn_of_too_many_leaves_costs_no_list_of_them() -> None:
    guest, _ = small_guest("flat", 1)
    vaddr = guest.symbols["max_pfn"]
    guest.machine.put((guest.space.maddr(vaddr) or 0) // PAGE, vaddr % PAGE // 8, 2**30)
    found = diagnose(guest.machine.memory(), guest.symbols, guest.banner, guest.hints())
    assert len(found.rebuilt.leaves) <= 2**18
    assert sum(found.coverage.kinds.values()) == 2**30
