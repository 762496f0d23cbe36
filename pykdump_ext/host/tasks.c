/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The tasks: crash's table of them, whole in a crash that would miss most of them.
 *
 * Since Linux commit b69f0aeb0689 (in v6.5 and v6.1.39) the last member of struct pid, numbers[],
 * is a flexible array, and no longer a part of the struct's size.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2 unless a line says otherwise:
 * - task_init() (task.c) sets SIZE(pid), and then calls tt->refresh_task_table().  For a kernel
 *   with pid_namespace.idr that function walks the tree of pids, and leaves out each pid whose
 *   numbers[0].ns is not init_pid_ns.
 * - Of each pid it reads SIZE(pid) bytes.  Since crash commit 88580068b7dd (in 8.0.4), which has
 *   the array length pid_numbers, refresh_xarray_task_table() reads SIZE(upid) bytes more.
 * - On a dump the function does nothing while TASK_INIT_DONE is set.
 * - get_panic_context() (task.c) adds running tasks that have no pid any more.
 * - sort_context_array() (task.c) needs tt->current.
 */
#include "host_internal.h"

static int (*crash_readmem)(int, void *, int, ulong, physaddr_t);
static int grown;  /* SIZE(pid) is greater than crash has set it */

/* Make SIZE(pid) cover numbers[0], in a crash that needs that for its table. */
static int
grow_pid(void)
{
#ifndef HAVE_PID_NUMBERS_LENGTH
	if (!(tt->flags & ACTIVE_ONLY) && VALID_SIZE(pid) && VALID_SIZE(upid) &&
	    VALID_MEMBER(pid_numbers) && SIZE(pid) < OFFSET(pid_numbers) + SIZE(upid)) {
		ASSIGN_SIZE(pid) = OFFSET(pid_numbers) + SIZE(upid);
		return grown = TRUE;
	}
#endif
	return FALSE;
}

static int
grow_pid_and_read(int fd, void *buffer, int count, ulong address, physaddr_t physical)
{
	grow_pid();
	return crash_readmem(fd, buffer, count, address, physical);
}

/*
 * Do what task_init() does, with the right SIZE(pid): before the first pid is read, the tree
 * that leads to it is, and by then SIZE(pid) is set.  A jump out of task_init() leaves the hook
 * in place, which then passes on what it is asked.
 */
void
init_tasks(void)
{
	crash_readmem = pc->readmem;
	pc->readmem = grow_pid_and_read;
	task_init();
	pc->readmem = crash_readmem;
}

/* Read the table again; tasks that are in the old one only stay, because crash added them. */
static void
read_table(void *unused)
{
	ulong task = CURRENT_TASK(), count = RUNNING_TASKS(), i;
	struct task_context *contexts = (void *)GETBUF(count * sizeof(*contexts));
	struct tgid_context *tgids = (void *)GETBUF(count * sizeof(*tgids)), *tgid;

	memcpy(contexts, tt->context_array, count * sizeof(*contexts));
	memcpy(tgids, tt->tgid_array, count * sizeof(*tgids));

	tt->flags &= ~TASK_INIT_DONE;
	tt->current = NULL;  /* the table may move */
	tt->refresh_task_table();
	for (i = 0; i < count; i++) {
		if (task_exists(contexts[i].task) || RUNNING_TASKS() >= tt->max_tasks)
			continue;
		for (tgid = tgids; tgid < tgids + count; tgid++)
			if (tgid->task == contexts[i].task)
				tt->tgid_array[RUNNING_TASKS()] = *tgid;
		tt->context_array[RUNNING_TASKS()++] = contexts[i];
	}
	if (!(tt->current = task_to_context(task)))
		tt->current = FIRST_CONTEXT();
	sort_context_array();
	sort_tgid_array();
	FREEBUF(contexts);
	FREEBUF(tgids);
}

int
host_find_tasks(void)
{
	sigset_t sigint, before;
	int result;

	if (!(tt->flags & TASK_INIT_DONE) || foreign_thread() || !grow_pid())
		return HOST_OK;

	/* Ctrl-C waits: half a table is worse than a short one. */
	sigemptyset(&sigint);
	sigaddset(&sigint, SIGINT);
	pthread_sigmask(SIG_BLOCK, &sigint, &before);
	result = guarded(read_table, NULL, NULL, TRUE);
	tt->flags |= TASK_INIT_DONE;
	if (!tt->current)
		tt->current = FIRST_CONTEXT();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

void
host_get_tasks(struct host_tasks *tasks)
{
	int i;

	BZERO(tasks, sizeof(*tasks));
	if (!(tt->flags & TASK_INIT_DONE))
		return;
	tasks->found = RUNNING_TASKS();
	tasks->grown = grown;
	if (tt->flags & (ACTIVE_ONLY | TASK_ARRAY_EXISTS))
		return;
	tasks->counted = tt->nr_threads;
	for (i = 0; i < kt->cpus; i++)
		tasks->counted += !!tt->idle_threads[i];
}
