/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The only door from Python into crash's code: guarded(), and the messages that it keeps.
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
 *   "redirect", error() (tools.c) writes to pc->error_fp only; if it is "redirect", error() makes
 *   the present fp error_fp.
 * - "set error" (set_error() of tools.c) closes error_fp, unless it is stdout or fp, and frees
 *   error_path.  A command's fp that "redirect" left in error_fp may be closed already.
 * - getopt() and other functions of the C library write to stderr.
 * - On a signal restart() (cmdline.c) calls restore_sanity(), which sets pc->sbrk, closes the
 *   command's pipe or file, and jumps to main_loop_env.
 * - After each request to gdb, gdb_interface() (gdb_interface.c) makes restart() SIGINT's
 *   handler again.
 * - crash has one thread; its jump targets and buffers are globals (signals.c).
 */
#include "host_internal.h"
#include <stdio_ext.h>

static volatile sig_atomic_t interrupted;

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

#ifdef HAVE_ERROR_PATH
/* No word of a command: only this library sets it. */
#define KEPT "\n"

static int keeping;
static FILE *crashs_error_fp;
static char *crashs_error_path;
static cmd_func_t original_set;

/* Make error() write to message_stream, or to where crash writes its errors. */
static void
keep_messages(int keep)
{
	if (keep == keeping || !message_stream)
		return;
	keeping = keep;
	if (keep) {
		crashs_error_fp = pc->error_fp;
		crashs_error_path = pc->error_path;
		pc->error_fp = message_stream;
		pc->error_path = KEPT;
	} else {
		pc->error_fp = crashs_error_fp;
		pc->error_path = crashs_error_path;
	}
}

static void
forget_redirected(void)
{
	if (STREQ(pc->error_path, "redirect"))
		pc->error_fp = stdout;
}

static int
can_be_opened(char *path)
{
	FILE *file = fopen(path, "a");

	return file && !fclose(file);
}

static int
is_target(char *target)
{
	return STREQ(target, "default") || STREQ(target, "redirect") || can_be_opened(target);
}

/* crash's set, which shows and changes where crash writes its errors. */
static void
set_command(void)
{
	int kept = keeping;

	if (argcnt > 1 && (STREQ(args[1], "error") || STREQ(args[1], "-v"))) {
		/* Of a path that crash cannot open it only writes a message: that is kept. */
		if (argcnt == 2 || is_target(args[2]))
			keep_messages(FALSE);
	}
	if (!keeping)
		forget_redirected();
	original_set();
	if (!keeping)
		forget_redirected();
	keep_messages(kept);
}

int
host_set_error(char *target, char **before)
{
	int kept = keeping, set;

	*before = NULL;
	if (foreign_thread())
		return HOST_WRONG_THREAD;
	message[0] = NULLCHAR;
	if (!is_target(target))
		return HOST_ERROR;
	keep_messages(FALSE);
	*before = strdup(pc->error_path);
	forget_redirected();
	set = !!set_error(target);
	forget_redirected();
	keep_messages(kept);
	return set ? HOST_OK : HOST_ERROR;
}
#else
#define keeping FALSE
#define keep_messages(keep)

int
host_set_error(char *target, char **before)
{
	*before = NULL;
	return HOST_OK;
}
#endif

/* Called once. */
void
guard_start(void)
{
	cookie_io_functions_t functions = { .write = take_message };

	if ((message_stream = fopencookie(NULL, "w", functions))) {
		setvbuf(message_stream, NULL, _IONBF, 0);
		/* A jump out of a write must not leave a lock behind */
		__fsetlocking(message_stream, FSETLOCKING_BYCALLER);
	}
#ifdef HAVE_ERROR_PATH
	original_set = take_over("set", set_command);
#endif
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
	struct saved_sigint sigint;
	FILE *standard_error;
	int keeping;
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

	saved.standard_error = stderr;
	saved.keeping = keeping;

	message[0] = NULLCHAR;
	interrupted = 0;
	saved.sbrk = pc->sbrk;
	pc->sbrk = NULL;
	if (!pass && message_stream) {
		keep_messages(TRUE);
		echo_to = echo;
		if (echo)
			stderr = message_stream;
	}
	save_sigint(&saved.sigint);

	if (!setjmp(pc->main_loop_env)) {
		jump_on_sigint(&saved.sigint, interrupt_guarded);
		memcpy(&pc->foreach_loop_env, &pc->main_loop_env, sizeof(jmp_buf));
		pc->flags &= ~IN_FOREACH;
		/*
		 * At crash's start error(FATAL) ends crash, unless IN_FOREACH
		 * is set: then it jumps to the target just set.
		 */
		if (!(pc->flags & RUNTIME))
			pc->flags |= IN_FOREACH;
		body(arg);
		restore_sigint(&saved.sigint);
	} else {
		/* Back to Python's handler, which only sets a flag */
		restore_sigint(&saved.sigint);
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
	stderr = saved.standard_error;
	keep_messages(saved.keeping);
	pc->sbrk = saved.sbrk;
	return result;
}

/* Run body(arg) guarded in the usual way: messages are kept and not shown. */
int
quietly(void (*body)(void *), void *arg)
{
	return guarded(body, arg, NULL, FALSE);
}
