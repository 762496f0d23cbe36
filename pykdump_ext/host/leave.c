/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Python's start and end in the session, and the session's end: crash's exit, or another crash in
 * the same process.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2 unless a line says otherwise:
 * - Each end of crash goes through clean_exit() (main.c), which unlinks the namelists that crash
 *   unpacked and calls exit(); on SIGUSR2, which says that crash's parent is gone, restart()
 *   (cmdline.c) calls it from the signal handler.
 * - restore_sanity() (cmdline.c) closes pipes and waits for their readers.
 * - While crash starts, its handler of SIGINT jumps to a clean_exit(1) (main.c); while gdb reads
 *   debug information, gdb's handler only sets a flag, which the next request to gdb finds:
 *   that one fails, and crash ends by an error.
 */
#include "host_internal.h"
#include <dlfcn.h>
#include <stdbool.h>

/* ------------------------------------------------------------------ */
/* Python's end */

static pid_t owner;

/* Called by exit(): run Python's atexit functions and write its open files. */
static void
end_python(void)
{
	struct sigaction action;

	/* A child of crash has the parent's buffers; a signal may have stopped Python anywhere. */
	if (getpid() != owner || foreign_thread() || ended_by_signal)
		return;
	fp = stdout;
	sigint_to_python(&action);
	python_end();
	end_backgrounds(0);
	BZERO(&action, sizeof(action));
	action.sa_handler = SIG_DFL;
	set_handler(SIGINT, &action, NULL);
}

/* ------------------------------------------------------------------ */
/* The session's end */

static char *next_program;
static char **next_words;

void
host_become(char *program, int count, char **words)
{
	int i;

	next_program = strdup(program);
	next_words = calloc(count + 1, sizeof(*next_words));
	for (i = 0; next_words && i < count; i++)
		next_words[i] = strdup(words[i]);
}

/* Let the readers of this command's output end, and remove what clean_exit() would remove. */
static void
leave(void *unused)
{
	FILE **pipes[] = { &pc->pipe, &pc->ifile_pipe };
	int i;

	fflush(NULL);
	if (pc->stdpipe) {
		close(fileno(pc->stdpipe));
		pc->stdpipe = NULL;
		waitpid(pc->stdpipe_pid, NULL, 0);
		pc->stdpipe_pid = 0;
	}
	for (i = 0; i < 2; i++)
		if (*pipes[i]) {
			pclose(*pipes[i]);
			*pipes[i] = NULL;
		}
	if (pc->namelist_orig && file_exists(pc->namelist, NULL))
		unlink(pc->namelist);
	if (pc->namelist_debug_orig && file_exists(pc->namelist_debug, NULL))
		unlink(pc->namelist_debug);
	if (pc->cleanup && file_exists(pc->cleanup, NULL))
		unlink(pc->cleanup);
}

/* End the session after the last Python frame: become the next program, or end as crash does. */
void
leave_session(void)
{
	if (next_program && next_words) {
		end_python();
		guarded(leave, NULL, NULL, TRUE);
		execv(next_program, next_words);
		error(INFO, "%s: cannot start crash anew: %s\n", next_program, strerror(errno));
	}
	clean_exit(1);
}

/* ------------------------------------------------------------------ */
/* Python's start */

static volatile sig_atomic_t pressed;

static void
note_sigint(int sig)
{
	pressed = TRUE;
}

/* Return TRUE if Ctrl-C was pressed while gdb read debug information, and make gdb forget it. */
static int
gdb_was_interrupted(void)
{
	bool (*check_quit_flag)(void);

	/* C++ since gdb 7.12; crash 8.0.0 has gdb 10 */
	if (!(*(void **)&check_quit_flag = dlsym(RTLD_DEFAULT, "_Z15check_quit_flagv")))
		*(void **)&check_quit_flag = dlsym(RTLD_DEFAULT, "check_quit_flag");
	return check_quit_flag && check_quit_flag();
}

/*
 * Start Python at the first command that needs it; later do nothing.  Ctrl-C waits until Python
 * is there.  In a session that p2mfix starts, it then ends crash, as it ends a start of crash.
 */
void
ready_python(void)
{
	struct sigaction waits, crashs;
	const char *problem;

	if (owner)
		return;
	BZERO(&waits, sizeof(waits));
	waits.sa_handler = note_sigint;
	set_handler(SIGINT, &waits, &crashs);
	problem = python_start(host_path());
	if (!problem && python_ready() == HOST_INTERRUPTED)
		pressed = TRUE;
	set_handler(SIGINT, &crashs, NULL);
	if (problem)
		error(FATAL, "%s\n", problem);
	owner = getpid();
	atexit(end_python);
	if (gdb_was_interrupted() && getenv(ENV_AFTERWARDS))
		pressed = TRUE;
	if (pressed && getenv(ENV_AFTERWARDS))
		leave_session();
	if (pressed)
		raise(SIGINT);
}
