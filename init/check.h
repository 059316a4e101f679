/*
 * Is this a launch program? Looked at before anything of it is carried out; init.c includes this.
 *
 * The program comes from the runtime, through a sealed-off memory file, so a malformed one means
 * that the two halves do not belong together or that memory is damaged. Nothing of it is done then.
 * What is checked is what init itself relies on: where entries, texts and cells for results lie. The
 * arguments of system calls are the kernel's to check.
 */

struct program {
	u8 *base;
	u64 size;
	struct op *ops;
	u32 count;
};

/* A text lies in the program with its end. */
static int is_text(const struct program *program, u64 address)
{
	u64 at = address - (u64)program->base;

	if (address < (u64)program->base)
		return 0;
	for (; at < program->size; at++)
		if (!program->base[at])
			return 1;
	return 0;
}

/* An array of texts, with an end: what execve(2) takes. */
static int is_text_array(const struct program *program, u64 address)
{
	u64 at = address - (u64)program->base;

	if (address < (u64)program->base || at % 8)
		return 0;
	for (; at < program->size && program->size - at >= 8; at += 8) {
		u64 text = *(u64 *)(program->base + at);
		if (!text)
			return 1;
		if (!is_text(program, text))
			return 0;
	}
	return 0;
}

/* An array of `count` things behind the entries. */
static int is_part(const struct program *program, u64 address, u64 size, u64 count)
{
	u64 at = address - (u64)program->base;

	return address >= (u64)(program->ops + program->count) && at % size == 0 &&
	       at <= program->size && count <= (program->size - at) / size;
}

/* A result goes to a cell behind the entries, or becomes the first argument of the next one. */
static int is_cell(const struct program *program, u32 index, u64 address)
{
	u64 at = address - (u64)program->base;

	if (index + 1 < program->count && program->ops[index + 1].kind == CALL &&
	    address == (u64)&program->ops[index + 1].args[0])
		return 1;
	return address >= (u64)(program->ops + program->count) && at % 8 == 0 &&
	       at < program->size && program->size - at >= 8;
}

static int is_entry(const struct program *program, u32 index)
{
	const struct op *op = &program->ops[index];

	if (op->kind > LAST_KIND || op->flags & ~(IGNORE | INDIRECT | MAY_BE_FORBIDDEN))
		return 0;
	if (op->label && !is_text(program, op->label))
		return 0;
	if (op->store && !is_cell(program, index, op->store))
		return 0;
	if (op->flags & INDIRECT && !is_part(program, op->args[0], 8, 1))
		return 0;
	if (op->kind == CLOSE_OTHERS && op->args[2] && !is_part(program, op->args[1], 4, op->args[2]))
		return 0;
	if (op->kind == OWN_PID && !is_part(program, op->args[0], 1, op->args[1]))
		return 0;
	if (op->kind == HOOK && op->args[5] && !is_part(program, op->args[5], 8, 2))
		return 0;
	if (op->kind == HOOK || op->kind == EXEC)
		return is_text(program, op->args[0]) && is_text_array(program, op->args[1]) &&
		       is_text_array(program, op->args[2]);
	return 1;
}

/* Turn offsets into addresses. One that was turned already is no offset any more. */
static int relocate(const struct program *program, const struct header *header)
{
	const u32 *relocation = (const u32 *)(header + 1);

	for (u32 i = 0; i < header->relocations; i++) {
		u32 at = relocation[i];
		if (at % 8 || at < header->ops_offset || at >= program->size ||
		    program->size - at < 8)
			return 0;
		u64 *cell = (u64 *)(program->base + at);
		if (*cell >= program->size)
			return 0;
		*cell += (u64)program->base;
	}
	return 1;
}

/* Check the program that is mapped at `base`, and make it ready. Returns whether it is one. */
static int make_ready(struct program *program)
{
	const struct header *header = (const struct header *)program->base;

	if (program->size < sizeof(*header) || header->magic != MAGIC ||
	    header->size != program->size)
		return 0;
	/* 32-bit numbers: none of these sums overflows. */
	if (sizeof(*header) + 4 * (u64)header->relocations > header->ops_offset ||
	    header->ops_offset % 8 ||
	    header->ops_offset + sizeof(struct op) * (u64)header->ops > program->size)
		return 0;
	program->ops = (struct op *)(program->base + header->ops_offset);
	program->count = header->ops;
	if (!relocate(program, header))
		return 0;
	for (u32 index = 0; index < program->count; index++)
		if (!is_entry(program, index))
			return 0;
	return 1;
}
