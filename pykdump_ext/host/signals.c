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
 *   each request to gdb.  So signals_start() puts functions of ours into that table (calls.c), and
 *   one into that of libpython, whose signal.signal() calls sigaction() too.
 * - While RUNTIME is clear, gdb_interface() ignores SIGINT during a request.
 * - restart() (cmdline.c) handles SIGINT, SIGSEGV and SIGUSR2; it leaves by longjmp().
 * - crash has one thread; the threads that its gdb starts block all signals.
 */
#include "host_internal.h"
#include <pthread.h>
#include <ucontext.h>

extern const char *Py_GetVersion(void);

static pthread_t main_thread;

int
foreign_thread(void)
{
	return !pthread_equal(pthread_self(), main_thread);
}

/* ------------------------------------------------------------------ */
/* The handler of all signals */

static struct sigaction wanted[NSIG];  /* what forward() calls */
static int sigint_forwarded;           /* forward() is the handler of SIGINT */

volatile sig_atomic_t ended_by_signal;

/* What Ctrl-C calls instead, until somebody sets another handler: it leaves by longjmp(). */
static void (*volatile sigint_jump)(int);

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
		if (sig == SIGINT && sigint_jump) {
			pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
			sigint_jump(sig);
		}
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

static struct sigaction
jumping(void (*jump)(int))
{
	struct sigaction action;

	BZERO(&action, sizeof(action));
	action.sa_handler = jump;
	action.sa_flags = SA_NODEFER;
	return action;
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
	if (sig == SIGINT && sigint_jump) {
		wanted_before = jumping(sigint_jump);
		if (new)
			sigint_jump = NULL;
	}
	if (new) {
		ours = *new;
		if (has_handler(new)) {
			wanted[sig] = *new;
			ours.sa_sigaction = forward;
			ours.sa_flags |= SA_SIGINFO;
		}
	}
	result = sigaction(sig, new ? &ours : NULL, &before);
	if (sig == SIGINT && new)
		sigint_forwarded = has_handler(new);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (result)
		return -1;
	if (old)
		*old = before.sa_sigaction == forward ? wanted_before : before;
	return 0;
}

/*
 * Ctrl-C while crash's code runs for Python: jump() leaves that code.  forward() stays the handler
 * and calls jump(), so that a read of memory makes no system call for it; only where a program
 * has SIGINT ignored, or end the process, the handler is changed.
 */
void
save_sigint(struct saved_sigint *saved)
{
	saved->jump = sigint_jump;
	saved->forwarded = sigint_forwarded;
	if (sigint_forwarded)
		saved->action = wanted[SIGINT];
	else
		sigaction(SIGINT, NULL, &saved->action);
}

void
jump_on_sigint(const struct saved_sigint *saved, void (*jump)(int))
{
	struct sigaction action;

	if (saved->forwarded)
		sigint_jump = jump;
	else {
		action = jumping(jump);
		set_handler(SIGINT, &action, NULL);
	}
}

void
restore_sigint(const struct saved_sigint *saved)
{
	if (!sigint_jump)  /* somebody has set another handler since, as crash's gdb does */
		set_handler(SIGINT, &saved->action, NULL);
	sigint_jump = saved->jump;
}

/* ------------------------------------------------------------------ */
/*
 * Ctrl-C during a request to gdb: crash ignores it at its start, and in a session too if there is no
 * terminal, or gives it to gdb (gdb_interface.c).  We keep it for the end of the request.
 */

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

	if (sig == SIGPIPE && in_background)  /* gdb_interface() ignores it after each request */
		return 0;
	if (!keeps_sigint || sig != SIGINT || !new)
		return set_handler(sig, new, old);
	BZERO(&keep, sizeof(keep));
	keep.sa_handler = keep_sigint;
	result = set_handler(sig, new->sa_handler == restart ? new : &keep, old);
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

/* The sigaction() of Python: signal.signal() is not to take forward()'s place. */
static int
pythons_sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	return sig == SIGINT ? set_handler(sig, new, old) : sigaction(sig, new, old);
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
	take_over_calls(NULL, "sigaction", crashs_sigaction);
	take_over_calls(NULL, "signal", crashs_signal);
	take_over_calls(Py_GetVersion, "sigaction", pythons_sigaction);
}

/* ------------------------------------------------------------------ */
/* Ctrl-C belongs to Python while Python runs, otherwise to crash. */

static struct sigaction python_sigint;
static int have_python_sigint;

/*
 * In a child that fork() makes, its only thread stands for crash's own.  crash's handlers would
 * jump from Python into crash, which would go on there as a second crash.
 */
void
signals_in_child(void)
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
}

void
host_keep_sigint(void)
{
	set_handler(SIGINT, NULL, &python_sigint);
	have_python_sigint = TRUE;
	children_start();
}

/* Give SIGINT to Python's handler, and store crash's, which the caller restores. */
void
sigint_to_python(struct sigaction *crashs)
{
	set_handler(SIGINT, have_python_sigint ? &python_sigint : NULL, crashs);
}
