#include <stdlib.h>

#include "lib/log.h"
#include "lib/table_client.h"
#include "rules/table_ask.h"

struct asked {
	struct table_asking *all;
	struct table_question *question;	/* NULL: answered */
};

struct table_asking {
	struct table_known *known;
	table_asked *done;
	void *arg;
	size_t n, left;
	struct asked list[TABLE_NEEDS_MAX];
};

static void
asking_told(enum table_reply reply, struct view value, void *arg)
{
	struct asked *q = arg;
	struct table_asking *a = q->all;
	table_asked *done = a->done;

	q->question = NULL;
	table_known_answer(a->known, (size_t)(q - a->list), reply, value);
	if (--a->left > 0)
		return;
	arg = a->arg;
	free(a);
	done(arg);
}

struct table_asking *
table_ask_all(struct table_known *k, table_asked *done, void *arg)
{
	struct table_asking *a = mem_alloc(sizeof *a);
	struct table_need need;

	*a = (struct table_asking){ .known = k, .done = done, .arg = arg };
	for (; table_known_need(k, a->n, &need); a->n++) {
		a->list[a->n].all = a;
		a->list[a->n].question = table_client_ask(need.service,
		    need.table, need.key, asking_told, &a->list[a->n]);
	}
	ensure(a->n > 0);
	a->left = a->n;
	return a;
}

void
table_ask_cancel(struct table_asking **ap)
{
	struct table_asking *a = *ap;

	if (a == NULL)
		return;
	*ap = NULL;
	for (size_t i = 0; i < a->n; i++)
		table_client_cancel(&a->list[i].question);
	free(a);
}
