"""Dumps as makedumpfile writes them: filtered, compressed, flattened."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.dump import Dump

from .conftest import BIN, Crash
from .test_repair import to_files, without_dumpfile

COMMANDS = ("sys", "bt -a", "ps", "mod", "kmem -i", "kmem -s", "mount", "irq", "runq", "timer")
FILTER = ("-X", "-d", "1")  # without the memory of other domains and pages of zeros
FORMATS = {"ELF": "-E", "zlib": "-c", "lzo": "-l", "snappy": "-p"}


def filtered(dump: Dump, target: Path, *options: str) -> Dump:
    command: list[str | Path] = ["makedumpfile", *options, *FILTER, "-x", dump.vmlinux, dump.vmcore]
    if "-F" in options:
        with target.open("wb") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    else:
        subprocess.run([*command, target], stdout=subprocess.DEVNULL, check=True)
    return Dump(dump.vmlinux, target)


@pytest.mark.parametrize("name", FORMATS)
def test_a_filtered_dump_opens(
    crash: Crash, untouched: Dump, truncated: Dump, host: Path, tmp_path: Path, name: str
) -> None:
    whole = filtered(untouched, tmp_path / "whole", FORMATS[name])
    broken = filtered(truncated, tmp_path / "broken", FORMATS[name])

    died = crash(broken, ["sys"])
    assert died.status == 1 and 'type: "tss_struct ist array"' in died.text
    plain = crash(whole, to_files(COMMANDS, crash.folder / "plain"))
    opened = crash.run(
        [BIN / "p2mfix", broken.vmlinux, broken.vmcore],
        [*to_files(COMMANDS, crash.folder / "opened"), "quit"],
    )
    extended = crash(
        broken,
        [f"extend {host}", "extend p2mfix.py", *to_files(COMMANDS, crash.folder / "extended")],
        "--minimal",
    )
    assert plain.status == opened.status == extended.status == 0
    for number, command in enumerate(COMMANDS):
        wanted, *shown = (
            without_dumpfile((crash.folder / which / str(number)).read_text())
            for which in ("plain", "opened", "extended")
        )
        assert wanted, command
        assert shown == [wanted, wanted], command


def test_a_healthy_compressed_dump_opens_and_is_left_alone(
    crash: Crash, untouched: Dump, tmp_path: Path
) -> None:
    whole = filtered(untouched, tmp_path / "whole", "-c")
    opened = crash.run([BIN / "p2mfix", whole.vmlinux, whole.vmcore], ["bt", "quit"])
    assert opened.status == 0
    assert "nothing to repair, nothing changed" in opened.text
    assert "sysrq_handle_crash" in opened.text


def test_a_flattened_dump_is_told_what_to_do_with(
    crash: Crash, truncated: Dump, host: Path, tmp_path: Path
) -> None:
    broken = filtered(truncated, tmp_path / "flat", "-F", "-c")
    ran = crash(broken, [f"extend {host}", "extend p2mfix.py", "eval 16"], "--minimal")
    assert "extend: " in ran.text and "makedumpfile -R DUMP < flat" in ran.text
    assert "hexadecimal: 10" in ran.text
