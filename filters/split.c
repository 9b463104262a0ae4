#include <stdlib.h>

#include "filters/split.h"
#include "lib/log.h"
#include "lib/own_addr.h"
#include "rules/table_remote.h"

#define VALUE_MAX	4096u
#define COPIES_MAX	16384u

/* -- the maps ------------------------------------------------------------- */

struct map_check {
	const struct table *table;
	const struct rulesets *sets;
	table_report *report;
	void *arg;
	bool ok;
};

static void
map_check(struct view result, unsigned line, void *arg)
{
	struct map_check *c = arg;
	struct view name = view_trim(result);
	char *text;
	size_t i;

	if (rulesets_find(c->sets, name, &i))
		return;
	c->ok = false;
	text = mem_printf("%s:%u: no such class in filter_policy_classes: "
	    "\"%.*s\"", table_origin(c->table), line,
	    VIEW_ARGS(view_head(name, 200)));
	c->report(true, text, c->arg);
	free(text);
}

static bool
maps_open(struct split *s, const struct conf *cf, table_report *report,
    void *arg)
{
	struct map_check c = { NULL, s->sets, report, arg, true };
	size_t i;

	if (!table_list_open(cf->filter_policy_maps, cf->config_directory,
	    &s->maps, report, arg))
		return false;
	for (i = 0; i < s->maps.n; i++) {
		c.table = s->maps.list[i];
		table_each_result(c.table, map_check, &c);
	}
	return c.ok;
}

bool
split_open(struct split *s, const struct conf *cf,
    const struct rulesets *sets, table_report *report, void *arg)
{
	struct netaddr *own;
	bool ok;

	*s = (struct split){ .sets = sets };
	buf_init(&s->value, VALUE_MAX);
	buf_init(&s->copies, COPIES_MAX);
	ok = maps_open(s, cf, report, arg);
	if (ok && s->maps.n > 0) {
		own = mem_array(OWN_ADDR_MAX, sizeof *own);
		s->classes = classes_open(cf, own,
		    own_addresses(cf, own, OWN_ADDR_MAX), report, arg);
		free(own);
		ok = s->classes != NULL;
		s->keys = addr_keys_of(cf, s->classes);
	}
	if (!ok)
		split_free(s);
	return ok;
}

void
split_free(struct split *s)
{
	table_list_free(&s->maps);
	classes_free(&s->classes);
	buf_free(&s->value);
	buf_free(&s->copies);
	free(s->set);
	s->set = NULL;
}

/* -- recipients ----------------------------------------------------------- */

static bool
recipient_set(struct split *s, struct view addr, const char *id,
    uint8_t *ret)
{
	struct addr_found found;
	size_t set = 0;

	switch (addr_find(&s->keys, &s->maps, addr, &s->value, &found)) {
	case TABLE_NOT_FOUND:
		break;
	case TABLE_FOUND:
		if (rulesets_find(s->sets, view_trim(buf_view(&s->value)),
		    &set))
			break;
		log_warn("%s: filter_policy_maps: %s has the class \"%s\", "
		    "which is none -- message not accepted, try again later",
		    id, log_safe(addr), log_safe(buf_view(&s->value)));
		return false;
	case TABLE_FAILED:
		if (!table_known_needs())
			log_warn("%s: filter_policy_maps lookup error for %s "
			    "-- message not accepted, try again later", id,
			    log_safe(addr));
		return false;
	}
	*ret = (uint8_t)set;
	return true;
}

enum split_answer
split_begin(struct split *s, const struct envelope *e, struct queue_id id,
    size_t *ret_set)
{
	char text[MESSAGE_NAME];
	uint32_t i;

	buf_clear(&s->copies);
	memset(s->used, 0, sizeof s->used);
	s->n_used = 0;
	if (e->nrcpts > s->cap) {
		s->set = mem_resize(s->set, e->nrcpts, sizeof *s->set);
		s->cap = e->nrcpts;
	}
	(void)envelope_name(e, id, text);
	for (i = 0; i < e->nrcpts; i++) {
		if (!recipient_set(s, e->rcpts[i].addr, text, &s->set[i]))
			return SPLIT_FAILED;
		s->n_used += !s->used[s->set[i]];
		s->used[s->set[i]] = true;
	}
	if (s->n_used > 1)
		return SPLIT_SEVERAL;
	*ret_set = e->nrcpts > 0 ? s->set[0] : 0;
	return SPLIT_ONE;
}

void
split_envelope(const struct split *s, const struct envelope *e,
    const bool sets[RULESETS_MAX], struct arena *a, struct envelope *ret,
    uint32_t **ret_index)
{
	uint32_t i;

	*ret = *e;
	ret->nrcpts = 0;
	ret->rcpts = arena_alloc(a, e->nrcpts * sizeof *ret->rcpts);
	*ret_index = arena_alloc(a, e->nrcpts * sizeof **ret_index);
	for (i = 0; i < e->nrcpts; i++)
		if (sets[s->set[i]]) {
			(*ret_index)[ret->nrcpts] = i;
			ret->rcpts[ret->nrcpts++] = e->rcpts[i];
		}
}

/* -- copies --------------------------------------------------------------- */

static bool
is_copy(const struct recipient *r)
{
	return r->notify == NOTIFY_NEVER;
}

static bool
copy_known(const struct split *s, struct view addr)
{
	struct cursor c = cursor_of(buf_view(&s->copies));

	while (cursor_left(&c) > 0)
		if (view_eq_nocase(cursor_view(&c), addr))
			return true;
	return false;
}

void
split_copies(struct split *s, struct envelope *e)
{
	uint32_t i, n = 0, left = e->nrcpts;

	for (i = 0; i < e->nrcpts; i++)
		if (is_copy(&e->rcpts[i]) && copy_known(s, e->rcpts[i].addr))
			left--;
	if (left == 0)
		return;
	for (i = 0; i < e->nrcpts; i++) {
		if (is_copy(&e->rcpts[i])) {
			if (copy_known(s, e->rcpts[i].addr))
				continue;
			/* Full: it comes twice. */
			(void)put_view(&s->copies, e->rcpts[i].addr);
		}
		e->rcpts[n++] = e->rcpts[i];
	}
	e->nrcpts = n;
}
