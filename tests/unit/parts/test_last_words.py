# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log says of its kernel's death: by texts as kernels of several ages print them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykdump_ext.parts.last_words import LastWords, last_words
from pykdump_ext.parts.machinery import functions_of, without_machinery

# Linux 6.1 on Xen, after an oops that it survived: after the second one it shows the registers of
# the first again (show_opcodes is left out)
FIRST = """
[   22.532075] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   22.561664] #PF: supervisor read access in kernel mode
[   22.567418] #PF: error_code(0x0000) - not-present page
[   22.568869] PGD 813c067 P4D 813c067 PUD 80e9067 PMD 0
[   22.568869] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   22.572568] CPU: 3 PID: 129 Comm: insmod Tainted: G            E      6.1.0-56-amd64 #1
[   22.572568] RIP: e030:lab_reads+0x0/0x3 [nls_cp437]
[   22.576906] RSP: e02b:ffffc90040397cb8 EFLAGS: 00000246
[   22.592663] Call Trace:
[   22.596674]  <TASK>
[   22.596674]  ? init_module+0xe/0x13 [nls_cp437]
[   22.596674]  do_one_initcall+0x59/0x220
[   22.600740]  do_init_module+0x4a/0x1f0
[   22.609813] RIP: 0033:0x47fbe9
[   22.620597]  </TASK>
[   22.620597] Modules linked in: nls_cp437(E+) xenfs
[   22.624731] CR2: 0000000000000010
[   22.624731] ---[ end trace 0000000000000000 ]---
[   22.624731] RIP: e030:lab_reads+0x0/0x3 [nls_cp437]
[   22.624731] RSP: e02b:ffffc90040397cb8 EFLAGS: 00000246
""".strip().splitlines()
SECOND = """
[   22.734265] general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6ba3: \
0000 [#2] PREEMPT SMP NOPTI
[   22.736581] CPU: 3 PID: 130 Comm: insmod Tainted: G      D     E      6.1.0-56-amd64 #1
[   22.741235] RIP: e030:__register_nls+0x5/0x90
[   22.752944] Call Trace:
[   22.756463]  <TASK>
[   22.756463]  init_module+0x18/0x1d [nls_ascii]
[   22.756463]  do_one_initcall+0x59/0x220
[   22.784553]  </TASK>
[   22.789072] ---[ end trace 0000000000000000 ]---
[   22.789072] RIP: e030:lab_reads+0x0/0x3 [nls_cp437]
[   22.792849] RSP: e02b:ffffc90040397cb8 EFLAGS: 00000246
[   22.796942] FS:  0000000001c3a3c0(0000) GS:ffff888106380000(0000) knlGS:0000000000000000
""".strip().splitlines()
FATAL = "[   22.802864] Kernel panic - not syncing: Fatal exception"
SYSRQ = """
[  323.568758] sysrq: Trigger a crash
[  323.665508] Kernel panic - not syncing: sysrq triggered crash
[  323.745915] CPU: 1 PID: 1 Comm: init Not tainted 6.1.0-56-amd64 #1
[  323.748142] Call Trace:
[  323.748981]  <TASK>
[  323.791163]  dump_stack_lvl+0x44/0x5c
[  323.792562]  panic+0x118/0x2f4
[  323.793657]  ? _printk+0x68/0x83
[  324.002207]  sysrq_handle_crash+0x16/0x20
[  324.003308]  __handle_sysrq.cold+0x44/0x11c
[  324.310837] RIP: 0033:0x47b7a0
[  324.392707]  </TASK>
[  324.403525] Kernel Offset: disabled
""".strip().splitlines()
GPF = "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6ba3: 0000 [#2]"


def words(*parts: list[str] | str) -> LastWords:
    lines = ["[    0.000000] Linux version 6.1.0"]
    for part in parts:
        lines += part.strip().splitlines() if isinstance(part, str) else part
    return last_words(lines)


def heads(found: LastWords) -> list[str]:
    return [one.short for one in found.earlier]


def test_an_oops_is_named_by_its_own_line_and_place_not_by_the_panic() -> None:
    found = words(FIRST, SECOND, FATAL)
    assert found.headline == f"{GPF} PREEMPT SMP NOPTI, RIP: __register_nls+0x5/0x90"
    assert found.functions == ("__register_nls", "init_module [nls_ascii]", "do_one_initcall")
    assert found.panic == "Kernel panic - not syncing: Fatal exception"
    assert found.trouble and (found.trouble.task, found.trouble.pid) == ("insmod", 130)
    assert [*found.trouble.lines] == SECOND[: SECOND.index(found.trouble.lines[-1]) + 1]
    assert "end trace" in found.trouble.lines[-1]


def test_an_oops_that_the_kernel_survived_is_none_it_died_of() -> None:
    (earlier,) = words(FIRST, SECOND, FATAL).earlier
    assert earlier.short == (
        "BUG: kernel NULL pointer dereference, address: 0000000000000010,"
        " RIP: lab_reads+0x0/0x3 [nls_cp437]"
    )
    assert (earlier.pid, earlier.functions[0]) == (129, "lab_reads [nls_cp437]")
    assert earlier.lines[0] == FIRST[0] and "end trace" in earlier.lines[-1]
    found = words(FIRST, SYSRQ)
    assert found.headline == "Kernel panic - not syncing: sysrq triggered crash"
    assert found.functions == ("sysrq_handle_crash", "__handle_sysrq")
    assert found.trouble is None and heads(found) == [earlier.short]
    alive = words(FIRST, "[   30.000000] systemd[1]: Started something.")
    assert alive.headline is None and heads(alive) == [earlier.short]


def test_a_log_that_ends_with_an_oops_has_no_panic_and_needs_none() -> None:
    found = words(FIRST, SECOND)
    assert found.panic is None and found.headline and found.headline.startswith(GPF)
    assert len(found.earlier) == 1
    cut = words(SECOND[:5])  # the dump ends in its report
    assert cut.headline and cut.headline.startswith(GPF)


OLD = """
[12345.100000] BUG: unable to handle kernel paging request at ffffc90001234000
[12345.100001] IP: [<ffffffffa0123456>] nvme_setup_io+0x26/0x80 [nvme]
[12345.100002] PGD 3b4067 PUD 3b5067 PMD 3b6067 PTE 0
[12345.100003] Oops: 0002 [#1] SMP
[12345.100004] Modules linked in: nvme xen_netback bridge
[12345.100005] CPU: 5 PID: 222 Comm: kworker/5:1 Tainted: G           O    4.4.0+10 #1
[12345.100006] task: ffff8800123 ti: ffff88001234 task.ti: ffff8800
[12345.100007] RIP: e030:[<ffffffffa0123456>]  [<ffffffffa0123456>] nvme_setup_io+0x26/0x80 [nvme]
[12345.100008] RSP: e02b:ffff88012345  EFLAGS: 00010246
[12345.100009] Stack:
[12345.100010]  0000000000000000 ffff880012345678
[12345.100011] Call Trace:
[12345.100012]  [<ffffffff8108a000>] process_one_work+0x150/0x3f0
[12345.100013]  [<ffffffff8108b000>] ? rescuer_thread+0x1/0x2f0
[12345.100014]  [<ffffffff8108c000>] kthread+0xd2/0xf0
[12345.100015] Code: 48 8b 00 48
[12345.100016] RIP  [<ffffffffa0123456>] nvme_setup_io+0x26/0x80 [nvme]
[12345.100017]  RSP <ffff88012345>
[12345.100018] ---[ end trace 0123456789abcdef ]---
[12345.100019] Kernel panic - not syncing: Fatal exception in interrupt
"""
BUG_AT = """
[   10.000000] ------------[ cut here ]------------
[   10.000001] kernel BUG at mm/slub.c:305!
[   10.000002] invalid opcode: 0000 [#1] SMP NOPTI
[   10.000003] CPU: 0 PID: 77 Comm: kworker/0:1 Not tainted 4.19.0 #1
[   10.000004] RIP: e030:kfree+0x1a4/0x1d0
[   10.000005] Call Trace:
[   10.000006]  skb_release_data+0x77/0x120
[   10.000007] ---[ end trace 1 ]---
[   10.000008] Kernel panic - not syncing: Fatal exception
"""
NEWER = """
[   10.000000][  T130] Oops: general protection fault, probably for non-canonical address \
0xdead000000000108: 0000 [#1] PREEMPT SMP NOPTI
[   10.000001][  T130] CPU: 3 UID: 0 PID: 130 Comm: my task Not tainted 6.12.117+deb13-amd64 #1
[   10.000002][  T130] RIP: e030:list_del_entry+0x14/0x40
[   10.000003][  T130] Call Trace:
[   10.000004][  T130]  <IRQ>
[   10.000005][  T130]  netif_rx.part.0+0x1/0x2
[   10.000006][  T130] ---[ end trace 0000000000000000 ]---
[   10.000007][  T130] Kernel panic - not syncing: Fatal exception in interrupt
"""
NOWHERE = """
[   10.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[   10.000001] #PF: supervisor instruction fetch in kernel mode
[   10.000002] Oops: 0010 [#1] SMP
[   10.000003] CPU: 1 PID: 9 Comm: x Not tainted 6.1.0 #1
[   10.000004] RIP: e030:0x0
[   10.000005] Code: Unable to access opcode bytes at 0xffffffffffffffd6.
[   10.000006] Call Trace:
[   10.000007]  <TASK>
[   10.000008]  calls_a_null+0x5/0x10 [mod]
[   10.000009]  </TASK>
[   10.000010] ---[ end trace 0000000000000000 ]---
[   10.000011] Kernel panic - not syncing: Fatal exception
"""
WARN = """
[   10.000000] ------------[ cut here ]------------
[   10.000001] refcount_t: underflow; use-after-free.
[   10.000002] WARNING: CPU: 1 PID: 9 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
[   10.000003] CPU: 1 PID: 9 Comm: x Not tainted 6.1.0 #1
[   10.000004] RIP: e030:refcount_warn_saturate+0xba/0x110
[   10.000005] Call Trace:
[   10.000006]  puts_it+0x5/0x10 [mod]
[   10.000007] Kernel panic - not syncing: kernel: panic_on_warn set ...
[   10.000008] CPU: 1 PID: 9 Comm: x Not tainted 6.1.0 #1
"""
SOFT = """
[   70.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [dd:140]
[   70.000001] CPU: 1 PID: 140 Comm: dd Not tainted 6.1.0 #1
[   70.000002] RIP: e030:loops_for_ever+0x2/0x4 [mod]
[   70.000003] Call Trace:
[   70.000004]  <TASK>
[   70.000005]  ksys_read+0x5/0x10
[   70.000006]  </TASK>
[   70.000007] Kernel panic - not syncing: softlockup: hung tasks
"""
DOUBLE = """
[   70.000000] PANIC: double fault, error_code: 0x0
[   70.000001] CPU: 1 PID: 140 Comm: dd Not tainted 4.14.0 #1
[   70.000002] RIP: e030:recurses+0x2/0x4
[   70.000003] Call Trace:
[   70.000004]  recurses+0x2/0x4
[   70.000005] Kernel panic - not syncing: Machine halted.
"""


@pytest.mark.parametrize(
    ("log", "headline", "functions"),
    [
        (DOUBLE, "PANIC: double fault, error_code: 0x0, RIP: recurses+0x2/0x4", ("recurses",)),
        (
            OLD,
            "BUG: unable to handle kernel paging request at ffffc90001234000,"
            " RIP: nvme_setup_io+0x26/0x80 [nvme]",
            ("nvme_setup_io [nvme]", "process_one_work", "kthread"),
        ),
        (
            BUG_AT,
            "kernel BUG at mm/slub.c:305!, RIP: kfree+0x1a4/0x1d0",
            ("kfree", "skb_release_data"),
        ),
        (
            NEWER,
            "Oops: general protection fault, probably for non-canonical address"
            " 0xdead000000000108: 0000 [#1] PREEMPT SMP NOPTI, RIP: list_del_entry+0x14/0x40",
            ("list_del_entry", "netif_rx"),
        ),
        (
            NOWHERE,
            "BUG: kernel NULL pointer dereference, address: 0000000000000000, RIP: 0x0",
            ("calls_a_null [mod]",),
        ),
        (
            WARN,
            "WARNING: CPU: 1 PID: 9 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110,"
            " RIP: refcount_warn_saturate+0xba/0x110",
            ("refcount_warn_saturate", "puts_it [mod]"),
        ),
        (
            SOFT,
            "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [dd:140],"
            " RIP: loops_for_ever+0x2/0x4 [mod]",
            ("loops_for_ever [mod]", "ksys_read"),
        ),
    ],
)  # fmt: skip
def test_what_a_panic_followed(log: str, headline: str, functions: tuple[str, ...]) -> None:
    for found in (words(log), words(FIRST, log)):
        assert (found.headline, found.functions) == (headline, functions)
        assert found.panic and found.panic.startswith("Kernel panic - not syncing: ")
    assert heads(words(log)) == [] and len(heads(words(FIRST, log))) == 1


def test_an_oops_within_the_machinery_is_where_it_says() -> None:
    found = words(BUG_AT.replace("kfree+", "__schedule+"))
    assert found.functions == ("__schedule", "skb_release_data")


@pytest.mark.parametrize(("pid", "of"), [(1, True), (129, False)])
def test_init_dies_of_its_own_oops_only(pid: int, of: bool) -> None:
    oops = [line.replace("PID: 129", f"PID: {pid}") for line in FIRST]
    panic = "[   23.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
    found = words(oops, panic)
    head = "BUG: kernel NULL" if of else "Kernel panic - not syncing: Attempted to kill init!"
    assert found.headline and found.headline.startswith(head)
    assert len(found.earlier) == (not of)


HUNG = """
[   75.028803] INFO: task dd:152 blocked for more than 13 seconds.
[   75.030234]       Not tainted 6.1.0-56-amd64 #1 Debian 6.1.192-2
[   75.033699] task:dd              state:D stack:0     pid:152   ppid:1      flags:0x00000002
[   75.035704] Call Trace:
[   75.036652]  <TASK>
[   75.037500]  __schedule+0x34d/0xa00
[   75.038473]  schedule+0x5a/0xd0
[   75.039994]  schedule_preempt_disabled+0x11/0x20
[   75.040987]  __mutex_lock.constprop.0+0x39d/0x720
[   75.043427]  blkdev_get_by_dev.part.0+0x12c/0x310
[   75.074627] RIP: 0033:0x47b5e1
[   75.081325]  </TASK>
[   75.090000] Kernel panic - not syncing: hung_task: blocked tasks
[   75.090001] CPU: 1 PID: 41 Comm: khungtaskd Not tainted 6.1.0-56-amd64 #1
[   75.090002] Call Trace:
[   75.090003]  dump_stack_lvl+0x44/0x5c
[   75.090004]  panic+0x118/0x2f4
[   75.090005]  watchdog+0x225/0x4f0
"""


def test_a_panic_for_hung_tasks_has_the_stack_of_the_task_that_hung() -> None:
    found = words(FIRST, HUNG)
    assert found.headline == "Kernel panic - not syncing: hung_task: blocked tasks"
    assert found.functions == ("__mutex_lock", "blkdev_get_by_dev")
    assert found.hung == 152 and len(found.earlier) == 1
    assert found.trouble and found.trouble.rip is None  # the program's is no place in the kernel
    assert words(FIRST, SECOND, FATAL).hung is None
    # a task that hung, and a death of something else
    assert words(HUNG.split("[   75.090000]", maxsplit=1)[0], SYSRQ).hung is None


def test_what_a_program_wrote_into_the_log_is_no_panic() -> None:
    found = words("[    9.0] pstore: Kernel panic - not syncing: old", FIRST, SECOND, FATAL)
    assert found.panic == "Kernel panic - not syncing: Fatal exception"
    assert words("[    9.0] pstore: Kernel panic - not syncing: old").headline is None


@given(st.lists(st.sampled_from([*FIRST, *SECOND, *SYSRQ, *HUNG.splitlines(), FATAL, "", "[1.0]"])))
def test_any_order_of_lines_gives_an_answer(lines: list[str]) -> None:
    found = last_words(lines)
    assert (found.headline is None) == (found.panic is None and found.trouble is None)
    oopses = sum(bool(re.search(r"\[#\d\]", line)) for line in lines)
    assert len(found.earlier) <= oopses
    for one in (*found.earlier, *filter(None, [found.trouble])):
        assert one.lines and set(one.lines) <= set(lines)


# The same of a stack that drgn prints

OOPSED = """
#0  xen_hypercall_pv (arch/x86/xen/xen-asm.S:44)
#1  HYPERVISOR_sched_op (arch/x86/include/asm/xen/hypercall.h:397:9)
#2  xen_reboot (arch/x86/xen/enlighten.c:314:6)
#3  panic (kernel/panic.c:426:3)
#4  oops_end (arch/x86/kernel/dumpstack.c:400:3)
#5  __exc_general_protection (arch/x86/kernel/traps.c:784:2)
#6  exc_general_protection (arch/x86/kernel/traps.c:729:1)
#7  asm_exc_general_protection+0x22/0x27 (arch/x86/include/asm/idtentry.h:602)
#8  __register_nls (fs/nls/nls_base.c:250:5)
#9  0xffffffffc024708c
#10 do_one_initcall.cold (init/main.c:1271:8)
"""
OLDER = (
    "xen_hypercall_sched_op", "xen_reboot", "xen_panic_event", "notifier_call_chain",
    "atomic_notifier_call_chain", "panic", "oops_end", "no_context", "__bad_area_nosemaphore",
    "bad_area_nosemaphore", "__do_page_fault", "do_page_fault", "page_fault", "nvme_setup_io",
)  # fmt: skip
IN_AN_INTERRUPT = ("panic", "watchdog_timer_fn", "exc_xen_hypervisor_callback", "loops")


def test_how_a_kernel_dies_is_not_where() -> None:
    stack = functions_of(OOPSED.strip().splitlines())
    assert without_machinery(stack) == ("__register_nls", "do_one_initcall")
    assert without_machinery(OLDER) == ("nvme_setup_io",)
    assert without_machinery(IN_AN_INTERRUPT)[0] == "watchdog_timer_fn"
    assert without_machinery(("exc_nmi", "x")) == ("exc_nmi", "x")
    assert without_machinery(("die", "panic")) == ()
