/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Signals and threads: a handler of crash, of its gdb or of this library runs only on crash's own
 * thread.
 *
 * The kernel delivers a signal of the process to any thread that does not block it: to another
 * one than crash's, if crash's own blocks it or has one pending.  crash's handler restart() then
 * jumps onto the stack of crash's thread, and the process ends, soon or later.  So forward() is
 * the handler of all signals: it sends the signal on to crash's thread, and calls there what
 * crash wanted as the handler.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - crash and its gdb call sigaction() and signal() through their global offset table.  They do
 *   it again and again: gdb_interface() (gdb_interface.c) makes restart() SIGINT's handler after
 *   each request to gdb.  So signals_start() puts functions of ours into that table.
 * - While RUNTIME is clear, gdb_interface() ignores SIGINT during a request.
 * - restart() (cmdline.c) handles SIGINT, SIGSEGV and SIGUSR2; it leaves by longjmp().
 * - crash has one thread; the threads that its gdb starts block all signals.
 */
#include "host_internal.h"
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>

static pthread_t main_thread;

int
foreign_thread(void)
{
	return !pthread_equal(pthread_self(), main_thread);
}

/* ------------------------------------------------------------------ */
/* The handler of all signals */

static struct sigaction wanted[NSIG];  /* what forward() calls */

volatile sig_atomic_t ended_by_signal;

static int
is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP;
}

static void
forward(int sig, siginfo_t *info, void *context)
{
	struct sigaction action;
	int saved_errno = errno;

	if (!foreign_thread()) {
		action = wanted[sig];
		if (sig == SIGUSR2)
			ended_by_signal = TRUE;
		if (action.sa_flags & SA_SIGINFO)
			action.sa_sigaction(sig, info, context);
		else
			action.sa_handler(sig);
	} else if (is_fault(sig) && info->si_code > 0) {
		/* The thread itself is at fault: when it goes on, it ends the process. */
		BZERO(&action, sizeof(action));
		action.sa_handler = SIG_DFL;
		sigaction(sig, &action, NULL);
	} else
		pthread_kill(main_thread, sig);
	errno = saved_errno;
}

static int
has_handler(const struct sigaction *action)
{
	return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* sigaction() whose handlers run on crash's own thread. */
int
set_handler(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction ours, before, wanted_before;
	sigset_t this, mask;
	int result;

	if (sig <= 0 || sig >= NSIG)
		return sigaction(sig, new, old);

	/* Between the two changes the signal would run the new handler with the old flags. */
	sigemptyset(&this);
	sigaddset(&this, sig);
	pthread_sigmask(SIG_BLOCK, &this, &mask);
	wanted_before = wanted[sig];
	if (new) {
		ours = *new;
		if (has_handler(new)) {
			wanted[sig] = *new;
			ours.sa_sigaction = forward;
			ours.sa_flags |= SA_SIGINFO;
		}
	}
	result = sigaction(sig, new ? &ours : NULL, &before);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (result)
		return -1;
	if (old)
		*old = before.sa_sigaction == forward ? wanted_before : before;
	return 0;
}

/* ------------------------------------------------------------------ */
/* Ctrl-C during a request to gdb: crash's start ignores it, and we keep it for the end of that. */

static int keeps_sigint;
static volatile sig_atomic_t kept_sigint;

static void
keep_sigint(int sig)
{
	kept_sigint = TRUE;
}

void
ignore_no_sigint(int keeps)
{
	keeps_sigint = keeps;
	kept_sigint = FALSE;
}

/* The sigaction() of crash and its gdb. */
static int
crashs_sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction keep;
	int result;

	if (!keeps_sigint || sig != SIGINT || !new)
		return set_handler(sig, new, old);
	BZERO(&keep, sizeof(keep));
	keep.sa_handler = keep_sigint;
	result = set_handler(sig, new->sa_handler == SIG_IGN ? &keep : new, old);
	if (new->sa_handler == restart && kept_sigint) {
		kept_sigint = FALSE;
		raise(SIGINT);
	}
	return result;
}

static sighandler_t
crashs_signal(int sig, sighandler_t handler)
{
	struct sigaction new, old;

	BZERO(&new, sizeof(new));
	new.sa_handler = handler;
	new.sa_flags = SA_RESTART;
	return set_handler(sig, &new, &old) ? SIG_ERR : old.sa_handler;
}

/* ------------------------------------------------------------------ */
/* crash's calls of sigaction() and signal() */

struct table {
	ElfW(Addr) base, read_only, read_only_end;
	const ElfW(Sym) *symbols;
	const char *names;
};

/* The address of an entry of the dynamic section, which the loader may have relocated. */
static void *
address_of(const struct table *table, const ElfW(Dyn) *entry)
{
	ElfW(Addr) address = entry->d_un.d_ptr;

	return (void *)(address < table->base ? table->base + address : address);
}

static ElfW(Addr)
page_of(ElfW(Addr) address)
{
	return address & -(ElfW(Addr))sysconf(_SC_PAGESIZE);
}

static void
put_slot(const struct table *table, void **slot, void *function)
{
	ElfW(Addr) page = page_of((ElfW(Addr))slot);
	int read_only = page >= table->read_only && page < table->read_only_end;

	if (read_only && mprotect((void *)page, sizeof(*slot), PROT_READ | PROT_WRITE))
		return;
	*slot = function;
	if (read_only)
		mprotect((void *)page, sizeof(*slot), PROT_READ);
}

static void
take_over_slots(const struct table *table, const ElfW(Rela) *relocation, size_t size)
{
	const ElfW(Rela) *end = (const void *)((const char *)relocation + size);

	for (; relocation && relocation < end; relocation++) {
		int type = ELF64_R_TYPE(relocation->r_info);
		void **slot = (void **)(table->base + relocation->r_offset);
		const char *name;

		if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT)
			continue;
		name = table->names + table->symbols[ELF64_R_SYM(relocation->r_info)].st_name;
		if (STREQ(name, "sigaction"))
			put_slot(table, slot, crashs_sigaction);
		else if (STREQ(name, "signal"))
			put_slot(table, slot, crashs_signal);
	}
}

/* Called for each object of the process; the first one is crash's program. */
static int
take_over_calls(struct dl_phdr_info *info, size_t size, void *unused)
{
	struct table table = { info->dlpi_addr };
	const ElfW(Dyn) *entry = NULL;
	const ElfW(Rela) *plt = NULL, *other = NULL;
	size_t plt_size = 0, other_size = 0;
	int i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type == PT_DYNAMIC)
			entry = (const void *)(table.base + segment->p_vaddr);
		else if (segment->p_type == PT_GNU_RELRO) {
			/* whole pages, as the loader protects them */
			table.read_only = page_of(table.base + segment->p_vaddr);
			table.read_only_end =
				page_of(table.base + segment->p_vaddr + segment->p_memsz);
		}
	}
	for (; entry && entry->d_tag != DT_NULL; entry++)
		switch (entry->d_tag) {
		case DT_SYMTAB: table.symbols = address_of(&table, entry); break;
		case DT_STRTAB: table.names = address_of(&table, entry); break;
		case DT_JMPREL: plt = address_of(&table, entry); break;
		case DT_PLTRELSZ: plt_size = entry->d_un.d_val; break;
		case DT_RELA: other = address_of(&table, entry); break;
		case DT_RELASZ: other_size = entry->d_un.d_val; break;
		}
	if (table.symbols && table.names) {
		take_over_slots(&table, plt, plt_size);
		take_over_slots(&table, other, other_size);
	}
	return 1; /* no other object */
}

/* Called once, by crash's own thread. */
void
signals_start(void)
{
	struct sigaction present;
	int sig;

	main_thread = pthread_self();
	for (sig = 1; sig < NSIG; sig++)
		if (!sigaction(sig, NULL, &present) && has_handler(&present))
			set_handler(sig, &present, NULL);
	dl_iterate_phdr(take_over_calls, NULL);
}

/* ------------------------------------------------------------------ */
/* Ctrl-C belongs to Python while Python runs, otherwise to crash. */

static struct sigaction python_sigint;
static int have_python_sigint;

int is_child;

/* A child gets a copy of what is not yet written. */
static void
before_fork(void)
{
	if (!foreign_thread())
		fflush(fp);
}

/*
 * In a child that fork() makes, its only thread stands for crash's own.  crash's handlers would
 * jump from Python into crash, which would go on there as a second crash.
 */
static void
in_child(void)
{
	struct sigaction action;

	BZERO(&action, sizeof(action));
	action.sa_handler = SIG_DFL;
	sigaction(SIGSEGV, &action, NULL);
	if (foreign_thread()) {
		fp = stdout;
		set_handler(SIGINT, &python_sigint, NULL);
	}
	main_thread = pthread_self();
	is_child = TRUE;
}

void
host_keep_sigint(void)
{
	sigaction(SIGINT, NULL, &python_sigint);
	have_python_sigint = TRUE;
	pthread_atfork(before_fork, NULL, in_child);
}

/* Give SIGINT to Python's handler, and store crash's, which the caller restores. */
void
sigint_to_python(struct sigaction *crashs)
{
	set_handler(SIGINT, have_python_sigint ? &python_sigint : NULL, crashs);
}
