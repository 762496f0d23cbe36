# SPDX-License-Identifier: GPL-3.0-or-later
"""``pykdump-ext setup --pykdump``: a checkout is checked, registered, and forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from pykdump_ext.cli import pykdump_ext as cli
from pykdump_ext.cli.checkout import checkout_state
from pykdump_ext.launch.pykdump import link, registered

THEIRS = "set scroll off\n"
STUB = "/data/crash_host.so"


class Finder:
    """Knows where modules are, as Python's: here all of them, and asked for which."""

    there = True
    asked: ClassVar[dict[str, list[str]]] = {}

    @classmethod
    def find_spec(cls, name: str, path: list[str] | None = None) -> str | None:
        cls.asked[name] = path or []
        return name if cls.there else None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(cli, "put_stub", lambda: Path(STUB))
    (home / ".crashrc").write_text(THEIRS)
    return home


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, on a machine that has all modules."""
    for name, text in (("progs/PyKdumpInit.py", ""), ("pykdump/API.py", "print('3')")):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr("pykdump_ext.launch.pykdump.PathFinder", Finder)
    return tmp_path / "checkout"


def setup(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    cli.main(["setup", *map(str, words)])
    return capsys.readouterr().out


def finding() -> tuple[bool | None, str]:
    """Return what doctor finds of PyKdump."""
    return next((good, text) for good, what, text in cli.for_running() if what == "PyKdump")


def test_the_lines_are_added_once_and_removed(
    home: Path, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "HOST", home / "crash_host.so")  # as if it was built
    (home / "crash_host.so").touch()
    monkeypatch.setattr(cli, "built", lambda what: "")
    crashrc = home / ".crashrc"
    assert finding()[0] and "pykdump-ext setup --pykdump PATH" in finding()[1]
    monkeypatch.chdir(checkout.parent)
    said = setup(capsys, "--pykdump", "checkout")
    lines = f"extend {STUB}\npykdump_ext epython.py\n"
    assert said == (
        f"{crashrc}: lines added: extend {STUB}; pykdump_ext epython.py\n"
        f"{checkout}: registered, its programs become commands of full sessions\n"
    )
    assert crashrc.read_text() == THEIRS + lines
    assert registered() == checkout
    assert finding() == (True, f"{checkout}, its programs are commands of full sessions")
    assert setup(capsys) == f"{crashrc}: has the lines already\n"
    assert crashrc.read_text() == THEIRS + lines

    crashrc.write_text(THEIRS + lines.splitlines(keepends=True)[0])
    good, text = finding()
    assert good is False and text.startswith(f"{checkout} is registered, and .crashrc does not")
    assert setup(capsys, "--pykdump", checkout).startswith(
        f"{crashrc}: line added: pykdump_ext epython.py\n"
    )
    checkout.rename(checkout.with_name("moved"))
    good, text = finding()
    assert good is False and text.startswith(f"{checkout}: no such folder: give that of a checkout")

    assert setup(capsys, "--remove") == (
        f"{crashrc}: lines removed\n"
        f"{checkout}: not registered any more; the checkout itself is as it was\n"
    )
    assert crashrc.read_text() == THEIRS
    assert registered() is None and not link().parent.exists()
    assert setup(capsys, "--remove") == f"{crashrc}: has no line of pykdump_ext to remove\n"

    crashrc.write_text(THEIRS + lines)
    good, text = finding()
    assert good is False and text.startswith(".crashrc loads its programs, and no checkout is")


@pytest.mark.parametrize("part", ["progs/PyKdumpInit.py", "pykdump/API.py"])
def test_what_is_no_checkout_changes_nothing(
    home: Path, checkout: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    (checkout / part).unlink()
    with pytest.raises(SystemExit):
        setup(capsys, "--pykdump", checkout)
    assert capsys.readouterr().err == (
        f"pykdump-ext: {checkout} is not a checkout of PyKdump, it has no {part}: give the folder"
        " that git clone made\n"
    )
    assert (home / ".crashrc").read_text() == THEIRS and not [*home.glob(".local/**")]


def test_a_checkout_for_python_2(
    home: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "pykdump/API.py").write_text("print '2'\n")
    with pytest.raises(SystemExit):
        setup(capsys, "--pykdump", checkout)
    assert capsys.readouterr().err == (
        f"pykdump-ext: {checkout} has a PyKdump for Python 2: check out its branch dev+v5.16,"
        " or a later one\n"
    )


def test_what_is_missing_is_named_with_what_installs_it(
    home: Path, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Finder, "there", False)
    said = setup(capsys, "--pykdump", checkout).splitlines()[2:]
    assert [line.split()[0] for line in said] == ["drgn", "pyparsing", "crccheck"]
    assert "slower: " in said[0] and "[pykdump]" in said[0]
    assert said[1].endswith("/bin/pip install pyparsing")
    good, text = checkout_state(True)
    assert good is False and "; crccheck is not installed" in text
    assert Finder.asked["crccheck"][-2:] == [
        str(checkout / "dist-packages"),
        str(checkout / "Extension"),
    ]
