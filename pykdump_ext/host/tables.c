/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What Python asks crash's tables: symbols of one name, enumerators, tasks, paths, pages, time.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2 unless a line says otherwise:
 * - In minimal mode, and in a session on Xen itself, main_loop() (main.c) does not fill the tables
 *   of tasks, memory and files: tt->refresh_task_table and crash's cache of dentries are NULL.
 *   machdep->hz, by which get_uptime() (kernel.c) counts, is 0 in minimal mode.
 * - get_pathname() (filesys.c) writes up to BUFSIZE bytes, whatever length it is given.
 * - enumerator_value() (symbols.c) cuts its argument at a dot.
 * - get_array_length() (symbols.c) returns 0 for what is no array.
 * - get_task_mem_usage() (memory.c) repeats a read of task_struct.rss_stat that fails for ever.
 * - is_task_active() (task.c) takes the 0 at the end of tt->panic_threads for a task.
 */
#include "host_internal.h"
#include <sys/prctl.h>

static int
ask_full(struct question *q)
{
	return pc->flags & MINIMAL_MODE || XEN_HYPER_MODE() ? HOST_MINIMAL : ask(q);
}

#define ASK_FULL(...) ask_full(&(struct question){ __VA_ARGS__ })

/* ------------------------------------------------------------------ */
/* In every session */

static int
put_symbols(struct question *q)
{
	struct syment *symbol = symbol_search(q->name);

	for (*q->size = 0; symbol; symbol = symbol_search_next(q->name, symbol)) {
		if (*q->size < q->count)
			q->value[*q->size] = symbol->value;
		++*q->size;
	}
	return HOST_OK;
}

int
host_symbols(char *name, uint64_t *values, long room, long *count)
{
	return ASK(put_symbols, .name = name, .value = values, .count = room, .size = count);
}

static int
put_enumerator(struct question *q)
{
	return enumerator_value(q->name, q->size) ? HOST_OK : HOST_ERROR;
}

int
host_enumerator(char *name, long *value)
{
	return ASK(put_enumerator, .name = name, .size = value);
}

/* As crash's "sys -c" counts them: by the table's type, else up to the next symbol. */
static int
put_syscalls(struct question *q)
{
	struct syment *symbol = symbol_search("sys_call_table"), *next = symbol;

	if (!symbol)
		return HOST_ERROR;
	if ((*q->size = get_array_length("sys_call_table", NULL, 0)) > 0)
		return HOST_OK;
	while (next && next->value == symbol->value)
		next = next_symbol(NULL, next);
	if (!next)
		return HOST_ERROR;
	*q->size = (next->value - symbol->value) / sizeof(void *);
	return HOST_OK;
}

int
host_syscalls(long *count)
{
	return ASK(put_syscalls, .size = count);
}

int
host_hz(void)
{
	return machdep->hz;
}

/* The command line stays: crash has the names of its files there. */
void
host_set_process_name(char *name)
{
	prctl(PR_SET_NAME, name, 0, 0, 0);
}

/* ------------------------------------------------------------------ */
/* In full sessions */

static int
put_pathname(struct question *q)
{
	static char path[BUFSIZE];

	get_pathname(q->address, path, sizeof(path), TRUE, q->vfsmount);
	*q->found = path;
	return HOST_OK;
}

int
host_pathname(uint64_t dentry, uint64_t vfsmount, char **path)
{
	return ASK_FULL(put_pathname, .address = dentry, .vfsmount = vfsmount, .found = path);
}

static int
put_uptime(struct question *q)
{
	ulonglong jiffies;

	get_uptime(NULL, &jiffies);
	*q->value = jiffies;
	return HOST_OK;
}

int
host_uptime(uint64_t *jiffies)
{
	return ASK_FULL(put_uptime, .value = jiffies);
}

/* What exec_command() (main.c) does before a command that looks at tasks */
static void
refresh_tasks(void)
{
	if (DUMPFILE())
		return;
	tt->refresh_task_table();
	sort_context_array();
	sort_tgid_array();
}

static int
put_pid_of(struct question *q)
{
	refresh_tasks();
	return (*q->value = task_to_pid(q->address)) == NO_PID ? HOST_ERROR : HOST_OK;
}

int
host_pid_of(uint64_t task, uint64_t *pid)
{
	return ASK_FULL(put_pid_of, .address = task, .value = pid);
}

static int
put_task_of(struct question *q)
{
	refresh_tasks();
	return (*q->value = pid_to_task(q->address)) ? HOST_OK : HOST_ERROR;
}

int
host_task_of(uint64_t pid, uint64_t *task)
{
	return ASK_FULL(put_task_of, .address = pid, .value = task);
}

static int
put_task_is_active(struct question *q)
{
	*q->value = q->address && is_task_active(q->address);
	return HOST_OK;
}

int
host_task_is_active(uint64_t task, uint64_t *active)
{
	return ASK_FULL(put_task_is_active, .address = task, .value = active);
}

/* Can rss_stat be read in each thread of the task's process? */
static int
counts_are_readable(ulong task)
{
	static ulong readable;  /* the last process where it could; a dump does not change */
	char counts[32];  /* SPLIT_RSS_COUNTING: struct task_rss_stat has 20 bytes */
	ulong tgid, i;

	if (INVALID_MEMBER(task_struct_rss_stat))
		return TRUE;
	tgid = task_tgid(task);
	if (DUMPFILE() && tgid == readable)
		return TRUE;
	for (i = 0; i < RUNNING_TASKS(); i++)
		if (tt->tgid_array[i].tgid == tgid &&
		    !readmem(tt->tgid_array[i].task + OFFSET(task_struct_rss_stat), KVADDR, counts,
		    sizeof(counts), "task_struct rss_stat", RETURN_ON_ERROR))
			return FALSE;
	readable = tgid;
	return TRUE;
}

static int
put_task_memory(struct question *q)
{
	struct task_mem_usage usage;

	*q->value = *q->second = 0;
	if (!task_exists(q->address))
		return HOST_OK;
	if (!counts_are_readable(q->address))
		return HOST_ERROR;
	get_task_mem_usage(q->address, &usage);
	*q->value = usage.total_vm * PAGESIZE() / 1024;
	*q->second = usage.rss * PAGESIZE() / 1024;
	return HOST_OK;
}

int
host_task_memory(uint64_t task, uint64_t *total, uint64_t *resident)
{
	return ASK_FULL(put_task_memory, .address = task, .value = total, .second = resident);
}

static int
put_page_of(struct question *q)
{
	ulong page;

	if (!phys_to_page(q->address, &page))
		return HOST_ERROR;
	*q->value = page;
	return HOST_OK;
}

int
host_page_of(uint64_t physical, uint64_t *page)
{
	return ASK_FULL(put_page_of, .address = physical, .value = page);
}
