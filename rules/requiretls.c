#include <stdlib.h>

#include "lib/conf.h"
#include "rules/requiretls.h"
#include "rules/tls_policy.h"

#define LIST_MAX	65536u
#define VALUE_MAX	1024u

bool
requiretls_policy_parse(struct view word, enum requiretls_policy *ret)
{
	static const char *const words[] = {
		[REQUIRETLS_DISABLE] = "disable",
		[REQUIRETLS_OPPORTUNISTIC] = "opportunistic",
		[REQUIRETLS_STARTTLS] = "opportunistic+starttls",
		[REQUIRETLS_ENFORCE] = "enforce",
	};
	size_t i;

	for (i = REQUIRETLS_DISABLE; i <= REQUIRETLS_ENFORCE; i++)
		if (view_is_nocase(word, words[i])) {
			*ret = (enum requiretls_policy)i;
			return true;
		}
	return false;
}

/* -- the list -------------------------------------------------------------- */

struct checking_results {
	const struct table *table;
	table_report *report;
	void *arg;
	bool ok;
};

static void
list_bad(struct checking_results *c, const char *where, unsigned line,
    struct view word)
{
	struct buf b;

	buf_init(&b, 2000);
	(void)buf_printf(&b, "%s", where);
	if (line > 0)
		(void)buf_printf(&b, ":%u", line);
	(void)buf_printf(&b, ": unknown REQUIRETLS policy \"%.*s\"",
	    VIEW_ARGS(view_head(word, 100)));
	c->report(true, buf_cstr(&b), c->arg);
	buf_free(&b);
	c->ok = false;
}

static void
list_result(struct view result, unsigned line, void *arg)
{
	struct checking_results *c = arg;
	enum requiretls_policy p;

	if (!requiretls_policy_parse(view_trim(result), &p))
		list_bad(c, table_origin(c->table), line, result);
}

bool
requiretls_open(const char *list, const char *config_dir,
    struct table_list *ret, table_report *report, void *arg)
{
	struct checking_results c = { .report = report, .arg = arg,
		.ok = true };
	struct view rest = view_of(list), word;
	enum requiretls_policy p;
	struct buf specs;
	size_t i;

	*ret = (struct table_list){ 0 };
	buf_init(&specs, LIST_MAX);
	while (c.ok && (word = conf_word(&rest)).n > 0) {
		if (view_find(word, ':') < word.n)
			c.ok = buf_putv(&specs, word);
		else if (requiretls_policy_parse(word, &p))
			c.ok = buf_puts(&specs, "static:") &&
			    buf_putv(&specs, word);
		else
			list_bad(&c, "smtp_requiretls_policy", 0, word);
		c.ok = c.ok && buf_putc(&specs, ' ');
	}
	c.ok = c.ok && table_list_open(buf_cstr(&specs), config_dir, ret,
	    report, arg);
	for (i = 0; c.ok && i < ret->n; i++) {
		c.table = ret->list[i];
		table_each_result(c.table, list_result, &c);
	}
	if (!c.ok)
		table_list_free(ret);
	buf_free(&specs);
	return c.ok;
}

bool
requiretls_find(const struct table_list *l, struct view hop,
    enum requiretls_policy *ret, const struct table **ret_table)
{
	enum table_answer a = TABLE_NOT_FOUND;
	struct table_list one = { .n = 1 };
	struct buf value;
	unsigned line;
	size_t i;
	bool ok;

	buf_init(&value, VALUE_MAX);
	for (i = 0; i < l->n && a == TABLE_NOT_FOUND; i++) {
		one.list = &l->list[i];
		*ret_table = l->list[i];
		a = tls_policy_find(&one, hop, &value, ret_table, &line);
	}
	*ret = REQUIRETLS_ENFORCE;
	ok = a == TABLE_NOT_FOUND || (a == TABLE_FOUND &&
	    requiretls_policy_parse(view_trim(buf_view(&value)), ret));
	buf_free(&value);
	return ok;
}

/* -- sessions -------------------------------------------------------------- */

/*
 * Section 4.2.1: the way to the server is proven, by DNSSEC, by MTA-STS or by
 * what is configured, and so is the server.  With halfdane the former is
 * missing.
 */
static bool
session_proven(const struct requiretls_session *s)
{
	return s->held > TLS_LEVEL_ENCRYPT && s->held != TLS_LEVEL_HALFDANE;
}

const char *
requiretls_lacks(const struct requiretls_session *s)
{
	return !s->tls ? "nostarttls" : !s->offered ? "none" :
	    !session_proven(s) ? "nocertmatch" : NULL;
}

bool
requiretls_allows(enum requiretls_policy p,
    const struct requiretls_session *s)
{
	switch (p) {
	case REQUIRETLS_OFF:
	case REQUIRETLS_DISABLE:
	case REQUIRETLS_OPPORTUNISTIC:
		return true;
	case REQUIRETLS_STARTTLS:
		return s->tls;
	case REQUIRETLS_ENFORCE:
		break;
	}
	return requiretls_lacks(s) == NULL;
}

bool
requiretls_asks(enum requiretls_policy p, const struct requiretls_session *s)
{
	return p > REQUIRETLS_DISABLE && s->tls && s->offered;
}
