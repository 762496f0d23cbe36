# SPDX-License-Identifier: GPL-3.0-or-later
"""p2mfix.py in a session: its command, its way back, what it says when there is nothing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.lab.broken import DumpFile, copy_of, diagnosis, free_pages
from tests.lab.dump import Dump
from tests.lab.planted import words

from .broken_lists import frames_of_others
from .sessions import BIN, SECONDS, Crash, Ran, environment


@pytest.fixture
def repaired(crash: Crash, truncated: Dump, host: Path) -> Ran:
    """One repaired session that asks everything the command ``p2m`` answers."""
    found = diagnosis(truncated)
    page_offset = found.kernel.page_offset()
    commands = [
        f"extend {host}", "extend p2mfix.py", "eval 1 > /dev/null",
        "p2m > status", "p2m status > status2",
        "p2m pfn 100000 > pfn", "p2m pfn 0x100 > pfn2", "p2m pfn a0 > pfn3",
        f"p2m pfn {found.table.max_pfn:x} > pfn4",
        f"p2m va {page_offset + (0x100000 << 12) + 0x123:x} > va", "p2m va linux_banner > va2",
        "p2m va ffffffffffe00000 > va3", "p2m va nosuchsymbol > va4",
        "p2m va runqueues:1+8 > va5", "p2m va linux_banner+d > va6", "p2m va runqueues > va7",
        "kmem -o > offsets", "sym runqueues > symbol",
        "p2m pfn -1 > bad", "p2m pfn 1_0 >> bad", "p2m va -1 >> bad",
        "p2m va ffff0000000000000 >> bad", "p2m va ffff00000000000 >> bad",
        "p2m mfn 3fffffffffffffff > mfn3",
        f"p2m mfn {found.entry(found.rebuilt, 0x100000):x} > mfn",
        f"p2m mfn {frames_of_others(found, 1):x} > mfn2",
        "p2m fix > fix", "extend p2mfix.py > again",
    ]  # fmt: skip
    return crash(truncated, commands, "--minimal", "-s")


def test_the_command_p2m(crash: Crash, truncated: Dump, repaired: Ran) -> None:
    found = diagnosis(truncated)
    pfn, mfn = 0x100000, found.entry(found.rebuilt, 0x100000)
    leaf, lost_leaf = found.rebuilt.leaf(pfn // 512), found.published.leaf(pfn // 512)

    def said(name: str) -> str:
        return (crash.folder / name).read_text()

    status, again = (
        said(name).partition("    fast reads: on, ")[0] for name in ("status", "status2")
    )
    assert status == again
    assert re.fullmatch(
        r"Linux \S+ on Xen 4\.\d+, linear p2m, page tables at [0-9a-f]+ \(cr3, cpu \d\)\n"
        r"   dump's list: 1\d\d,\d{3} of 179,200 pages \(\d\d\.\d%\)\n"
        r"  rebuilt list: 179,200 pages in (\d+) leaves\n"
        r"          lost: \d+ leaves, pfn 100000-[0-9a-f]{6}\n"
        r"          pfns: 1,0\d\d,\d{3}"
        r" \(179,200 memory, \d+ missing, 8\d\d,\d{3} identity, 0 foreign\)\n"
        r"         check: direct map and rebuilt list agree on \1 of \1 pages\n"
        r"         tasks: \d+(; crash \S+ alone misses most)?\n"
        r"   crash reads: by the rebuilt list\n",
        status,
    )
    both = (
        f"   dump's list: missing (leaf mfn {lost_leaf:x})\n"
        f"  rebuilt list: mfn {mfn:x}, memory (leaf mfn {leaf:x})\n"
    )
    assert said("pfn") == "pfn 100000: memory\n" + both
    assert re.fullmatch(
        r"pfn 100: memory\n   dump's list: (mfn .*)\n  rebuilt list: \1\n", said("pfn2")
    )
    assert said("pfn3").startswith("pfn a0: identity\n")
    last = found.table.max_pfn - 1
    assert said("pfn4") == f"p2m: pfn {last + 1:x} is above the last one, {last:x}\n"

    va = said("va")
    assert re.search(
        r"^  PGD: +[0-9a-f]+ => [0-9a-f]+ \(PRESENT\|.*\)\n  PUD:.*\n  PMD:.*\n  PTE:", va, re.M
    )
    assert f"  machine address {mfn:x}123 (mfn {mfn:x})\n" in va
    assert "  pseudo-physical address 100000123 (pfn 100000)\n" in va
    assert va.endswith(re.sub(r"(?m)^", "  ", both).rstrip(" "))
    assert f"virtual address {found.kernel.address('linux_banner'):x}" in said("va2")
    assert re.search(
        r"not present\np2m: virtual address ffffffffffe00000 is not mapped\n$", said("va3")
    )
    assert said("va4").startswith("p2m: nosuchsymbol: neither a hexadecimal address nor a symbol")
    symbol = int(said("symbol").split()[0], 16)
    offset = int(re.findall(r"CPU 1: ([0-9a-f]+)", said("offsets"))[0], 16)  # crash's own
    assert f"virtual address {symbol + offset + 8:x}," in said("va5")
    assert f"virtual address {found.kernel.address('linux_banner') + 13:x}," in said("va6")
    assert said("va7") == "p2m: runqueues: each cpu has its own: add the number of one, as in " + (
        "runqueues:0\n"
    )
    bad = said("bad").splitlines()
    assert len(bad) == 5 and all(line.startswith("p2m: ") for line in bad), bad
    assert "not canonical" in bad[4]
    assert said("mfn3") == "mfn 3fffffffffffffff: not dom0's memory\n"
    assert said("mfn") == f"mfn {mfn:x}: pfn 100000\n"
    assert said("mfn2") == f"mfn {frames_of_others(found, 1):x}: not dom0's memory\n"
    assert said("fix") == ""
    assert said("again").endswith("p2mfix.py: already loaded\n")


def test_silent_crash_stays_silent(repaired: Ran) -> None:
    assert "p2mfix:" not in repaired.text
    assert "KERNEL:" not in repaired.text


def test_list_and_verify(crash: Crash, truncated: Dump, untouched: Dump, host: Path) -> None:
    found = diagnosis(truncated)
    lost = found.coverage.lost[0][0]
    ran = crash(
        truncated,
        [f"extend {host}", "extend p2mfix.py", "p2m list > list", "p2m list --json > json",
         "p2m verify > verify", "p2m verify --all > all", "p2m list | tail -1 > tail"],
        "--minimal", "-s",
    )  # fmt: skip
    assert "Traceback" not in ran.text

    def said(name: str) -> str:
        return (crash.folder / name).read_text()

    told = json.loads(said("json"))
    assert told["max_pfn"] == found.table.max_pfn
    parts = [
        {**part, "first": int(part["first"], 16), "last": int(part["last"], 16)}
        for part in told["ranges"]
    ]
    assert [part["first"] for part in parts[1:]] == [part["last"] + 1 for part in parts[:-1]]
    assert (parts[0]["first"], parts[-1]["last"]) == (0, found.table.max_pfn - 1)
    memory = {"list and page tables": 0, "page tables only": 0}
    for part in parts:
        assert part["pages"] == part["last"] - part["first"] + 1
        if part["kind"] == "memory":
            memory[part["source"]] += part["pages"]
    assert memory["list and page tables"] == found.coverage.covered
    assert sum(memory.values()) == 179_200
    assert [p["first"] for p in parts if p["source"] == "page tables only"] == [lost]

    head, *lines = said("list").splitlines()
    assert head.split() == ["FIRST", "LAST", "PAGES", "KIND", "KNOWN", "FROM"]
    rows = [line.split(maxsplit=4) for line in lines]
    assert [(int(a, 16), int(b, 16), int(n.replace(",", "")), k, s) for a, b, n, k, s in rows] == [
        tuple(part[key] for key in ("first", "last", "pages", "kind", "source")) for part in parts
    ]
    assert said("tail") == lines[-1] + "\n"
    assert (
        said("verify")
        == said("all")
        == (
            "179,200 pages in 351 of 351 leaves (all):\n"
            "              direct map: agrees on 179,200, disagrees on 0\n"
            "   machine-to-phys table: agrees on 179,200, disagrees on 0\n"
        )
    )


def test_on_a_terminal_progress_is_shown_and_pictures_have_colour(
    crash: Crash, truncated: Dump
) -> None:
    words = [str(truncated.vmlinux), str(truncated.vmcore), "-s", "--no_crashrc"]
    where = {**environment(crash.home), "TERM": "xterm"}
    shown = pexpect.spawn(
        str(BIN / "p2mfix"), words, env=where, cwd=crash.folder, timeout=SECONDS, encoding="utf-8",
        dimensions=(40, 90),
    )  # fmt: skip
    for command, printed in (
        ("set scroll off", ""),
        ("p2m map", "\x1b[1;31m!!!!"),
        ("py -c 'from pykdump_ext import progress as p; p.PATIENCE, p.EVERY = 0, 1'", ""),
        ("p2m verify --all", "p2mfix: comparing leaves"),
        ("p2m map > map", ""),
        ("quit", ""),
    ):
        shown.expect("crash> ")
        shown.sendline(command)
        shown.expect_exact(printed)
    shown.expect(pexpect.EOF)
    assert "\x1b" not in (crash.folder / "map").read_text()


@pytest.fixture
def other(untouched: Dump, tmp_path: Path) -> Iterator[Dump]:
    """A copy whose p2m has three foreign frames, and four entries that are wrong."""
    found = diagnosis(untouched)
    copy = copy_of(untouched, tmp_path)
    file = DumpFile(copy)
    others = frames_of_others(found, 7)
    for number, pfn in enumerate(free_pages(found, 7)):
        leaf = (found.rebuilt.leaf(pfn // 512) or 0) << 12
        foreign = 1 << 63 if number < 3 else 0
        file.write(leaf + pfn % 512 * 8, words([foreign | others + number]))
    yield Dump(untouched.vmlinux, copy)
    copy.unlink()


def test_foreign_frames_are_not_dom0s_and_wrong_entries_are_found(
    crash: Crash, untouched: Dump, other: Dump, host: Path
) -> None:
    found = diagnosis(untouched)
    first, others = free_pages(found, 7)[0], frames_of_others(found, 7)
    base = found.kernel.page_offset()
    commands = [
        f"extend {host}", "extend p2mfix.py", "p2m status > status", "p2m verify > verify",
        "p2m list > list", f"p2m pfn {first:x} > pfn", f"p2m mfn {others + 1:x} > mfn",
        f"rd {base + (first << 12):x} > rd", f"rd {base + (first - 1 << 12):x} >> rd",
    ]  # fmt: skip
    crash(other, commands, "-s")

    def said(name: str) -> str:
        return (crash.folder / name).read_text()

    assert "(179,197 memory, " in said("status") and " 3 foreign)" in said("status")
    foreign = [line.split() for line in said("list").splitlines() if " foreign " in line]
    assert [row[:4] for row in foreign] == [[f"{first:x}", f"{first + 2:x}", "3", "foreign"]]
    assert said("pfn").startswith(f"pfn {first:x}: foreign\n")
    assert said("mfn") == f"mfn {others + 1:x}: not dom0's memory\n"
    # the frame is mapped there: crash reads it, as it does on a dump that needs no repair
    crash(other, [command.replace("> rd", "> plain") for command in commands[-2:]])
    assert said("rd") == said("plain") != ""
    verify = said("verify").splitlines()
    assert verify[1:3] == [
        "              direct map: agrees on 179,193, disagrees on 4",
        "   machine-to-phys table: agrees on 179,193, disagrees on 4",
    ]
    wrong = f"  pfn {first + 3:x}-{first + 6:x}: the p2m has mfn {others + 3:x} for the first, the "
    assert verify[3].startswith(wrong + "direct map mfn ")
    assert verify[4].startswith(wrong + "machine-to-phys table pfn ")
    assert len(verify) == 5


def test_undo_brings_the_errors_back_and_fix_takes_them_away(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    found = diagnosis(truncated)
    lost = found.kernel.page_offset() + (found.coverage.lost[-1][1] << 12)
    read = f"rd {lost:x}"
    ran = crash(
        truncated,
        [f"extend {host}", "extend p2mfix.py", read, "p2m undo", "p2m undo", read, "p2m fix",
         read, "bt | head -1", "extend -u p2mfix.py", read, "p2m", "extend p2mfix.py", read],
        "--minimal", "-s",
    )  # fmt: skip
    text = ran.after("p2mfix.py: loaded\n")
    good = re.compile(rf"^{lost:x}:  [0-9a-f]{{16}} ", re.MULTILINE)
    bad = f'rd: read error: kernel virtual address: {lost:x}  type: "64-bit KVADDR"'
    events = re.findall(
        rf"{good.pattern}|{re.escape(bad)}|^p2m: .*|p2mfix\.py: (?:un)?loaded", text, re.MULTILINE
    )
    kinds = ["good" if good.match(e) else "bad" if e == bad else e for e in events]
    shipped = str(host.parent.parent / "extensions/p2mfix.py")
    assert [k.replace(shipped, "p2mfix.py") for k in kinds] == [
        "good",
        "p2m: nothing to undo: crash reads by the dump's list",
        "bad",
        "good",
        "p2mfix.py: unloaded",
        "bad",
        "p2mfix.py: loaded",
        "good",
    ]
    assert "PID: 1 " in text


def test_on_a_healthy_dump_nothing_is_changed(crash: Crash, untouched: Dump, host: Path) -> None:
    for option, last in (("--minimal", "KERNEL:"), ("--no_kmem_cache", "hexadecimal")):
        ran = crash(
            untouched, [f"extend {host}", "help -D > before", "extend p2mfix.py", "help -D > after",
                        "p2m undo", "eval 16"], option,
        )  # fmt: skip
        assert (
            "p2mfix: the dump's list covers 179,200 of 179,200 pages (100.0%): nothing to repair\n"
        ) in ran.text
        assert "p2mfix: crash reads and translates by its own functions again\n" in ran.text
        assert last in ran.after("nothing to repair\n")
    table = re.compile(r"p2m_mfn_frame_list: .*\n.*")
    before, after = ((crash.folder / n).read_text() for n in ("before", "after"))
    assert table.search(before) and table.search(before)[0] == table.search(after)[0]  # type: ignore[index]


def test_a_dump_without_xen_is_one_sentence(crash: Crash, not_xen: Dump, host: Path) -> None:
    ran = crash(not_xen, [f"extend {host}", "extend p2mfix.py", "p2m", "eval 16"], "--minimal")
    sentence = "this is not a dump of a Xen host, so there is no p2m to repair\n"
    assert "extend: " + sentence in ran.text
    assert "p2m: " + sentence in ran.text
    assert "hexadecimal: 10" in ran.text


def test_xens_own_session_is_one_sentence(crash: Crash, untouched: Dump, host: Path) -> None:
    symbols = untouched.vmlinux  # crash --hyper wants xen-syms; without, it says so itself
    ran = crash.run(["crash", "--hyper", "--minimal", symbols, untouched.vmcore], ["quit"])
    assert ran.status == 1


def test_lines_of_crashrc_that_minimal_mode_refused_take_effect_once(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    (crash.home / ".crashrc").write_text(
        f"# a comment\nset hex\nextend {host}\nsym -l | head -1 > sym.out\n"
        "kmem -V > kmem.out\nextend hello.py\n"
        "mod > mod.out\nset dec\n"
    )
    (crash.folder / "hello.py").write_text("print('said once')\n")
    (crash.folder / ".crashrc").write_text("p 17 > p.out\n")
    (crash.folder / "input").write_text("p 18 > p18.out\n")
    ran = crash(truncated, ["extend p2mfix.py", "p 19"], "--minimal", "-i", "input")
    refused = re.findall(r"crash: (\w+): command not available in minimal mode", ran.text)
    assert refused == ["kmem", "mod", "p", "p"]
    assert ran.text.count("said once") == 1
    after = ran.after("starting the full session")
    assert "crash> set" not in after
    assert "NR_FREE_PAGES" in (crash.folder / "kmem.out").read_text()
    assert "xen_privcmd" in (crash.folder / "mod.out").read_text()
    assert (crash.folder / "p.out").read_text().endswith("$1 = 17\n")
    assert after.rstrip().removesuffix("crash> quit").rstrip().endswith("$2 = 19")  # 8.0.6 echoes


def test_p2mfix_inside_crashrc_leaves_the_lines_behind_it_to_crash(
    crash: Crash, truncated: Dump, host: Path
) -> None:
    (crash.home / ".crashrc").write_text(
        f"p 1 >> p.out\nextend {host}\nextend p2mfix.py\np 2 >> p.out\n"
    )
    (crash.folder / "input").write_text("p 3 >> p.out\n")
    crash(truncated, ["p 4 >> p.out"], "--minimal", "-i", "input")
    values = re.findall(r"= (\d)", (crash.folder / "p.out").read_text())
    assert sorted(values) == ["1", "2", "3", "4"]
    assert values.index("2") < values.index("4")


def test_p2mfix_runs_crashrc_and_the_file_of_dash_i_in_the_full_session(
    crash: Crash, truncated: Dump
) -> None:
    (crash.home / ".crashrc").write_text("p 1 >> p.out\n")
    (crash.folder / ".crashrc").write_text("p 2 >> p.out\n")
    (crash.folder / "input").write_text("p 3 >> p.out\n")
    p2mfix = [BIN / "p2mfix", truncated.vmlinux, truncated.vmcore]
    ran = crash.run([*p2mfix, "-i", "input"], ["p 4 >> p.out", "quit"])
    assert "not available in minimal mode" not in ran.text
    assert re.findall(r"= (\d)", (crash.folder / "p.out").read_text()) == ["1", "2", "3", "4"]
    (crash.folder / "p.out").unlink()
    crash.run([*p2mfix, "--no_crashrc"], ["p 4 >> p.out", "quit"])
    assert re.findall(r"= (\d)", (crash.folder / "p.out").read_text()) == ["4"]
