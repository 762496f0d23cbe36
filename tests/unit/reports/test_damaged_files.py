# SPDX-License-Identifier: GPL-3.0-or-later
"""Every view of damaged files: output, or a sentence, with the namelist and without."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykdump_ext.machine.dumps import open_dump
from pykdump_ext.opened import OpenedDump
from pykdump_ext.p2m.diagnosis import Diagnosis

from ..made_up import damage
from ..made_up.damage import FORMATS, KINDS_OF_GUESTS, STROKE, TALKATIVE, file_of, look_at_file
from ..made_up.strategies import times

formats = pytest.mark.parametrize("form", FORMATS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "vmcore"


@formats
@pytest.mark.parametrize("kind", KINDS_OF_GUESTS)
def test_whole_files_show_every_view(
    path: Path, kind: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Diagnosis] = []
    monkeypatch.setattr(damage, "look_at_views", shown.append)
    guest, content, _ = file_of(kind, 1, form)
    path.write_bytes(content)
    look_at_file(guest, str(path))
    assert len(shown) == (2 if kind == TALKATIVE else 1)  # the others need their namelist
    assert len({found.coverage.memory for found in shown}) == 1
    assert OpenedDump(open_dump([path])).note is not None


@formats
@settings(max_examples=times(3))
@given(
    kind=st.sampled_from(KINDS_OF_GUESTS),
    early=st.integers(0, 6),
    seed=st.integers(0, 2**32),
    strokes=st.integers(1, 20),
)
def test_damaged_files_show_every_view_or_a_sentence(
    path: Path, form: str, kind: str, early: int, seed: int, strokes: int
) -> None:
    guest, content, head = file_of(kind, early, form)
    damaged = damage.struck(content, Random(seed).randbytes(STROKE.size * strokes), head)
    path.write_bytes(damaged)
    look_at_file(guest, str(path))
