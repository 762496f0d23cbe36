/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Functions of the C library that crash's program or a library calls, replaced: each calls them
 * through a global offset table of its own.  Where the loader has made a part of that table
 * read-only, its page is made writable for the change.
 */
#include "host_internal.h"
#include <elf.h>
#include <link.h>
#include <sys/mman.h>

struct table {
	const void *inside;
	const char *wanted;
	void *function;
	ElfW(Addr) base, read_only, read_only_end;
	const ElfW(Sym) *symbols;
	const char *names;
};

/* The address of an entry of the dynamic section, which the loader may have relocated. */
static void *
address_of(const struct table *table, const ElfW(Dyn) *entry)
{
	ElfW(Addr) address = entry->d_un.d_ptr;

	return (void *)(address < table->base ? table->base + address : address);
}

static ElfW(Addr)
page_of(ElfW(Addr) address)
{
	return address & -(ElfW(Addr))sysconf(_SC_PAGESIZE);
}

static void
put_slot(const struct table *table, void **slot, void *function)
{
	ElfW(Addr) page = page_of((ElfW(Addr))slot);
	int read_only = page >= table->read_only && page < table->read_only_end;

	if (read_only && mprotect((void *)page, sizeof(*slot), PROT_READ | PROT_WRITE))
		return;
	*slot = function;
	if (read_only)
		mprotect((void *)page, sizeof(*slot), PROT_READ);
}

static void
put_slots(const struct table *table, const ElfW(Rela) *relocation, size_t size)
{
	const ElfW(Rela) *end = (const void *)((const char *)relocation + size);

	for (; relocation && relocation < end; relocation++) {
		int type = ELF64_R_TYPE(relocation->r_info);
		void **slot = (void **)(table->base + relocation->r_offset);
		const char *name;

		if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT)
			continue;
		name = table->names + table->symbols[ELF64_R_SYM(relocation->r_info)].st_name;
		if (STREQ(name, table->wanted))
			put_slot(table, slot, table->function);
	}
}

static int
is_inside(const struct dl_phdr_info *info, const void *address)
{
	int i;

	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD &&
		    (ElfW(Addr))address - info->dlpi_addr - info->dlpi_phdr[i].p_vaddr <
		    info->dlpi_phdr[i].p_memsz)
			return TRUE;
	return FALSE;
}

/* Called for each object of the process; the first one is crash's program. */
static int
put_function(struct dl_phdr_info *info, size_t size, void *asked)
{
	struct table table = *(struct table *)asked;
	const ElfW(Dyn) *entry = NULL;
	const ElfW(Rela) *plt = NULL, *other = NULL;
	size_t plt_size = 0, other_size = 0;
	int i;

	if (table.inside && !is_inside(info, table.inside))
		return 0; /* the next object */
	table.base = info->dlpi_addr;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type == PT_DYNAMIC)
			entry = (const void *)(table.base + segment->p_vaddr);
		else if (segment->p_type == PT_GNU_RELRO) {
			/* whole pages, as the loader protects them */
			table.read_only = page_of(table.base + segment->p_vaddr);
			table.read_only_end =
				page_of(table.base + segment->p_vaddr + segment->p_memsz);
		}
	}
	for (; entry && entry->d_tag != DT_NULL; entry++)
		switch (entry->d_tag) {
		case DT_SYMTAB: table.symbols = address_of(&table, entry); break;
		case DT_STRTAB: table.names = address_of(&table, entry); break;
		case DT_JMPREL: plt = address_of(&table, entry); break;
		case DT_PLTRELSZ: plt_size = entry->d_un.d_val; break;
		case DT_RELA: other = address_of(&table, entry); break;
		case DT_RELASZ: other_size = entry->d_un.d_val; break;
		}
	if (table.symbols && table.names) {
		put_slots(&table, plt, plt_size);
		put_slots(&table, other, other_size);
	}
	return 1; /* no other object */
}

/*
 * Have an object call function wherever it calls the one of that name: the object that has the
 * address inside, or crash's program, its gdb included, for NULL.
 */
void
take_over_calls(const void *inside, const char *name, void *function)
{
	struct table asked = { inside, name, function };

	dl_iterate_phdr(put_function, &asked);
}
