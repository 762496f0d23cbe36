# SPDX-License-Identifier: GPL-3.0-or-later
"""Which report led to a panic, and where the kernel was, not what it interrupted."""

from __future__ import annotations

import pytest

from .test_last_words import heads, words

PANIC = "Kernel panic - not syncing: "
# Linux 6.1 on Xen, of which the timer's interrupt came while a program read a folder, or while the
# cpu was idle: panic_on_rcu_stall() of kernel/rcu/tree_stall.h
STALL = f"""
[  100.000000] {PANIC}RCU Stall
[  100.000001] CPU: 0 PID: 77 Comm: ls Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2
[  100.000002] Call Trace:
[  100.000003]  <IRQ>
[  100.000004]  dump_stack_lvl+0x44/0x5c
[  100.000005]  panic+0x118/0x2f4
[  100.000006]  rcu_sched_clock_irq.cold+0x1c/0x37a
[  100.000007]  ? tick_sched_do_timer+0xa0/0xa0
[  100.000008]  update_process_times+0x77/0xb0
[  100.000009]  xen_timer_interrupt+0x1e/0x30
[  100.000010]  xen_pv_evtchn_do_upcall+0x86/0xc0
[  100.000011]  </IRQ>
[  100.000012]  <TASK>
[  100.000013]  exc_xen_hypervisor_callback+0x8/0x10
[  100.000014] RIP: e030:ext4_readdir+0x1a4/0xa20 [ext4]
[  100.000015] Code: 00 48 8b 44 24 08 48 89 c2 83 e2 01 f6 c4 08 75 <48> 8b 44 24
[  100.000016] RSP: e02b:ffffc90040397cb8 EFLAGS: 00000246
[  100.000017] RAX: 0000000000000000 RBX: ffff888004a18000 RCX: 0000000000000000
[  100.000018] R10: 0000000000000000 R11: 0000000000000000 R12: ffff88800402d000
[  100.000019]  ? ext4_readdir+0x1a4/0xa20 [ext4]
[  100.000020]  iterate_dir+0x17c/0x1c0
[  100.000021]  __x64_sys_getdents64+0x84/0x130
[  100.000022] RIP: 0033:0x47b5e1
[  100.000023]  </TASK>
[  100.000024] Kernel Offset: disabled
"""
IDLE = STALL.replace("ext4_readdir+0x1a4/0xa20 [ext4]", "xen_hypercall_sched_op+0xa/0x20")


def test_what_an_interrupt_interrupted_is_not_where_the_kernel_died() -> None:
    found = words(STALL)
    assert found.functions == (
        "rcu_sched_clock_irq", "update_process_times", "xen_timer_interrupt",
        "xen_pv_evtchn_do_upcall", "exc_xen_hypervisor_callback",
        "ext4_readdir [ext4]", "iterate_dir", "__x64_sys_getdents64",
    )  # fmt: skip
    assert words(IDLE).functions[0] == "rcu_sched_clock_irq"


# __warn() of Linux 5.10 panics before it shows the registers: they are in the panic's own stack
OLD_WARN = f"""
[   10.000000] ------------[ cut here ]------------
[   10.000001] refcount_t: underflow; use-after-free.
[   10.000002] WARNING: CPU: 1 PID: 9 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
[   10.000003] {PANIC}panic_on_warn set ...
[   10.000004] CPU: 1 PID: 9 Comm: x Not tainted 5.10.0-32-amd64 #1 Debian 5.10.223-1
[   10.000005] Call Trace:
[   10.000006]  dump_stack+0x6b/0x83
[   10.000007]  panic+0x101/0x2d7
[   10.000008]  ? refcount_warn_saturate+0xba/0x110
[   10.000009]  __warn.cold+0x85/0x8e
[   10.000010]  report_bug+0xb2/0xe0
[   10.000011]  handle_bug+0x40/0x80
[   10.000012]  exc_invalid_op+0x14/0x70
[   10.000013]  asm_exc_invalid_op+0x12/0x20
[   10.000014] RIP: e030:refcount_warn_saturate+0xba/0x110
[   10.000015] RSP: e02b:ffffc90040397cb8 EFLAGS: 00010246
[   10.000016] RAX: 0000000000000000 RBX: ffff888004a18000 RCX: 0000000000000000
[   10.000017]  puts_it+0x5/0x10 [mod]
[   10.000018]  do_one_initcall+0x44/0x1d0
"""
EARLIER = """
[    9.000000] ------------[ cut here ]------------
[    9.000001] WARNING: CPU: 1 PID: 10 at drivers/gpu/drm/drm_x.c:12 old_warns+0x1/0x2 [drm]
[    9.000002] CPU: 1 PID: 10 Comm: old Not tainted 6.6.0 #1
[    9.000003] RIP: e030:old_warns+0x1/0x2 [drm]
[    9.000004] Call Trace:
[    9.000005]  old_calls+0x1/0x2 [drm]
[    9.000006] ---[ end trace 0000000000000000 ]---
"""
ATOMIC = f"""
[   10.000000] BUG: scheduling while atomic: kworker/0:1/55/0x00000002
[   10.000001] Modules linked in: mod
[   10.000002] Preemption disabled at:
[   10.000003] [<0000000000000000>] 0x0
[   10.000004] {PANIC}scheduling while atomic: panic_on_warn set ...
[   10.000005] CPU: 0 PID: 55 Comm: kworker/0:1 Not tainted 6.6.0 #1
[   10.000006] Call Trace:
[   10.000007]  <TASK>
[   10.000008]  dump_stack_lvl+0xd1/0x138
[   10.000009]  panic+0x2cc/0x626
[   10.000010]  check_panic_on_warn.cold+0x19/0x35
[   10.000011]  __schedule_bug.cold+0xd5/0xfe
[   10.000012]  __schedule+0x34e4/0x5450
[   10.000013]  sleeps+0xb6/0x100 [mod]
[   10.000014]  </TASK>
"""
UBSAN = f"""
[   10.000000] ================================================================================
[   10.000001] UBSAN: array-index-out-of-bounds in fs/jfs/jfs_dmap.c:2867:6
[   10.000002] index -3 is out of range for type 's8[1365]'
[   10.000003] CPU: 1 PID: 109 Comm: jfsCommit Not tainted 6.6.0 #1
[   10.000004] Call Trace:
[   10.000005]  <TASK>
[   10.000006]  dump_stack_lvl+0x1e7/0x2d0
[   10.000007]  __ubsan_handle_out_of_bounds+0x11c/0x150
[   10.000008]  dbAdjTree+0x474/0x4f0 [jfs]
[   10.000009]  dbJoin+0x210/0x2d0 [jfs]
[   10.000010]  </TASK>
[   10.000011] ================================================================================
[   10.000012] {PANIC}UBSAN: panic_on_warn set ...
[   10.000013] CPU: 1 PID: 109 Comm: jfsCommit Not tainted 6.6.0 #1
"""
KFENCE = f"""
[   10.000000] ==================================================================
[   10.000001] BUG: KFENCE: use-after-free read in reads_it+0x14/0x30 [mod]
[   10.000002] Use-after-free read at 0x00000000d2f1a3b8 (in kfence-#69):
[   10.000003]  reads_it+0x14/0x30 [mod]
[   10.000004]  do_one_initcall+0x59/0x220
[   10.000005] CPU: 0 PID: 129 Comm: insmod Not tainted 6.6.0 #1
[   10.000006] ==================================================================
[   10.000007] {PANIC}KFENCE: panic_on_warn set ...
[   10.000008] CPU: 0 PID: 129 Comm: insmod Not tainted 6.6.0 #1
[   10.000009] Call Trace:
[   10.000010]  <TASK>
[   10.000011]  dump_stack_lvl+0x44/0x5c
[   10.000012]  panic+0x118/0x2f4
[   10.000013]  check_panic_on_warn.cold+0x19/0x35
[   10.000014]  kfence_report_error+0x3d0/0x3e0
[   10.000015]  kfence_handle_page_fault+0xa6/0x250
[   10.000016]  page_fault_oops+0x1d5/0x2f0
[   10.000017]  exc_page_fault+0x7c/0x140
[   10.000018]  asm_exc_page_fault+0x22/0x30
[   10.000019] RIP: e030:reads_it+0x14/0x30 [mod]
[   10.000020] RSP: e02b:ffffc90040397cb8 EFLAGS: 00010246
[   10.000021]  do_one_initcall+0x59/0x220
"""


@pytest.mark.parametrize(
    ("log", "headline", "functions"),
    [
        (
            OLD_WARN,
            "WARNING: CPU: 1 PID: 9 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110",
            ("refcount_warn_saturate", "puts_it [mod]", "do_one_initcall"),
        ),
        (
            ATOMIC,
            f"{PANIC}scheduling while atomic: panic_on_warn set ...",
            ("__schedule_bug", "__schedule", "sleeps [mod]"),
        ),
        (
            UBSAN,
            "UBSAN: array-index-out-of-bounds in fs/jfs/jfs_dmap.c:2867:6",
            ("dbAdjTree [jfs]", "dbJoin [jfs]"),
        ),
        (
            UBSAN.replace("panic_on_warn set", "system warned too often (kernel.warn_limit is 1)"),
            "UBSAN: array-index-out-of-bounds in fs/jfs/jfs_dmap.c:2867:6",
            ("dbAdjTree [jfs]", "dbJoin [jfs]"),
        ),
        (
            KFENCE,
            "BUG: KFENCE: use-after-free read in reads_it+0x14/0x30 [mod]",
            ("reads_it [mod]", "do_one_initcall"),
        ),
    ],
)  # fmt: skip
def test_a_panic_for_a_warning_is_for_one_of_its_own_kind(
    log: str, headline: str, functions: tuple[str, ...]
) -> None:
    for found in (words(log), words(EARLIER, log)):
        assert (found.headline, found.functions) == (headline, functions)


def test_a_warning_long_before_the_panic_is_another_one() -> None:
    panic = f"[   11.000000] {PANIC}kernel: panic_on_warn set ..."
    passed = [f"[   10.000000] systemd[1]: Started number {number}." for number in range(200)]
    assert words(EARLIER, passed, panic).headline == f"{PANIC}kernel: panic_on_warn set ..."
    led = words(EARLIER, panic).headline
    assert led and led.startswith("WARNING: CPU: 1 PID: 10 at drivers/gpu/drm/drm_x.c:12")


@pytest.mark.parametrize("who", ["NMI watchdog: ", "watchdog: ", "watchdog: CPU3: "])
def test_a_hard_lockup_is_where_the_cpu_spins(who: str) -> None:
    found = words(f"""
[   30.000000] {who}Watchdog detected hard LOCKUP on cpu 2
[   30.000001] Modules linked in: mod
[   30.000002] Sending NMI from CPU 3 to CPUs 2:
[   30.000003] NMI backtrace for cpu 2
[   30.000004] CPU: 2 PID: 55 Comm: dd Not tainted 6.16.3 #1
[   30.000005] RIP: e030:spins+0x14/0x30 [mod]
[   30.000006] Call Trace:
[   30.000007]  <TASK>
[   30.000008]  ksys_read+0x5/0x10
[   30.000009]  </TASK>
[   30.000010] {PANIC}Hard LOCKUP
[   30.000011] CPU: 3 UID: 0 PID: 0 Comm: swapper/3 Not tainted 6.16.3 #1
[   30.000012] Call Trace:
[   30.000013]  panic+0x118/0x2f4
[   30.000014]  watchdog_hardlockup_check+0x1a0/0x1c0
""")
    assert found.headline == (
        f"{who}Watchdog detected hard LOCKUP on cpu 2, RIP: spins+0x14/0x30 [mod]"
    )
    assert found.functions == ("spins [mod]", "ksys_read")


OOPS = f"""
[   10.000001] stack guard page: 0000 [#1] PREEMPT SMP NOPTI
[   10.000002] CPU: 2 PID: 55 Comm: dd Not tainted 6.1.0 #1
[   10.000003] RIP: e030:reads_it+0x14/0x30 [mod]
[   10.000004] Call Trace:
[   10.000005]  ksys_read+0x5/0x10
[   10.000006] ---[ end trace 0000000000000000 ]---
[   10.000007] {PANIC}Fatal exception
"""


@pytest.mark.parametrize(
    ("before", "of_it"),
    [
        ("BUG: non-zero pgtables_bytes on freeing mm: 4096", False),
        ("BUG: Bad rss-counter state mm:00000000b583043d type:MM_ANONPAGES val:512", False),
        ("BUG: TASK stack guard page was hit at 00000000f (stack is 0000000a..0000000b)", True),
        ("BUG: stack guard page was hit at 00000000f (stack is 0000000a..0000000b)", True),
        ("BUG: unable to handle page fault for address: ffffc90001234000", True),
        ("BUG: unable to handle kernel NULL pointer dereference at 0000000000000010", True),
    ],
)
def test_only_what_belongs_to_an_oops_is_its_headline(before: str, of_it: bool) -> None:
    found = words(f"[   10.000000] {before}", OOPS)
    head = before if of_it else "stack guard page: 0000 [#1] PREEMPT SMP NOPTI"
    assert found.headline == f"{head}, RIP: reads_it+0x14/0x30 [mod]"
    assert heads(found) == []
