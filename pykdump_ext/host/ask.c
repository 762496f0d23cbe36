/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What Python asks crash: memory, translation, symbols, types.
 *
 * All questions have one shape: a function put_...() that asks crash's code, and a struct
 * question (host_internal.h) with what it asks and where the answer goes.  ask() puts the question
 * behind the guard.  There is an answer only if the result is HOST_OK.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - readmem() (memory.c) with RETURN_ON_ERROR prints its error and returns FALSE; the error for
 *   an excluded page begins with PAGE_EXCLUDED_ERRMSG, "page excluded".
 * - While XEN_MACHINE_ADDR is in pc->curcmd_flags, xen_kdump_p2m() (xen_dom0.c) takes a
 *   physical address for a machine address.  readmem() sets it for an XENMACHADDR that has no
 *   pseudo-physical address, and leaves it set.  guarded() restores these flags.
 * - STRUCT_SIZE() and MEMBER_OFFSET() (datatype_info() of symbols.c) ask gdb, and return -1 if
 *   there is no such type or member; MEMBER_SIZE() returns 0 if a type has no such member.
 * - readmem() takes a user's virtual address for one of tt->current, the session's task.
 */
#include "host_internal.h"

static void
put_question(void *arg)
{
	struct question *q = arg;

	q->result = q->put(q);
}

int
ask(struct question *q)
{
	int result = quietly(put_question, q);

	return result == HOST_OK ? q->result : result;
}

static int
read_one(struct question *q, uint64_t address, void *buffer)
{
	if (!address && (q->memtype == KVADDR || q->memtype == UVADDR))
		return HOST_NULL;
	if (q->machine)
		pc->curcmd_flags |= XEN_MACHINE_ADDR;
	else
		pc->curcmd_flags &= ~XEN_MACHINE_ADDR;
	if (readmem(address, q->memtype, buffer, q->length, q->name, RETURN_ON_ERROR))
		return HOST_OK;
	return strstr(host_message(), "page excluded") ? HOST_EXCLUDED : HOST_ERROR;
}

static int
read_the_one(struct question *q)
{
	return read_one(q, q->address, q->buffer);
}

static int
read_many(struct question *q)
{
	char *to = q->buffer;
	int result;

	for (; *q->done < q->count; (*q->done)++, to += q->length)
		if ((result = read_one(q, q->addresses[*q->done], to)) != HOST_OK)
			return result;
	return HOST_OK;
}

/*
 * Follow a list from one pointer to the next, until its end or until q->buffer is full.  Who goes
 * in a circle meets the entry that he has marked again: the mark moves on after 1, 2, 4 ... steps.
 */
static int
read_list(struct question *q)
{
	struct host_list *list = q->list;
	uint64_t *entries = q->buffer, next;
	int result;

	while (*q->done < q->count) {
		if ((result = read_one(q, list->at, &next)) != HOST_OK)
			return result;
		list->ended = next == list->end;
		list->circles = !list->ended && next == list->mark;
		if (list->ended || list->circles)
			return HOST_OK;
		if (!next)
			return HOST_NULL;
		entries[(*q->done)++] = next;
		list->at = next + list->offset;
		if (++list->steps == list->to_mark) {
			list->mark = next;
			list->to_mark *= 2;
			list->steps = 0;
		}
	}
	return HOST_OK;
}

static int
put_read(struct question *q)
{
	if (q->task && !(tt->current = task_to_context(q->task)))
		return HOST_ERROR;
	return q->read(q);
}

static int
ask_memory(struct question *q)
{
	struct task_context *current = tt->current;
	int result = ask(q);

	if (q->task && result != HOST_WRONG_THREAD)
		tt->current = current;
	return result;
}

#define READ(...) ask_memory(&(struct question){ put_read, __VA_ARGS__ })

int
host_readmem(uint64_t address, int memtype, uint64_t task, int machine, void *buffer,
	long size, char *what)
{
	return READ(read_the_one, .address = address, .memtype = memtype, .task = task,
		.machine = machine, .buffer = buffer, .length = size, .name = what);
}

int
host_read_many(uint64_t *addresses, long count, int memtype, uint64_t task, void *buffer,
	long size, char *what, long *done)
{
	*done = 0;
	return READ(read_many, .addresses = addresses, .count = count,
		.memtype = memtype, .task = task, .buffer = buffer, .length = size, .name = what,
		.done = done);
}

int
host_read_list(struct host_list *list, int memtype, uint64_t task, uint64_t *entries,
	long count, char *what, long *done)
{
	*done = 0;
	return READ(read_list, .list = list, .count = count, .memtype = memtype,
		.task = task, .buffer = entries, .length = sizeof(*entries), .name = what,
		.done = done);
}

static int
put_task(struct question *q)
{
	return task_to_context(q->task) ? HOST_OK : HOST_ERROR;
}

int
host_task(uint64_t task)
{
	return ASK(put_task, .task = task);
}

static int
put_translate(struct question *q)
{
	struct task_context *tc = q->task ? task_to_context(q->task) : NULL;
	physaddr_t physical = 0;
	int mapped = q->user ? tc && uvtop(tc, q->address, &physical, 0) :
		kvtop(tc, q->address, &physical, 0);

	*q->value = physical;
	return mapped ? HOST_OK : HOST_ERROR;
}

int
host_translate(uint64_t address, int user, uint64_t task, uint64_t *physical)
{
	return ASK(put_translate, .address = address, .user = user, .task = task,
		.value = physical);
}

static int
put_symbol(struct question *q)
{
	struct syment *symbol = symbol_search(q->name);

	if (!symbol)
		return HOST_ERROR;
	*q->value = symbol->value;
	return HOST_OK;
}

int
host_symbol(char *name, uint64_t *value)
{
	return ASK(put_symbol, .name = name, .value = value);
}

static int
put_symbol_near(struct question *q)
{
	ulong offset = 0;
	struct syment *symbol = value_search(q->address, &offset);

	if (!symbol)
		return HOST_ERROR;
	*q->found = symbol->name;
	*q->value = offset;
	return HOST_OK;
}

int
host_symbol_near(uint64_t address, char **name, uint64_t *offset)
{
	return ASK(put_symbol_near, .address = address, .found = name, .value = offset);
}

static int
put_module_of(struct question *q)
{
	struct load_module *module = NULL;

	if (!module_symbol(q->address, NULL, &module, NULL, 0) || !module)
		return HOST_ERROR;
	*q->found = module->mod_name;
	return HOST_OK;
}

int
host_module_of(uint64_t address, char **name)
{
	return ASK(put_module_of, .address = address, .found = name);
}

static int
put_datatype(struct question *q)
{
	*q->size = *q->offset = *q->member_size = -1;
	if (!q->member)
		*q->size = STRUCT_SIZE(q->name);
	else if ((*q->offset = MEMBER_OFFSET(q->name, q->member)) >= 0)
		*q->member_size = MEMBER_SIZE(q->name, q->member);
	return HOST_OK;
}

int
host_datatype(char *type, char *member, long *size, long *offset, long *member_size)
{
	return ASK(put_datatype, .name = type, .member = member, .size = size,
		.offset = offset, .member_size = member_size);
}
