# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-speed``: nothing is compared that proves nothing, and ratios are of runs in turn."""

from __future__ import annotations

import pytest

from tests.bench.commands import START, commands, of_added_memory
from tests.bench.figures import (
    BARE,
    P2MFIX,
    PLAIN,
    Figures,
    NothingPrinted,
    Row,
    across,
    digest,
    kept,
    shown,
    table,
    taken_up,
    written,
)
from tests.lab.fragmented import NAMED, Added, window_pfns


@pytest.mark.parametrize(
    "printed",
    [b"", b"\n \n", b"kmem: cannot do that\n", b"\nkmem: one\nkmem: two\n"],
    ids=["nothing", "blanks", "an error", "errors"],
)
def test_an_output_without_a_result_is_refused(printed: bytes) -> None:
    with pytest.raises(NothingPrinted, match=r"^kmem -i printed "):
        digest("kmem -i", printed)


def test_outputs_are_equal_if_every_byte_is() -> None:
    one = b"PAGES\nkmem: page excluded\n"
    assert digest("kmem -i", one) == digest("kmem -i", one)
    assert digest("kmem -i", one) != digest("kmem -i", one + b" ")


def row(name: str = "kmem -i", **seconds: list[float]) -> Row:
    return Row(
        name, {kind: Figures(dict(enumerate(runs)), {"same"}) for kind, runs in seconds.items()}
    )


def test_a_ratio_is_the_median_of_runs_in_turn() -> None:
    """The machine became ten times slower in the last run; both sides met that."""
    found = row(bare=[1.0, 2.0, 10.0], p2mfix=[2.0, 1.0, 20.0])
    assert found.ratio(P2MFIX, BARE) == 2.0
    assert found.ratio(BARE, P2MFIX) == 0.5


def test_only_runs_in_turn_have_a_ratio() -> None:
    found = row(bare=[1.0, 2.0], p2mfix=[2.0])
    assert found.ratio(P2MFIX, BARE) == 2.0
    found.figures[P2MFIX].seconds = {2: 2.0}
    with pytest.raises(AssertionError, match="no runs of p2mfix and bare are in turn"):
        found.ratio(P2MFIX, BARE)


def test_what_is_too_short_or_not_measured_has_no_ratio() -> None:
    assert row(bare=[0.001], p2mfix=[0.002]).ratio(P2MFIX, BARE) is None
    assert row(p2mfix=[2.0]).ratio(P2MFIX, BARE) is None
    slow = row(bare=[1.0], p2mfix=[2.0])
    slow.figures[BARE].problem = "> 600"
    assert slow.ratio(P2MFIX, BARE) is None
    assert "| `kmem -i` | > 600 | | 2.0 | | |" in table([slow])


@pytest.mark.parametrize(
    ("bare", "plain", "p2mfix", "missed"),
    [
        (2.0, 9.0, 2.0, False),
        (2.0, 9.0, 2.1, True),
        (0.5, 9.0, 0.6, False),
        (0.5, 9.0, 0.61, True),
        (2.0, 1.0, 1.5, True),
    ],
)  # fmt: skip
def test_a_ratio_that_misses_the_target_is_bold(
    bare: float, plain: float, p2mfix: float, missed: bool
) -> None:
    found = row(bare=[bare], plain=[plain], p2mfix=[p2mfix])
    assert found.misses_target() is missed
    assert ("**" in table([found])) is missed
    found.name = START.name
    assert "**" not in table([found])


def test_a_mismatch_is_in_the_table() -> None:
    found = row(bare=[1.0], plain=[1.0], p2mfix=[1.0])
    assert "different" not in table([found])
    found.figures[P2MFIX].digests = {"other"}
    assert "`kmem -i`: plain crash and p2mfix printed different things." in table([found])
    found.figures[P2MFIX].digests = {"same"}
    found.figures[BARE].digests = {"of another boot"}
    assert not found.differs()
    found.figures[PLAIN].digests = {"same", "and once other"}
    assert found.differs()


def test_sets_of_dumps_stand_side_by_side() -> None:
    sets = {
        "linear": [row(bare=[1.0], p2mfix=[2.0]), row("mod", bare=[0.001], p2mfix=[0.002])],
        "packed": [row(bare=[4.0], p2mfix=[2.0])],
        "grown": [row(p2mfix=[3.0]), row("rd", p2mfix=[0.5])],
    }
    assert across(sets).splitlines()[2:] == [
        "| `kmem -i` | 2.0 (2.0) | 2.0 (0.50) | 3.0 (3.0) |",
        "| `mod` | 0.002 | | |",
        "| `rd` | | | 0.50 |",
    ]


def test_figures_that_were_kept_are_taken_up() -> None:
    rows = [row(bare=[1.0, 2.0], p2mfix=[0.5]), row("mod", bare=[0.1])]
    rows[1].figures[BARE].problem = "> 600"
    rows[1].figures[PLAIN] = Figures({2: 1.5}, {"a", "b"}, 10)
    assert taken_up(kept({"linear": rows, "1 TiB": []})) == {"linear": rows, "1 TiB": []}


def test_numbers_have_as_many_digits_as_they_deserve() -> None:
    assert [shown(n) for n in (0.0003, 0.0041, 0.394, 0.996, 2.94, 9.96, 48.1, 1234.5)] == [
        "0.0003", "0.004", "0.39", "1.0", "2.9", "10", "48", "1,234",
    ]  # fmt: skip


def test_a_table_is_written_between_its_comments() -> None:
    paper = "a\n<!-- bench-speed: x -->\nold\n<!-- end of x -->\nb\n"
    new = "a\n<!-- bench-speed: x -->\n\nnew\n\n<!-- end of x -->\nb\n"
    assert written(paper, {"x": "new"}) == new
    assert written(new, {"x": "new"}) == new
    with pytest.raises(ValueError, match="bench-speed: y"):
        written(paper, {"y": "new"})
    with pytest.raises(ValueError, match="once each"):
        written(paper + paper, {"x": "new"})


def test_rows_have_names_of_their_own_and_are_the_same_in_every_session() -> None:
    names = [c.name for c in (START, *commands(), of_added_memory())]
    assert len(set(names)) == len(names)
    assert commands() == commands() and of_added_memory() == of_added_memory()


@pytest.mark.parametrize(("first", "end"), [(3584, 32 << 10), (3584, 512 << 10)])
def test_every_frame_of_the_added_memory_is_known_by_the_pfn_it_has_first(
    first: int, end: int
) -> None:
    added = Added(first, end)
    numbers = [added.number(index) for index in range(first, end)]
    assert set(numbers) == set(range(added.leaves))
    for number in (*range(0, added.leaves, 997), added.leaves - 1):
        assert added.index(number) == first + numbers.index(number)
    pfns = added.pfns()
    for frame in range(2000):
        leaf, offset = divmod(next(pfns), 512)
        assert added.frame(added.number(leaf) * 512 + offset) == frame


@pytest.mark.parametrize(("first", "end"), [(3584, 32 << 10), (3584, 512 << 10)])
def test_the_window_is_where_a_list_can_lead(first: int, end: int) -> None:
    pfns = window_pfns(Added(first, end))
    assert len(pfns) == len({pfn % 512 for pfn in pfns}) * 2
    assert first <= pfns[0] // 512 and pfns[-1] // 512 < min(end, NAMED)
    assert pfns[-1] // 512 - pfns[0] // 512 > 1000
