/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a child of this process is that fork() makes: it reads the same files without moving a
 * position in one for its parent, and leaves alone what its parent still needs.
 *
 * A child shares the position of every file that was open before.  crash and its gdb read by
 * lseek() and then read(), so each of two processes would read where the other has gone.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - is_netdump() (netdump.c) opens a dump for reading and writing, where it can.
 * - gdb's bfd opens the namelist and the modules' files, and closes and opens them again as it
 *   likes.  It reads by stdio, which relies on the position that it has left behind.
 * - open_tmpfile() (filesys.c) keeps its file, pc->tmp_fp, for the next command.
 * - gdb 10 and newer, in crash 8.0.0 and newer, has threads for some of its work, such as reading
 *   the symbols of a file.  A child has none of them, and would wait for them for ever.
 * - clean_exit() (main.c) unlinks the namelists that crash has unpacked, and removes the module
 *   of /dev/crash where crash loaded it (MEMMOD).
 */
#include "host_internal.h"
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>

int is_child;

/* ------------------------------------------------------------------ */
/* Positions in files */

static struct position {
	int fd;
	int flags;
	off_t offset;
} *positions;
static long noted, allocated;
static int note_all;  /* also of files that are open for writing too */
static char problem[PATH_MAX + 128];

static int
is_dump(const struct stat *file)
{
	struct stat dump;

	return pc->dumpfile && !stat(pc->dumpfile, &dump) &&
		file->st_dev == dump.st_dev && file->st_ino == dump.st_ino;
}

/*
 * Is this a file that a child needs for itself?  One that a program writes is not: what the child
 * adds comes behind what the parent has written.
 */
static int
is_read(int fd, int flags)
{
	struct stat file;

	if (flags < 0 || (flags & (O_ACCMODE | O_PATH)) & (O_WRONLY | O_PATH) || fstat(fd, &file))
		return FALSE;
	if (!S_ISREG(file.st_mode) && !S_ISBLK(file.st_mode) && fd != pc->mfd && fd != pc->kfd)
		return FALSE;
	return note_all || (flags & O_ACCMODE) == O_RDONLY || is_dump(&file);
}

static int
note_position(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	off_t offset;
	void *more;

	if (!is_read(fd, flags) || (offset = lseek(fd, 0, SEEK_CUR)) == -1)
		return TRUE;
	if (noted == allocated) {
		if (!(more = realloc(positions, (allocated + 64) * sizeof(*positions))))
			return FALSE;
		positions = more;
		allocated += 64;
	}
	positions[noted++] = (struct position){ fd, flags, offset };
	return TRUE;
}

static void
note_positions(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd;

	noted = 0;
	problem[0] = NULLCHAR;
	while (folder && (entry = readdir(folder)))
		if ((fd = atoi(entry->d_name)) > 2 && fd != dirfd(folder) && !note_position(fd))
			break;
	if (!folder || entry)
		snprintf(problem, sizeof(problem), "a child cannot have its own positions in open"
			" files: %s", strerror(errno));
	if (folder)
		closedir(folder);
}

static int
open_again(const struct position *position)
{
	int own, flags = O_CLOEXEC | (position->flags & (O_ACCMODE | O_APPEND));
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", position->fd);
	if ((own = open(path, flags)) < 0)
		own = open(path, O_RDONLY | O_CLOEXEC);
	return own;
}

static void
own_positions(void)
{
	const struct position *position;
	char path[32], name[PATH_MAX];
	int own, close_on_exec, error_number;
	ssize_t length;

	for (position = positions; position < positions + noted; position++) {
		close_on_exec = fcntl(position->fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
		if ((own = open_again(position)) < 0 ||
		    dup3(own, position->fd, close_on_exec) < 0) {
			snprintf(path, sizeof(path), "/proc/self/fd/%d", position->fd);
			error_number = errno;
			length = readlink(path, name, sizeof(name) - 1);
			name[length < 0 ? 0 : length] = NULLCHAR;
			snprintf(problem, sizeof(problem), "a child cannot have its own position"
				" in %s: %s", name, strerror(error_number));
		} else
			lseek(position->fd, position->offset, SEEK_SET);
		if (own >= 0)
			close(own);
	}
}

/* Why a child made by fork_apart() shares a position with its parent, or NULL. */
const char *
position_problem(void)
{
	return problem[0] ? problem : NULL;
}

/* ------------------------------------------------------------------ */
/* fork() */

/* A child gets a copy of what is not yet written. */
static void
before_fork(void)
{
	if (!foreign_thread())
		fflush(fp);
	note_positions();
}

static void **gdb_threads;                       /* thread_pool::g_thread_pool */
static void (*gdb_use_threads)(void *, size_t);  /* thread_pool::set_thread_count() */

static void
in_child(void)
{
	static char none[1024];  /* an object of that class as its constructor leaves it */

	signals_in_child();
	is_child = TRUE;
	pc->flags &= ~MEMMOD;
	if (!pc->tmpfile)
		pc->tmp_fp = NULL;
	if (gdb_threads && gdb_use_threads) {
		*gdb_threads = none;
		gdb_use_threads(none, 0);  /* since gdb 16 it wants to be called */
	}
	own_positions();
}

/* fork() for a child that writes no file of the parent's. */
int
fork_apart(void)
{
	int child;

	note_all = TRUE;
	child = python_fork();
	note_all = FALSE;
	return child;
}

static int
unlink_in_parent(const char *path)
{
	if (is_child && (path == pc->namelist || path == pc->namelist_debug || path == pc->cleanup))
		return 0;
	return unlink(path);
}

/* Called once. */
void
children_start(void)
{
	take_over_calls(NULL, "unlink", unlink_in_parent);
	gdb_threads = dlsym(RTLD_DEFAULT, "_ZN3gdb11thread_pool13g_thread_poolE");
	*(void **)&gdb_use_threads =
		dlsym(RTLD_DEFAULT, "_ZN3gdb11thread_pool16set_thread_countEm");
	pthread_atfork(before_fork, NULL, in_child);
}
