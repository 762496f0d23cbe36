/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Commands of crash that run in a child of this process, which goes on meanwhile: what they print
 * comes through a pipe.  The command that started them ends them.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - gdb_interface() (gdb_interface.c) has SIGPIPE ignored after each request to gdb; signals.c
 *   keeps it from doing so in the background.
 * - gdb has handlers of SIGTERM, SIGHUP and SIGQUIT, which only set a flag.
 * - crash uses its readline, pager and history only where TTY or SCROLL is set in pc->flags.
 * - restart() (cmdline.c) waits for the reader of pc->stdpipe and pc->pipe.
 */
#include "host_internal.h"
#include <stdio_ext.h>
#include <sys/prctl.h>

int in_background;

static struct background {
	pid_t child;
	int fd;      /* the program's end of the pipe, which it may have closed */
	dev_t device;
	ino_t inode;
} *started;
static int count, allocated;

/* ------------------------------------------------------------------ */
/* In the child */

static void
leave(int status, void *unused)
{
	fflush(stdout);
	_exit(status);
}

static void
fail(void *message)
{
	error(FATAL, "%s\n", (char *)message);
}

/* Run the command, and end; nothing here belongs to the parent's terminal, pager or input. */
static void
run_child(char *line, int output, pid_t parent, const sigset_t *mask)
{
	static const int ends[] = { SIGINT, SIGPIPE, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction action;
	int number, null, result;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	in_background = TRUE;
	for (number = 0; number < count; number++)
		if (host_background_pipe(number) >= 0)
			close(started[number].fd);
	count = 0;
	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
		_exit(1);
	dup2(null, 0);
	dup2(output, 1);
	dup2(output, 2);
	close(null);
	close(output);
	__fpurge(stdin);
	__fpurge(stdout);
	setlinebuf(stdout);
	__fsetlocking(stdout, FSETLOCKING_BYCALLER);
	fp = stdout;
	pc->stdpipe = pc->pipe = pc->ofile = NULL;
	pc->flags &= ~(TTY | SCROLL);
	on_exit(leave, NULL);

	BZERO(&action, sizeof(action));
	action.sa_handler = SIG_DFL;
	for (number = 0; number < (int)(sizeof(ends) / sizeof(*ends)); number++)
		set_handler(ends[number], &action, NULL);
	pthread_sigmask(SIG_SETMASK, mask, NULL);

	if (position_problem())
		result = guarded(fail, (void *)position_problem(), stdout, FALSE);
	else
		result = run_to_stdout(line);
	fflush(stdout);
	if (result == HOST_INTERRUPTED) {
		set_handler(SIGINT, &action, NULL);
		raise(SIGINT);
	}
	leave(result != HOST_OK, NULL);
}

/* ------------------------------------------------------------------ */
/* In the parent */

static int
cannot(const char *what)
{
	char problem[BUFSIZE];

	snprintf(problem, sizeof(problem), "a command cannot run in the background: %s: %s", what,
		strerror(errno));
	host_set_message(problem);
	return HOST_ERROR;
}

int
host_background(char *line, int *fd, int *pid)
{
	struct background *more;
	struct stat file;
	sigset_t sigint, mask;
	int ends[2];
	pid_t parent = getpid(), child;

	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (count == allocated) {
		if (!(more = realloc(started, (allocated + 16) * sizeof(*started))))
			return cannot("memory");
		started = more;
		allocated += 16;
	}
	if (pipe2(ends, O_CLOEXEC))
		return cannot("pipe()");
	fstat(ends[0], &file);
	fflush(stdout);
	sigemptyset(&sigint);
	sigaddset(&sigint, SIGINT);
	pthread_sigmask(SIG_BLOCK, &sigint, &mask);
	if (!(child = fork_apart())) {
		close(ends[0]);
		run_child(line, ends[1], parent, &mask);
	}
	if (child > 0) {
		started[count++] = (struct background){ child, ends[0], file.st_dev, file.st_ino };
		*fd = ends[0];
		*pid = child;
	} else {
		cannot("fork()");
		close(ends[0]);
	}
	close(ends[1]);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return child > 0 ? HOST_OK : HOST_ERROR;
}

int
host_backgrounds(void)
{
	return count;
}

int
host_background_pipe(int number)
{
	const struct background *one = &started[number];
	struct stat file;

	return !fstat(one->fd, &file) && S_ISFIFO(file.st_mode) &&
		file.st_dev == one->device && file.st_ino == one->inode ? one->fd : -1;
}

/* End all that have been started since there were so many, if the program has not. */
void
end_backgrounds(int before)
{
	while (count > before) {
		pid_t child = started[--count].child;

		/* One that the program has waited for is none of ours; its number may be another's. */
		if (waitpid(child, NULL, WNOHANG))
			continue;
		kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
}
