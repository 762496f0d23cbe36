# SPDX-License-Identifier: GPL-3.0-or-later
"""``p2mfix drgn``: which words are the dump's, and which are drgn's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykdump_ext.cli.drgn import _sorted, _symbols
from pykdump_ext.errors import P2mError

from ..made_up.core import core_bytes


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "vmcore"
    path.write_bytes(core_bytes([]))
    return str(path)


def test_the_dump_may_be_given_as_drgn_takes_it(dump: str) -> None:
    for words in ([dump], ["-c", dump], [f"-c{dump}"], ["--core", dump], [f"--core={dump}"]):
        assert _sorted([*words, "-q", "-s", "x.ko", "-e", "code", "arg"]) == (
            [dump], 0, ["-q", "-s", "x.ko", "-e", "code", "arg"]
        )  # fmt: skip
    assert _sorted(["--domain", "3", dump]) == _sorted(["--domain=3", dump]) == ([dump], 3, [])
    assert _sorted([dump, "script.py", dump, "-k"]) == ([dump], 0, ["script.py", dump, "-k"])


@pytest.mark.parametrize(
    "word", ["-k", "-kq", "-p", "-p7", "--pid=7", "--pi", "--kern", "--qemu", "--vmcorei=x"]
)
def test_options_that_choose_something_else_are_refused(dump: str, word: str) -> None:
    with pytest.raises(P2mError, match="p2mfix drgn debugs a dump"):
        _sorted([dump, word, "7"])


@pytest.mark.parametrize("domain", ["", "x", "-1", "9" * 5000])
def test_a_domain_is_a_number(dump: str, domain: str) -> None:
    with pytest.raises(P2mError, match="--domain takes the number of a domain"):
        _sorted([dump, "--domain", domain])


def test_files_of_symbols_are_found_in_every_form() -> None:
    words = ["-s", "a", "-q", "--symbols", "b", "--symbols=c", "-sd", "-e", "s"]
    assert [*_symbols(words)] == ["a", "b", "c", "d"]
