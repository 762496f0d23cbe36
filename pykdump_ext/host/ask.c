/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What Python asks crash: memory, translation, symbols, types.
 *
 * All questions have one shape: a function put_...() that asks crash's code, and a struct
 * question with what it asks and where the answer goes.  ask() puts the question behind the
 * guard.  There is an answer only if the result is HOST_OK.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - readmem() (memory.c) with RETURN_ON_ERROR prints its error and returns FALSE; the error for
 *   an excluded page begins with PAGE_EXCLUDED_ERRMSG, "page excluded".
 * - While XEN_MACHINE_ADDR is in pc->curcmd_flags, xen_kdump_p2m() (xen_dom0.c) takes a
 *   physical address for a machine address.  guarded() restores these flags.
 * - STRUCT_SIZE() and MEMBER_OFFSET() (datatype_info() of symbols.c) ask gdb, and return -1 if
 *   there is no such type or member; MEMBER_SIZE() returns 0 if a type has no such member.
 * - "mod -s" sets MOD_LOAD_SYMS in the flags of a module, and "mod -d" clears it
 *   (load_module_symbols() and delete_load_module() of symbols.c).
 * - readmem() takes a user's virtual address for one of tt->current, the session's task.
 */
#include "host_internal.h"

struct question {
	int (*put)(struct question *);  /* returns a HOST_ result */
	int result;
	/* what is asked */
	uint64_t address, task;
	char *name, *member;
	int memtype, machine, user;
	void *buffer;
	long length;
	/* where the answer goes */
	uint64_t *value;
	char **found;
	long *size, *offset, *member_size;
};

static void
put_question(void *arg)
{
	struct question *q = arg;

	q->result = q->put(q);
}

static int
ask(struct question *q)
{
	int result = quietly(put_question, q);

	return result == HOST_OK ? q->result : result;
}

#define ASK(...) ask(&(struct question){ __VA_ARGS__ })

static int
put_readmem(struct question *q)
{
	if (q->machine)
		pc->curcmd_flags |= XEN_MACHINE_ADDR;
	else
		pc->curcmd_flags &= ~XEN_MACHINE_ADDR;
	if (q->task && !(tt->current = task_to_context(q->task)))
		return HOST_ERROR;
	if (readmem(q->address, q->memtype, q->buffer, q->length, q->name, RETURN_ON_ERROR))
		return HOST_OK;
	return strstr(host_message(), "page excluded") ? HOST_EXCLUDED : HOST_ERROR;
}

/* task: whose memory a user's virtual address is in; 0 for the session's own task. */
int
host_readmem(uint64_t address, int memtype, uint64_t task, int machine, void *buffer,
	long size, char *what)
{
	struct task_context *current = tt->current;
	int result = ASK(put_readmem, .address = address, .memtype = memtype, .task = task,
		.machine = machine, .buffer = buffer, .length = size, .name = what);

	if (task && result != HOST_WRONG_THREAD)
		tt->current = current;
	return result;
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

/* Not guarded: it calls nothing of crash.  FNV-1a, as good as any other. */
uint64_t
host_types_known(void)
{
	uint64_t known = 0xcbf29ce484222325;
	int i;

	known = (known ^ !(pc->flags & MINIMAL_MODE)) * 0x100000001b3;
	for (i = 0; st->load_modules && (i < kt->mods_installed); i++)
		known = (known ^ (st->load_modules[i].mod_flags & MOD_LOAD_SYMS)) *
			0x100000001b3;
	return known;
}
