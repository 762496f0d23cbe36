/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Loads the machine as one that has run for long: processes whose pages stand scattered in
 * memory, files that they hold, and objects of the kernel between which others were freed.
 *
 *     load PROCESSES MEGABYTES DIRECTORIES FILES
 *
 * It ends when all is there; the processes stay. Pages are written from one process, one page
 * of each in turn, so that two pages of a process that follow each other do not in memory. One
 * page of PAGES_PER_WRITTEN begins with a word of its own, MARK with the process and the page's
 * number; the others are zeros, which take no space in a sparse dump.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES_PER_WRITTEN 8
#define ADDRESS 0x100000000000UL /* of the pages, in each process */
#define MARK 0x10ad000000000000UL

#define CHECK(good) \
	do { \
		if (!(good)) { \
			perror(#good); \
			return 1; \
		} \
	} while (0)

int
main(int argc, char **argv)
{
	CHECK(argc == 5);
	unsigned long processes = atoi(argv[1]), size = atoi(argv[2]) << 20;
	unsigned directories = atoi(argv[3]), files = atoi(argv[4]);
	pid_t *pids = calloc(processes, sizeof(*pids));
	char name[64];
	char *memory = mmap((void *)ADDRESS, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	CHECK(pids && memory != MAP_FAILED);
	CHECK(!madvise(memory, size, MADV_NOHUGEPAGE)); /* no pages of 2 MiB, which PV has not */
	CHECK(!mkdir("/tmp/load", 0755) && !chdir("/tmp/load"));
	for (unsigned i = 0; i < directories; i++) {
		snprintf(name, sizeof(name), "%u", i);
		CHECK(!mkdir(name, 0755));
	}
	for (unsigned i = 1; i < directories; i += 2) {
		snprintf(name, sizeof(name), "%u", i);
		CHECK(!rmdir(name));
	}

	for (unsigned long p = 0; p < processes; p++) {
		int first = 0;

		for (unsigned i = 0; i < files; i++) {
			snprintf(name, sizeof(name), "0/process-%lu-file-%u", p, i);
			first = open(name, O_RDWR | O_CREAT, 0644);
			CHECK(first >= 0);
		}
		pids[p] = fork();
		CHECK(pids[p] >= 0);
		if (!pids[p])
			for (;;)
				pause();
		for (unsigned i = 0; i < files; i++)
			close(first - i);
	}

	for (unsigned long page = 0; page < size / PAGE; page++)
		for (unsigned long p = 0; p < processes; p++) {
			unsigned long word = page % PAGES_PER_WRITTEN ? 0 : MARK | p << 32 | page;
			struct iovec from = { &word, sizeof(word) };
			struct iovec to = { memory + page * PAGE, sizeof(word) };

			CHECK(process_vm_writev(pids[p], &from, 1, &to, 1, 0) == sizeof(word));
		}
	printf("lab: load of %lu processes, the first is %d\n", processes, pids[0]);
	return 0;
}
