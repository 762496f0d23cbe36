/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The only door from Python into crash's code: guarded(), with its messages and signals.
 *
 * crash leaves its code by longjmp().  A longjmp() over Python's frames destroys the
 * interpreter.  So guarded() makes itself the target of these jumps while crash's code runs,
 * and every call from crash into Python returns before crash uses its own targets again.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2 unless a line says otherwise:
 * - RESTART() jumps to pc->main_loop_env, RESUME_FOREACH() to pc->foreach_loop_env (defs.h).
 * - error(FATAL) (tools.c) jumps to foreach_loop_env while IN_FOREACH is set, else to
 *   main_loop_env while RUNTIME is set; else, at crash's start, it ends crash.
 * - Since crash commit e6d8f0d (in 7.2.7), if pc->error_path is neither "default" nor
 *   "redirect", error() (tools.c) writes to pc->error_fp only.
 * - On a signal restart() (cmdline.c) calls restore_sanity(), which sets pc->sbrk, closes the
 *   command's pipe or file, and jumps to main_loop_env.
 * - After each request to gdb, gdb_interface() (gdb_interface.c) makes restart() SIGINT's
 *   handler again.
 * - crash has one thread; its jump targets and buffers are globals.
 */
#include "host_internal.h"
#include <pthread.h>

/* ------------------------------------------------------------------ */
/* Threads: only the thread that loaded this library may call crash. */

static pthread_t main_thread;

int
foreign_thread(void)
{
	return !pthread_equal(pthread_self(), main_thread);
}

/* ------------------------------------------------------------------ */
/* Signals: Ctrl-C belongs to Python while Python runs, otherwise to crash. */

static struct sigaction python_sigint;
static int have_python_sigint;
static volatile sig_atomic_t interrupted;

void
host_keep_sigint(void)
{
	sigaction(SIGINT, NULL, &python_sigint);
	have_python_sigint = TRUE;
}

/* Give SIGINT to Python's handler, and store crash's, which the caller restores. */
void
sigint_to_python(struct sigaction *crashs)
{
	sigaction(SIGINT, have_python_sigint ? &python_sigint : NULL, crashs);
}

static void
interrupt_guarded(int sig)
{
	interrupted = 1;
	longjmp(pc->main_loop_env, 1);
}

/* ------------------------------------------------------------------ */
/* Error messages of guarded calls: kept, and shown only if the caller wants it. */

static char message[BUFSIZE];
static FILE *message_stream;
static FILE *echo_to;

static ssize_t
take_message(void *cookie, const char *text, size_t length)
{
	size_t kept = MIN(length, sizeof(message) - 1);

	memcpy(message, text, kept);
	message[kept] = NULLCHAR;
	if (echo_to) {
		fwrite(text, 1, length, echo_to);
		fflush(echo_to);
	}
	return length;
}

char *
host_message(void)
{
	char *end;

	while ((end = strrchr(message, '\n')) && !end[1])
		*end = NULLCHAR;
	return message[0] == '\n' ? &message[1] : message;
}

void
host_set_message(char *text)
{
	snprintf(message, sizeof(message), "%s", text);
}

/* Called once, by crash's own thread. */
void
guard_start(void)
{
	cookie_io_functions_t functions = { .write = take_message };

	main_thread = pthread_self();
	if ((message_stream = fopencookie(NULL, "w", functions)))
		setvbuf(message_stream, NULL, _IONBF, 0);
}

/* ------------------------------------------------------------------ */
/* The door */

struct guard {
	jmp_buf main_loop_env;
	jmp_buf foreach_loop_env;
	ulonglong in_foreach;
	ulong curcmd_flags;
	FILE *fp;
	FILE *tmpfile;
	FILE *tmpfile2;
	FILE *pipe;
	FILE *stdpipe;
	FILE *ofile;
	FILE *echo_to;
	void (*cmd_cleanup)(void *);
	void *cmd_cleanup_arg;
	void *sbrk;
	struct sigaction sigint;
#ifdef HAVE_ERROR_PATH
	FILE *error_fp;
	char *error_path;
#endif
};

/*
 * Run body(arg) so that no longjmp() of crash goes past the caller; return a HOST_ result.
 *
 * echo: the stream that error messages are also written to, or NULL.
 * pass: leave crash's own error output as it is (messages are not kept).
 */
int
guarded(void (*body)(void *), void *arg, FILE *echo, int pass)
{
	struct guard saved;
	struct sigaction action;
	volatile int result = HOST_OK;

	if (foreign_thread())
		return HOST_WRONG_THREAD;

	memcpy(&saved.main_loop_env, &pc->main_loop_env, sizeof(jmp_buf));
	memcpy(&saved.foreach_loop_env, &pc->foreach_loop_env, sizeof(jmp_buf));
	saved.in_foreach = pc->flags & IN_FOREACH;
	saved.curcmd_flags = pc->curcmd_flags;
	saved.fp = fp;
	saved.tmpfile = pc->tmpfile;
	saved.tmpfile2 = pc->tmpfile2;
	saved.pipe = pc->pipe;
	saved.stdpipe = pc->stdpipe;
	saved.ofile = pc->ofile;
	saved.cmd_cleanup = pc->cmd_cleanup;
	saved.cmd_cleanup_arg = pc->cmd_cleanup_arg;
	saved.echo_to = echo_to;

	message[0] = NULLCHAR;
	interrupted = 0;
	saved.sbrk = pc->sbrk;
	pc->sbrk = NULL;
#ifdef HAVE_ERROR_PATH
	saved.error_fp = pc->error_fp;
	saved.error_path = pc->error_path;
	if (!pass && message_stream) {
		pc->error_fp = message_stream;
		pc->error_path = "kept";
		echo_to = echo;
	}
#endif
	BZERO(&action, sizeof(action));
	action.sa_handler = interrupt_guarded;
	action.sa_flags = SA_NODEFER;
	sigaction(SIGINT, NULL, &saved.sigint);

	if (!setjmp(pc->main_loop_env)) {
		sigaction(SIGINT, &action, NULL);
		memcpy(&pc->foreach_loop_env, &pc->main_loop_env, sizeof(jmp_buf));
		pc->flags &= ~IN_FOREACH;
		/*
		 * At crash's start error(FATAL) ends crash, unless IN_FOREACH
		 * is set: then it jumps to the target just set.
		 */
		if (!(pc->flags & RUNTIME))
			pc->flags |= IN_FOREACH;
		body(arg);
		sigaction(SIGINT, &saved.sigint, NULL);
	} else {
		/* Back to Python's handler, which only sets a flag */
		sigaction(SIGINT, &saved.sigint, NULL);
		/*
		 * Ctrl-C ran interrupt_guarded(), or after a request to gdb
		 * crash's restart(), which sets pc->sbrk.
		 */
		result = (interrupted || pc->sbrk) ? HOST_INTERRUPTED : HOST_ERROR;
		if (pc->cmd_cleanup && (pc->cmd_cleanup != saved.cmd_cleanup))
			pc->cmd_cleanup(pc->cmd_cleanup_arg);
		if (pc->tmpfile && (pc->tmpfile != saved.tmpfile))
			close_tmpfile();
		if (pc->tmpfile2 && (pc->tmpfile2 != saved.tmpfile2))
			close_tmpfile2();
		pc->flags &= ~IN_GDB;
		restore_gdb_sanity();
		hq_close();
	}

	memcpy(&pc->main_loop_env, &saved.main_loop_env, sizeof(jmp_buf));
	memcpy(&pc->foreach_loop_env, &saved.foreach_loop_env, sizeof(jmp_buf));
	pc->flags &= ~IN_FOREACH;
	pc->flags |= saved.in_foreach;
	pc->curcmd_flags = saved.curcmd_flags;
	pc->cmd_cleanup = saved.cmd_cleanup;
	pc->cmd_cleanup_arg = saved.cmd_cleanup_arg;
	echo_to = saved.echo_to;
	/* restart() closes the command's pipe or file */
	if ((saved.pipe != pc->pipe) || (saved.stdpipe != pc->stdpipe) ||
	    (saved.ofile != pc->ofile))
		fp = stdout;
	else
		fp = saved.fp;
#ifdef HAVE_ERROR_PATH
	pc->error_fp = saved.error_fp;
	pc->error_path = saved.error_path;
#endif
	pc->sbrk = saved.sbrk;
	return result;
}

/* Run body(arg) guarded in the usual way: messages are kept and not shown. */
int
quietly(void (*body)(void *), void *arg)
{
	return guarded(body, arg, NULL, FALSE);
}
