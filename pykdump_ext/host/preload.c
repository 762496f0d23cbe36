/*
 * Gives crash a p2m list before it reads its first page.
 *
 * crash builds its list when it first reads dom0's memory, and ends (or damages
 * its own memory, where the list has a zero in its middle) if that fails, before
 * any extension can be loaded.  p2mfix has LD_PRELOAD bring this library into
 * crash; it takes the list from a file descriptor and marks it as built.
 *
 * Nothing but the C library is needed, and in a program other than crash (a
 * wrapper script's shell) nothing is done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "xen_kdump.h"

#define LIST_FD "PYKDUMP_EXT_P2M"              /* where the mfns are, 8 bytes each */
#define LD_PRELOAD_BEFORE "PYKDUMP_EXT_LD_PRELOAD"

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
	*count = done / sizeof(unsigned long);
	return (unsigned long *)list;
}

__attribute__((constructor)) static void
load(void)
{
	struct xen_kdump_data *(*get)(void), *xkd;
	char *fd = getenv(LIST_FD), *before = getenv(LD_PRELOAD_BEFORE);
	unsigned long *list;
	int count;

	*(void **)&get = dlsym(RTLD_DEFAULT, "get_xen_kdump_data");
	if (!fd || !get)
		return;

	/* Not for the programs that crash starts */
	if (before)
		setenv("LD_PRELOAD", before, 1);
	else
		unsetenv("LD_PRELOAD");
	unsetenv(LD_PRELOAD_BEFORE);
	unsetenv(LIST_FD);

	xkd = get();
	if ((list = read_list(atoi(fd), &count)) && (xkd->page = malloc(4096))) {
		xkd->p2m_mfn_frame_list = list;
		xkd->p2m_frames = count;
		xkd->flags |= KDUMP_P2M_INIT;
		setenv(PRELOADED, "1", 1);
	}
	close(atoi(fd));
}
