/* swapper A B: exchange two names, over and over, until killed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int count, char **words)
{
	if (count < 3)
		return 2;
	for (;;)
		renameat2(AT_FDCWD, words[1], AT_FDCWD, words[2], RENAME_EXCHANGE);
}
