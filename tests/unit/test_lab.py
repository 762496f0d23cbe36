# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cache: made once, made again when stale, safe when two runs start at once."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import suites
from tests.lab.cache import product, root
from tests.lab.suites import Suite, install

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYKDUMP_EXT_CACHE", str(tmp_path / "cache"))
    return root()


def make(folder: Path) -> None:
    assert not list(folder.iterdir())
    time.sleep(0.05)
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


def in_another_run(use: Callable[[], object]) -> None:
    """Call ``use`` in a process that ends after it."""
    process = FORK.Process(target=use)
    process.start()
    process.join(30)
    assert process.exitcode == 0


@contextmanager
def while_another_run_uses(use: Callable[[], object]) -> Iterator[None]:
    """Call ``use`` in a process that goes on until the block ends."""
    used, ended = FORK.Event(), FORK.Event()

    def run() -> None:
        use()
        used.set()
        ended.wait(30)

    process = FORK.Process(target=run)
    process.start()
    assert used.wait(30)
    try:
        yield
    finally:
        ended.set()
        process.join(30)
    assert process.exitcode == 0


def thing(version: int) -> Callable[[], Path]:
    return lambda: product("thing", version, make)


def test_a_product_of_another_version_is_made_again_and_replaces_the_oldest(cache: Path) -> None:
    in_another_run(thing(1))
    (old,) = cache.glob("thing-*")
    other = product("thing-else", 1, make)
    new = thing(2)()
    assert new != old and new.exists() and old.exists()
    newest = thing(3)()
    assert newest.exists() and new.exists() and not old.exists()
    assert other.exists()


def test_the_product_that_was_used_last_stays(cache: Path) -> None:
    for version in (1, 2, 1):
        in_another_run(thing(version))
    assert len(log(cache)) == 2
    thing(3)()
    thing(1)()
    assert len(log(cache)) == 3


def test_what_another_run_uses_stays_until_that_run_ends(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with while_another_run_uses(thing(1)):
        (used,) = cache.glob("thing-*")
        for version in (2, 3, 4):
            in_another_run(thing(version))
        assert (used / "made").exists()
        assert len(list(cache.glob("thing-*"))) == 3
        assert f"{used.name}: stays, another run uses it" in capfd.readouterr().err
    in_another_run(thing(5))
    assert not used.exists()


def test_what_this_run_uses_stays(cache: Path) -> None:
    made = [thing(version)() for version in range(4)]
    assert all(path.exists() for path in made)
    assert len(list(cache.glob("thing-*"))) == 4


def test_a_run_that_comes_while_another_removes_it_makes_it_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(folder: Path, ignore_errors: bool) -> None:
        if folder.suffix != ".unfinished":
            removing.set()
            time.sleep(0.5)
        remove(folder, ignore_errors)

    remove = shutil.rmtree
    removing = FORK.Event()
    for version in (1, 2):
        in_another_run(thing(version))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", slowly)
        remover = FORK.Process(target=thing(3))
        remover.start()
    assert removing.wait(30)
    assert (thing(1)() / "made").exists()
    remover.join(30)
    assert remover.exitcode == 0


def test_an_installed_state_that_another_run_uses_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(self: Suite, binds: Sequence[Path], *words: str) -> list[str]:
        made = re.search(r"touch (\S+)/made", words[-1])
        assert made
        return ["sh", "-c", f"mkdir -p {self.root}{made[1]} && touch {self.root}{made[1]}/made"]

    def state(name: str) -> Callable[[], None]:
        def use() -> None:
            monkeypatch.setattr(suites, "_fingerprint", lambda suite: name)
            assert install(release) == Path(f"/opt/pykdump-{name}")

        return use

    def there() -> set[str]:
        return {path.name for path in release.root.glob("opt/pykdump*")}

    release = Suite("release", cache / "release-1" / "root")
    monkeypatch.setattr(suites, "as_root", lambda *words: words)
    monkeypatch.setattr(suites, "_wheels", lambda python: cache)
    monkeypatch.setattr(Suite, "python_version", lambda self: "3.9.1")
    monkeypatch.setattr(Suite, "command", command)
    with while_another_run_uses(state("a")):
        for name in "bcdef":
            in_another_run(state(name))
        assert there() == {f"pykdump-{name}" for name in "acdef"}
    in_another_run(state("g"))
    assert "pykdump-a" not in there()


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
    processes = [FORK.Process(target=run) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(log(cache)) == 1
