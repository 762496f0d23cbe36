# SPDX-License-Identifier: GPL-3.0-or-later
"""Python inside crash: ``extend`` loads, lists and unloads it, and what it was built for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.dump import Dump

from .sessions import BIN, ROOT, Crash, minimal


def test_a_bare_extend_lists_shared_objects_and_python_files(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "hello.py",
        "from pykdump_ext.host import command\n"
        "@command('hello', usage='[name]', help='greets', minimal=True)\n"
        "def hello(words):\n"
        "    '''Greets whoever is named.'''\n"
        "    print('hello', *words)\n",
    )
    ran = minimal(crash, untouched, host, "extend hello.py", "hello world", "extend", "help hello")
    assert "./hello.py: loaded\nhello world\n" in ran.text
    assert re.search(
        r"^SHARED OBJECT +COMMANDS\n\S+crash_host\.so +py pykdump_ext \n\./hello\.py +hello \n",
        ran.text,
        re.MULTILINE,
    )
    help_text = ran.after("NAME\n")
    assert help_text.startswith(
        "  hello - greets\n\nSYNOPSIS\n  hello [name]\n\nDESCRIPTION\n  Greets whoever is named.\n"
    )


def test_python_files_are_found_where_crash_looks_for_extensions(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "silent.py").write_text("print('found it')\n")
    ran = minimal(
        crash, untouched, host, "extend silent.py", "extend nosuch.py",
        CRASH_EXTENSIONS=str(elsewhere),
    )  # fmt: skip
    assert f"found it\n{elsewhere}/silent.py: loaded\n" in ran.text
    assert "extend: nosuch.py: no such file, here or in crash's extensions folders\n" in ran.text


@pytest.fixture
def native(crash: Crash) -> Path:
    """An extension written in C, in a folder below the one that sessions run in."""
    source = crash.folder / "native.c"
    source.write_text(
        '#include "defs.h"\n'
        'static void cmd(void) { fprintf(fp, "native was here\\n"); }\n'
        'static char *help[] = { "native", "d", "s", "t", NULL };\n'
        'static struct command_table_entry table[] = {{"native", cmd, help, MINIMAL}, {NULL}};\n'
        "__attribute__((constructor)) static void load(void) { register_extension(table); }\n"
    )
    made = crash.folder / "below/native.so"
    made.parent.mkdir()
    subprocess.run(
        ["cc", "-w", "-shared", "-fPIC", "-DX86_64", "-I/usr/include/crash", "-o", made, source],
        check=True,
    )
    return made


def test_what_extend_accepted_before_it_still_accepts(
    crash: Crash, untouched: Dump, host: Path, native: Path
) -> None:
    native.rename(crash.folder / "native.so")
    crash.write("two.py", "")
    ran = minimal(
        crash, untouched, host,
        "extend native.so", "native", "extend native.so two.py", "extend -u native.so",
        "native", "extend -l native.so", "native", "extend nosuch.so", "extend /etc/passwd",
        "extend nosuch",
    )  # fmt: skip
    assert ran.text.count("./native.so: shared object loaded") == 2
    assert ran.text.count("native was here") == 2
    assert "./native.so: shared object already loaded\n./two.py: loaded\n" in ran.text
    assert "native: command not available in minimal mode" in ran.text
    assert "extend: nosuch.so: No such device or address" in ran.text
    assert "extend: /etc/passwd: not an ELF format object file" in ran.text
    assert "extend: nosuch: No such device or address" in ran.text


def test_a_changed_file_is_loaded_anew_and_a_broken_one_leaves_the_old(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    def version(number: int, rest: str = "") -> None:
        crash.write(
            f"version{number}",
            "from pykdump_ext.host import command\n"
            "@command('which', minimal=True)\n"
            f"def which(words): print('version {number}')\n"
            f"def loaded(): print('hello {number}')\n"
            f"def unloaded(): print('good bye {number}')\n{rest}",
        )

    version(1)
    version(2)  # of the same size, and written within the second: bytecode would look valid
    version(3, "raise ValueError('not yet')\n")
    version(4, "@command('log')\ndef log(words): pass\n")
    ran = minimal(
        crash, untouched, host,
        "!cp version1 w.py", "extend w.py", "which", "!cp version2 w.py", "extend w.py", "which",
        "!touch w.py", "extend w.py", "!cp version3 w.py", "extend w.py", "which",
        "!cp version4 w.py", "extend w.py", "which", "extend -u w", "which",
    )  # fmt: skip
    text = re.sub(r" \(\S+w\.py, line \d+\)|\n(?=\n)", "", ran.after("shared object loaded\n"))
    assert text.startswith(
        "./w.py: loaded\nhello 1\nversion 1\n"
        "./w.py: has changed since it was loaded: loading it anew\n"
        "good bye 1\n./w.py: unloaded\n./w.py: loaded\nhello 2\nversion 2\n"
        "./w.py: already loaded\n"
        "extend: ValueError: not yet\nversion 2\n"
        'extend: ./w.py: "log" is a duplicate of an existing command\nversion 2\n'
        "good bye 2\n./w.py: unloaded\n"
        "crash: which: command not available in minimal mode"
    ), text
    assert not list(crash.folder.rglob("*.pyc"))


def test_a_changed_file_is_loaded_whatever_the_old_one_does_when_it_goes(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    code = (
        "from pykdump_ext.host import command\n"
        "@command('which', minimal=True)\n"
        "def which(words): print('version', {0})\n"
        "def unloaded(): 1 / {0}\n"
    )
    for number in (0, 1):
        crash.write(f"version{number}", code.format(number))
    (crash.folder / "w").mkdir()  # a folder is no extension
    ran = minimal(
        crash, untouched, host,
        "!cp version0 w.py", "extend w", "which", "!cp version1 w.py", "extend w", "which",
    )  # fmt: skip
    text = re.sub(r" \(\S+w\.py, line \d+\)|\n(?=\n)", "", ran.after("shared object loaded\n"))
    assert text.startswith(
        "./w.py: loaded\nversion 0\n"
        "./w.py: has changed since it was loaded: loading it anew\n"
        "extend: ZeroDivisionError: division by zero\nversion 1\n"
    ), text


def test_a_name_without_its_ending_or_its_folder_is_enough(
    crash: Crash, untouched: Dump, host: Path, native: Path
) -> None:
    for folder in ("one", "other"):
        (crash.folder / folder).mkdir()
        crash.write(f"{folder}/twin.py", "")
    crash.write("hello.py", "")
    ran = minimal(
        crash, untouched, host,
        "extend hello", "extend -u hello", "extend below/native.so", "native",
        "extend -u native.so", "extend below/native.so", "extend -u native", "native",
        "extend one/twin.py other/twin.py", "extend -u twin.py", "extend -u other/twin.py",
        "extend -u ./twin.py", "extend -u twin.py", "extend -u twin.py",
    )  # fmt: skip
    text = ran.after("shared object loaded\n")
    assert text.startswith(
        "./hello.py: loaded\n./hello.py: unloaded\n"
        "./below/native.so: shared object loaded\nnative was here\n"
        "./below/native.so: shared object unloaded\n"
        "./below/native.so: shared object loaded\n./below/native.so: shared object unloaded\n"
    ), text
    assert "native: command not available in minimal mode" in text
    assert re.sub(r"\n(?=\n)", "", text.partition("one/twin.py: loaded\n")[2]) == (
        "./other/twin.py: loaded\n"
        "extend: twin.py: more than one is loaded, give the path: ./other/twin.py ./one/twin.py\n"
        "./other/twin.py: unloaded\n"
        "extend: ./twin.py: not loaded\n"
        "./one/twin.py: unloaded\n"
        "extend: twin.py: not loaded\n"
    )


def test_p2mfix_loads_its_own_extension_and_not_what_lies_in_the_folder(
    crash: Crash, truncated: Dump
) -> None:
    """A customer's archive may hold a p2mfix.py, and modules with the names of Python's."""
    for name in ("p2mfix", "argparse", "json", "rich", "cffi", "pykdump_ext", "crash_host"):
        crash.write(f"{name}.py", "print('ran from the folder')\n")
    p2mfix: list[str | Path] = [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore, "-s"]
    ran = crash.run(p2mfix, ["bt | head -1", "p2m", "eval 16", "extend p2mfix.py", "quit"])
    repaired, _, rest = ran.text.partition("hexadecimal: 10")
    assert "PID: 1 " in repaired
    assert "crash reads: by the rebuilt list" in repaired
    assert "ran from the folder" not in repaired
    # a user who names it gets what crash's order of folders gives
    assert rest.endswith("ran from the folder\n./p2mfix.py: loaded\n")


def test_unloading_takes_the_commands_away_and_loading_brings_them_back(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write(
        "hello.py",
        "from pykdump_ext.host import command\n"
        "@command('hello', minimal=True)\n"
        "def hello(words): print('hello')\n"
        "def unloaded(): print('good bye')\n",
    )
    ran = minimal(
        crash, untouched, host,
        "extend hello.py", "extend hello.py", "hello", "extend -u hello.py", "hello",
        "extend -u hello.py", "extend hello.py", "extend -u", "hello", "extend hello.py",
        f"extend {host}", "extend hello.py", "hello", f"extend -u {host}", "extend", "py",
    )  # fmt: skip
    text = ran.after("shared object loaded\n")
    assert text.startswith("./hello.py: loaded\n./hello.py: already loaded\nhello\ngood bye\n")
    gone = "crash: hello: command not available in minimal mode"
    assert text.count(gone) == 2
    assert "extend: hello.py: not loaded\n" in text
    assert text.count("good bye\n./hello.py: unloaded\n") == 3
    assert f"{host}: shared object unloaded\n" in text
    assert "hello.py: not an ELF format object file\n" in text
    assert f"{host}: shared object loaded\n./hello.py: loaded\nhello\n" in text
    assert "crash: py: command not available in minimal mode" in text


def test_a_command_name_that_is_taken_is_refused(crash: Crash, untouched: Dump, host: Path) -> None:
    crash.write(
        "log.py",
        "from pykdump_ext.host import command\n"
        "@command('log')\n"
        "def log(words): print('not this one')\n",
    )
    ran = minimal(crash, untouched, host, "extend log.py", "log | head -1")
    assert 'extend: ./log.py: "log" is a duplicate of an existing command\n' in ran.text
    assert "not this one" not in ran.text


# --------------------------------------------------------------------------
# what it was built for


def test_built_for_another_crash_it_refuses(crash: Crash, untouched: Dump, host: Path) -> None:
    version = re.search(rb"BUILT_FOR_CRASH=([\d.]+)", host.read_bytes())
    assert version
    old = version[1]
    other = b"6" + old[1:]
    copy = crash.folder / "other.so"
    copy.write_bytes(host.read_bytes().replace(old, other))
    ran = crash(untouched, [f"extend {copy}", "py"], "--minimal", "-s")
    assert (
        f"extend: this crash is version {old.decode()}, pykdump_ext was built for"
        f" {other.decode()}: build it again: {BIN / 'pip'} install --force-reinstall {ROOT}\n"
    ) in ran.text
    assert "py: command not available" in ran.text


def environment_like(host: Path, folder: Path, version: str) -> Path:
    """A virtual environment of another version that has our shared object in it."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python3").symlink_to(BIN / "python3")
    (folder / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    copy = folder / "lib/host.so"
    copy.parent.mkdir()
    shutil.copy(host, copy)
    return copy


def test_in_an_environment_of_another_python_it_refuses(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    copy = environment_like(host, tmp_path / "env", "3.99.1")
    ran = minimal(crash, untouched, copy, "py", "extend p2mfix.py", "eval 16")
    sentence = "its environment is now for Python 3.99.1: build it again"
    assert ran.text.count(sentence) == 2
    assert "hexadecimal: 10" in ran.text


def test_without_the_package_it_says_what_is_missing(
    crash: Crash, untouched: Dump, host: Path, tmp_path: Path
) -> None:
    found = re.search(r"version = (\S+)", (BIN.parent / "pyvenv.cfg").read_text())
    assert found
    copy = environment_like(host, tmp_path / "env", found[1])
    ran = minimal(crash, untouched, copy, "py", "eval 16")
    assert re.search(
        r"py: \S+/env/bin/python3 has no module cffi: build it again: \S+/pip install ", ran.text
    )
    assert "hexadecimal: 10" in ran.text


def test_python_comes_from_the_virtual_environment_that_holds_the_package(
    crash: Crash, untouched: Dump, host: Path
) -> None:
    crash.write("where.py", "import sys, pykdump_ext\nprint(sys.prefix, pykdump_ext.__file__)\n")
    ran = minimal(crash, untouched, host, "py where.py")
    assert f"{BIN.parent} {host.parent.parent}/__init__.py\n" in ran.text
