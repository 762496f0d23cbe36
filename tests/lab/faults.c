/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An init function that a module of the distribution gets in place of its own, so that dom0's
 * kernel runs it: it does one of the things that a kernel must not do. */

int init_module(void);

#ifdef READS_NULL
__attribute__((noinline)) static int lab_reads(const int *place)
{
    return *(const volatile int *)place;
}

int init_module(void)
{
    return lab_reads((const int *)0x10) + 1;
}
#endif

#ifdef GIVES_FREED /* the kernel's own function reads it: memory that was freed, as SLUB marks it */
int __register_nls(void *table, void *owner);

int init_module(void)
{
    return __register_nls((void *)0x6b6b6b6b6b6b6b6b, 0) + 1;
}
#endif

#ifdef LOSES_TRAPS /* HYPERVISOR_set_trap_table(NULL): Xen can give dom0 no exception any more */
int init_module(void)
{
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "0"(0L), "D"(0L) : "rcx", "r11", "memory");
    __asm__ volatile("ud2");
    return (int)result;
}
#endif
