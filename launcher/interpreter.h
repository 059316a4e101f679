/* The interpreter that the script beside the launcher is for: installers write it into its first lines. */

#pragma once

#include "system.h"

static int contains(const char *text, const char *word)
{
	for (; *text; text++) {
		u64 i = 0;
		while (word[i] && text[i] == word[i])
			i++;
		if (!word[i])
			return 1;
	}
	return 0;
}

static const char *last_part(const char *path)
{
	const char *part = path;

	for (; *path; path++)
		if (*path == '/')
			part = path + 1;
	return part;
}

/* One line on stderr, "pyrunc: WHAT PATH: WHY", and the end. */
static __attribute__((noreturn)) void die(const char *what, const char *path, s64 error)
{
	char line[2 * PATH_SIZE];
	u64 length = 0;
	const char *why = error == -ENOENT  ? "no such file or directory" :
			  error == -EACCES  ? "permission denied" :
			  error == -ENOEXEC ? "exec format error" :
					      0;
	const char *parts[] = { "pyrunc: ", what, " ", path, ": ", why };

	for (u64 i = 0; i < 6; i++)
		for (const char *from = parts[i]; from && *from && length < sizeof(line) - 16;)
			line[length++] = *from++;
	if (!why) {
		append_number(append(line + length, "errno "), (u64)-error, 10);
		length = length_of(line);
	}
	line[length++] = '\n';
	call(NR_write, 2, line, length);
	for (;;)
		call(NR_exit_group, 1);
}

/*
 * The name of an interpreter that is beside the script, in what is left of a line that begins
 *
 *     "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
 *
 * as uv writes into environments that may be moved; 0 for any other line.
 */
static const char *beside(char *line)
{
	if (line[0] != '"' || line[1] != '$' || line[2] != '(')
		return 0;
	for (; *line && *line != '\n'; line++) {
		if (!starts_with(line, ")\"/"))
			continue;
		char *name = line + 3;
		char quote = *name == '\'' || *name == '"' ? *name++ : ' ';
		char *end = name;
		while (*end && *end != '\n' && *end != quote)
			end++;
		*end = 0;
		return name;
	}
	return 0;
}

/*
 * Read the interpreter off the script's first line into `text` and return it.
 * Installers put its path there as it is, however long and with spaces, though
 * the kernel takes neither; or, for the same cases, they write
 *
 *     #!/bin/sh
 *     '''exec' "/the/path/to/python" "$0" "$@"
 *
 * or with an interpreter beside().
 */
static const char *interpreter_in(const char *script, char *text, u64 size)
{
	static const char shell[] = "#!/bin/sh\n'''exec' ";
	s64 descriptor = call(NR_openat, AT_FDCWD, script, O_CLOEXEC);
	if (failed(descriptor))
		die("cannot open", script, descriptor);
	s64 got = call(NR_read, descriptor, text, size - 1);
	if (failed(got))
		die("cannot read", script, got);
	call(NR_close, descriptor);
	text[got] = 0;
	if (text[0] != '#' || text[1] != '!')
		die("no interpreter in the first line of", script, -ENOEXEC);

	u64 alike = 0;
	while (shell[alike] && text[alike] == shell[alike])
		alike++;
	char *path = text + 2;
	char quote = 0;
	if (!shell[alike]) {
		path = text + alike;
		const char *name = beside(path);
		if (name) {
			char copy[256];
			u64 length = 0;
			while (name[length] && length < sizeof(copy) - 1) {
				copy[length] = name[length];
				length++;
			}
			copy[length] = 0;
			append(text, script);
			append(text + (last_part(script) - script), copy);
			return text;
		}
		quote = ' ';
		if (*path == '"' || *path == '\'')
			quote = *path++;
	}
	while (*path == ' ')
		path++;
	char *end = path;
	/* What follows " -" are options; BOOTSTRAP has its own. */
	while (*end && *end != '\n' && *end != quote && !(end[0] == ' ' && end[1] == '-'))
		end++;
	while (end > path && (end[-1] == ' ' || end[-1] == '\r'))
		end--;
	*end = 0;
	if (*path != '/')
		die("no installer has put an interpreter into", script, -ENOEXEC);
	return path;
}
