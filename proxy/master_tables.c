#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/mem.h"
#include "proxy/master_plan.h"
#include "rules/table_remote.h"

#define TABLES_MAX	65536u	/* bytes of names, of one type */

struct tables {
	struct buf *names;	/* by service: "lookup_tables=a b" */
	size_t n;
	bool full;
};

static void
tables_name(uint32_t service, struct view table, void *arg)
{
	struct tables *t = arg;
	struct buf *b = &t->names[service];
	struct view rest = buf_view(b), word;

	if (b->n == 0)
		(void)buf_puts(b, "lookup_tables=");
	rest = view_from(buf_view(b), strlen("lookup_tables="));
	while ((word = view_word(&rest, " ")).n > 0)
		if (view_eq(word, table))
			return;
	if (!buf_putc(b, ' ') || !buf_putv(b, table))
		t->full = true;
}

/* All values: a table may be named in a parameter that the user made. */
static void
tables_of_conf(struct tables *t, const struct conf *cf)
{
	const char *text;
	size_t i;

	for (i = 0; i < cf->source->n; i++) {
		text = conf_text(cf, cf->source->list[i].name);
		if (text != NULL)
			table_remote_names(view_of(text), tables_name, t);
	}
}

static void
tables_of_services(struct tables *t, const struct conf *cf,
    const struct service_table *s)
{
	const char *value;
	size_t i, k;

	for (i = 0; i < s->n; i++)
		for (k = 0; k < s->list[i].n_overrides; k++) {
			value = strchr(s->list[i].overrides[k], '=');
			if (value != NULL)
				table_remote_names(view_of(conf_expand(cf,
				    value + 1)), tables_name, t);
		}
}

void
plan_add_tables(struct plan *p, const struct conf *cf,
    const struct service_table *s, const struct reporter *r)
{
	struct tables t = { .n = 0 };
	struct plan_entry *e;
	uint32_t i;

	while (table_remote_type((uint32_t)t.n + 1) != NULL)
		t.n++;
	t.names = mem_array(t.n + 1, sizeof *t.names);
	for (i = 0; i <= t.n; i++)
		buf_init(&t.names[i], TABLES_MAX);
	tables_of_conf(&t, cf);
	tables_of_services(&t, cf, s);
	if (t.full)
		report_error(r, "too many tables behind connections");
	p->tables = mem_array(t.n + 1, sizeof *p->tables);
	p->n_tables = t.n + 1;
	for (i = 1; i <= t.n; i++) {
		if (t.names[i].n == 0)
			continue;
		p->tables[i].settings = mem_copy(buf_view(&t.names[i]));
		p->tables[i].program = mem_printf("lookup-%s",
		    table_remote_type(i));
		p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
		e = &p->list[p->n++];
		/* Host names are resolved, sockets found, by the libraries,
		 * so there is no other root directory. */
		*e = (struct plan_entry){ .kind = ROLE_TABLE, .service = i,
			.name = p->tables[i].program, .count = 1,
			.overrides = &p->tables[i].settings,
			.n_overrides = 1 };
	}
	for (i = 0; i <= t.n; i++)
		buf_free(&t.names[i]);
	free(t.names);
}

const char *
plan_program(const struct plan_entry *e)
{
	return e->kind == ROLE_TABLE ? e->name : role_kind_name(e->kind);
}
