/*
 * master.cf: reading never crashes, and what is read is within its limits.
 */
#include "lib/log.h"
#include "lib/master_cf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct service_table *t;
	const struct service *s;
	size_t i, j;

	t = master_cf_parse(view_make(data, size), "master.cf", NULL, NULL);
	if (t == NULL)
		return 0;
	for (i = 0; i < t->n; i++) {
		s = &t->list[i];
		ensure(s->name[0] != '\0' && s->command[0] != '\0');
		ensure(s->wakeup >= 0 && s->maxproc >= -1 && s->line > 0);
		for (j = 0; j < s->n_overrides; j++)
			ensure(strchr(s->overrides[j], '=') != NULL);
		for (j = 0; j < s->argc; j++)
			ensure(s->argv[j] != NULL);
	}
	master_cf_free(&t);
	return 0;
}
