# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: help, completion, and the man page that says the same."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pykdump_ext.cli.p2mfix import COMMANDS, command_parser, main, parse, parser
from pykdump_ext.launch.options import WITH_VALUE

MAN_PAGE = Path(__file__).parents[3] / "pykdump_ext/cli/p2mfix.1"
INSTALLED = Path(sys.executable).parent / "p2mfix"


def options_of(made: argparse.ArgumentParser) -> set[str]:
    """Return the options that help tells of."""
    told = (action for action in made._actions if action.help is not argparse.SUPPRESS)
    return {name for action in told for name in action.option_strings}


def man_page() -> str:
    return re.sub(r"\\f.|\\", "", MAN_PAGE.read_text())


def test_the_man_page_tells_of_every_command_and_option() -> None:
    page = man_page()
    for name in COMMANDS:
        assert f"\n.B {name}\n" in page
        for option in options_of(command_parser(name)) - {"-h", "--help"}:
            assert option in page, f"{name} {option}"
    for option in options_of(parser()):
        assert option in page, option


def test_the_man_page_tells_of_no_option_that_is_not_there() -> None:
    known = set(WITH_VALUE) | options_of(parser())
    for name in COMMANDS:
        known |= options_of(command_parser(name))
    told = set(re.findall(r"(?<![\w-])--[a-z_]+", man_page()))
    assert told <= known, told - known


def test_help_names_every_command_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for name, module in COMMANDS.items():
        summary = r"\s+".join(map(re.escape, module.SUMMARY.split()))  # it may need two lines
        assert re.search(rf"^  {name} +{summary}$", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_what_it_does_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: p2mfix {name} ")
    assert COMMANDS[name].DESCRIPTION in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("p2mfix dia", {"diagnose "}),
        ("p2mfix diagnose --h", {"--help", "--html"}),
        ("p2mfix rewrite --f", {"--force "}),
        ("p2mfix ./vmli", {"./vmlinux "}),
        ("p2mfix ./vmlinux vmc", {"vmcore "}),
        ("p2mfix --no", {"--no_crashrc "}),
    ],
)
def test_the_shell_completes_it(tmp_path: Path, line: str, offers: set[str]) -> None:
    (tmp_path / "vmlinux").touch()
    (tmp_path / "vmcore").touch()
    shell = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_TYPE": "9",
        "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"),
    }  # fmt: skip
    subprocess.run([INSTALLED], env={**os.environ, **shell}, cwd=tmp_path, check=True)
    assert set((tmp_path / "out").read_text().split("\n")) == offers


def test_the_man_page_is_installed() -> None:
    page = Path(sys.prefix) / "share/man/man1/p2mfix.1"
    assert page.read_text() == MAN_PAGE.read_text()


def test_options_may_stand_among_the_files() -> None:
    args = parse(["diagnose", "vmcore", "--json", "vmlinux"])
    assert args.json and args.files == ["vmcore", "vmlinux"]
    args = parse(["pfn", "100", "vmcore", "--json", "vmlinux"])
    assert args.json and args.files == ["vmcore", "vmlinux"]
    # drgn's own words, and those of a script, stay as they are
    args = parse(["drgn", "-q", "vmcore", "script.py", "-e", "its own"])
    assert args.words[-5:] == ["-q", "vmcore", "script.py", "-e", "its own"]


def test_a_mistyped_command_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["diagnos", "vmcore"])
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("diagnos is neither a file nor a command; did you mean diagnose?")


def test_an_error_names_only_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["domains"])
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("the following arguments are required: VMCORE")
    with pytest.raises(SystemExit) as stop:
        main(["drgn", "-q"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "p2mfix: give the dump: p2mfix drgn [VMLINUX] VMCORE\n"


@pytest.mark.parametrize("program", ["p2mfix", "pykdump-ext"])
def test_ctrl_c_while_the_commands_are_imported_prints_nothing(program: str) -> None:
    script = (INSTALLED.with_name(program)).read_text().partition("\n")[2]
    interrupted = (
        "import signal, sys\n"
        # A shell's background job, and so its children, ignore SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'argparse': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", interrupted + script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_what_takes_long_to_import_is_imported_where_it_is_needed() -> None:
    program = (
        "import sys, pykdump_ext.cli.p2mfix\n"
        "print([name for name in ('cffi', 'matplotlib', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
