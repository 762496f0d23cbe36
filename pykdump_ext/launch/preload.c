/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * p2m_preload.so: gives crash the rebuilt list before crash reads its first page.
 *
 * p2mfix starts crash with this library in LD_PRELOAD and the list in a file descriptor.  In
 * any other program, such as the shell of a wrapper script, the library does nothing.  It
 * needs nothing but the C library.
 *
 * In a silent session (crash -s) it also drops crash's note on minimal mode, because p2mfix
 * carries such a session on to a full one.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - xen_kdump_p2m() (xen_dom0.c) builds the list at its first read, before any extension can be
 *   loaded: 8.0.2 reads __pgtable_l5_enabled even in minimal mode.  If that fails, crash ends; if
 *   the list has a zero in its middle, crash writes beyond its own table.
 * - xen_kdump_data (xen_dom0.c) is all zero until crash's main() runs, which is later.
 * - If KDUMP_P2M_INIT is set, xen_kdump_p2m() uses the list and the page as they are.
 * - error() (tools.c) prints each message with fprintf() to one stream, here stdout, and calls
 *   fflush() at once; main_loop() (main.c) prints the note so, whether crash is silent or not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "environment.h"
#include "xen_kdump.h"

static unsigned long *
read_list(int fd, int *count)
{
	struct stat status;
	char *list;
	size_t done = 0;
	ssize_t part;

	if (fstat(fd, &status) || status.st_size <= 0 || !(list = malloc(status.st_size)))
		return NULL;
	while (done < (size_t)status.st_size &&
	    (part = pread(fd, list + done, status.st_size - done, done)) > 0)
		done += part;
	if (done < (size_t)status.st_size) {
		free(list);
		return NULL;
	}
	*count = done / sizeof(unsigned long);
	return (unsigned long *)list;
}

/* ------------------------------------------------------------------ */
/* The note on minimal mode */

static const char note[] = "NOTE: minimal mode commands: ";
static char buffer[BUFSIZ];  /* of stdout */
static int drops_note;

/* Until the note comes, stdout writes nothing before fflush(), at a terminal as well. */
static void
wait_for_note(void)
{
	drops_note = !setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
}

static void
drop_note(void)
{
	char before[sizeof(buffer)], *found = memmem(buffer, __fpending(stdout), note, strlen(note));

	if (!found)
		return;
	memcpy(before, buffer, found - buffer);
	__fpurge(stdout);
	setvbuf(stdout, NULL, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, 0);
	fwrite(before, 1, found - buffer, stdout);
	drops_note = 0;
}

/* Takes the place of the C library's. */
int
fflush(FILE *stream)
{
	static int (*original)(FILE *);

	if (!original)
		*(void **)&original = dlsym(RTLD_NEXT, "fflush");
	if (drops_note && stream == stdout)
		drop_note();
	return original(stream);
}

static int
is_silent(int argc, char **argv)
{
	while (--argc > 0)
		if (!strcmp(argv[argc], "-s"))
			return 1;
	return 0;
}

static void
drop_note_if_silent(int argc, char **argv)
{
	if (getenv(ENV_AFTERWARDS) && is_silent(argc, argv))
		wait_for_note();
}

/* ------------------------------------------------------------------ */

__attribute__((constructor)) static void
load(int argc, char **argv)
{
	static const struct xen_kdump_data unused;
	struct xen_kdump_data *(*get)(void), *xkd;
	char *fd = getenv(ENV_P2M), *before = getenv(ENV_LD_PRELOAD);
	unsigned long *list;
	int count;

	*(void **)&get = dlsym(RTLD_DEFAULT, "get_xen_kdump_data");
	if (!fd || !get)
		return;

	/* The programs that crash starts get the user's own LD_PRELOAD. */
	if (before)
		setenv("LD_PRELOAD", before, 1);
	else
		unsetenv("LD_PRELOAD");
	unsetenv(ENV_LD_PRELOAD);
	unsetenv(ENV_P2M);
	if (!*fd) {  /* there is no list: the dump's is whole */
		drop_note_if_silent(argc, argv);
		return;
	}

	xkd = get();
	list = read_list(atoi(fd), &count);
	close(atoi(fd));
	if (!xkd || memcmp(xkd, &unused, sizeof(unused)))
		fprintf(stderr, "p2mfix: this crash has other data where its list belongs, so it does"
			" not get the rebuilt list: use a crash that docs/compatibility.md names\n");
	else if (list && (xkd->page = malloc(4096))) {
		xkd->p2m_mfn_frame_list = list;
		xkd->p2m_frames = count;
		xkd->flags |= KDUMP_P2M_INIT;
		setenv(ENV_PRELOADED, "1", 1);
		drop_note_if_silent(argc, argv);
		return;
	} else
		fprintf(stderr, "p2mfix: not enough memory for the rebuilt list:"
			" crash starts without it\n");
	unsetenv(ENV_REPAIRED);
}
