# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cache: made once, made again when stale, safe when two runs start at once."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from tests.lab.cache import product, root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYKDUMP_EXT_CACHE", str(tmp_path / "cache"))
    return root()


def make(folder: Path) -> None:
    assert not list(folder.iterdir())
    time.sleep(0.2)
    (folder / "made").write_text("made")
    with (root().parent / "log").open("a") as log:
        log.write("made\n")


def log(cache: Path) -> list[str]:
    return (cache.parent / "log").read_text().splitlines()


def test_a_product_is_made_once(cache: Path) -> None:
    first = product("thing", ("version 1", 1), make)
    assert product("thing", ("version 1", 1), make) == first
    assert (first / "made").exists()
    assert len(log(cache)) == 1


def test_a_product_of_another_version_is_made_again_and_replaces_the_oldest(cache: Path) -> None:
    old = product("thing", "version 1", make)
    other = product("thing-else", "version 1", make)
    new = product("thing", "version 2", make)
    assert new != old and new.exists() and old.exists()
    newest = product("thing", "version 3", make)
    assert newest.exists() and new.exists() and not old.exists()
    assert other.exists()


def test_a_product_in_use_stays(cache: Path) -> None:
    used = product("thing", "version 1", make)
    unused = product("thing", "version 2", make)
    assert product("thing", "version 1", make) == used
    product("thing", "version 3", make)
    assert used.exists() and not unused.exists()


def test_a_step_that_fails_leaves_no_product_and_is_tried_again(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        product("thing", 1, fail)
    made = product("thing", 1, make)
    assert [p.name for p in made.iterdir()] == ["made"]


def run() -> None:
    product("thing", 1, make)


def test_runs_that_start_at_once_make_it_once(cache: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=run) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(log(cache)) == 1
