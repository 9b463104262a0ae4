/*
 * Messages whose way depends on a table behind a connection: each answer is
 * waited for before they become active, and then the way is worked out again.
 * Their place in the active queue is reserved.
 */
#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/table_ask.h"

static struct message *asking;
static unsigned n_asking;

static void
tables_unlist(struct message *m)
{
	struct message **p;

	for (p = &asking; *p != m; p = &(*p)->next)
		ensure(*p != NULL);
	*p = m->next;
	m->next = NULL;
	n_asking--;
}

static void
tables_told(void *arg)
{
	struct message *m = arg;

	m->tables_asking = NULL;
	tables_unlist(m);
	message_activate(m);
}

bool
tables_ask(struct message *m)
{
	struct table_need need;

	if (table_remote_opened() == 0)
		return false;
	if (m->tables == NULL)
		m->tables = table_known_gather();
	table_known_begin(m->tables);
	resolve_rehearse(m);
	if (!table_known_end(m->tables, &need))
		return false;
	m->tables_asking = table_ask_all(m->tables, tables_told, m);
	m->next = asking;
	asking = m;
	n_asking++;
	return true;
}

void
tables_unwait(struct message *m)
{
	if (m->tables_asking == NULL)
		return;
	table_ask_cancel(&m->tables_asking);
	tables_unlist(m);
}

void
tables_forget(struct message *m)
{
	tables_unwait(m);
	table_known_free(&m->tables);
}

void
tables_stop(void)
{
	struct message *m;

	while ((m = asking) != NULL)
		message_free(&m);
}

unsigned
tables_asking(void)
{
	return n_asking;
}
