#include <stdlib.h>

#include "lib/address.h"
#include "lib/conf.h"
#include "lib/mem.h"
#include "proxy/engine_ldap.h"

/* One question to the table may take this many searches, and this many times
 * the timeout: a group of groups is walked member by member. */
#define LDAP_SEARCHES_MAX	10000u
#define LDAP_QUERY_TIMEOUTS	6
/* A connection that breaks sooner was an old one that the server ended. */
#define LDAP_PROMPT_US		1000000

struct ldap {
	struct ldap_conf conf;
	struct ldap_conn conn;
	struct engine_format *format;
	bool base_of_key;	/* search_base has conversions */
};

/* A search to be done. */
struct ldap_job {
	char *base, *filter;
	char *range;		/* attribute with ";range="; NULL: those of */
	uint64_t attrs;		/* the table, one bit each */
	int scope;
	unsigned depth;
};

/* One question. */
struct ldap_walk {
	struct ldap *table;
	struct view key;
	struct buf *value;
	struct buf *err;
	unsigned n_results;
	struct ldap_job *jobs;	/* those done stay: nothing is done twice */
	size_t n_jobs, cap;
	struct mono until;
};

static void
ldap_close(void *h)
{
	struct ldap *t = h;

	ldap_conn_close(&t->conn);
	ldap_conf_free(&t->conf);
	engine_format_free(&t->format);
	free(t);
}

static bool
ldap_open_table(const struct engine_conf *c, void **ret, struct buf *err)
{
	struct ldap *t = mem_alloc(sizeof(*t));
	const char *p;

	t->format = engine_format_new(c, "query_filter",
	    "(mailacceptinggeneralid=%s)");
	ldap_conf_read(&t->conf, c);
	if (t->conf.attrs[0] == NULL)
		engine_conf_wrong(c, "result_attribute: no attribute");
	t->conn.conf = &t->conf;
	for (p = t->conf.base; (p = strchr(p, '%')) != NULL; p += 2) {
		if (p[1] == '\0')
			break;
		if (p[1] != '%')
			t->base_of_key = true;
	}
	if (engine_conf_mistakes(c).n > 0 || t->format == NULL) {
		(void)buf_putv(err, engine_conf_mistakes(c));
		ldap_close(t);
		return false;
	}
	*ret = t;
	return true;
}

/* RFC 4515 section 3: what has a meaning in a filter is written in hex. */
static bool
ldap_quote_filter(struct view text, struct buf *out, void *arg)
{
	size_t i;
	bool ok;

	(void)arg;
	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '\0' || strchr("*()\\", text.p[i]) != NULL)
			ok = buf_printf(out, "\\%02x",
			    (unsigned char)text.p[i]);
		else
			ok = buf_putc(out, text.p[i]);
		if (!ok)
			return false;
	}
	return true;
}

/* RFC 4514 section 2.4: in hex is whatever is no letter, digit or one of a
 * few that never mean anything; it may be so for every byte. */
static bool
ldap_quote_dn(struct view text, struct buf *out, void *arg)
{
	unsigned char ch;
	size_t i;
	bool ok;

	(void)arg;
	for (i = 0; i < text.n; i++) {
		ch = (unsigned char)text.p[i];
		if (ch > 127 || isalnum(ch) || strchr("@._-", ch) != NULL)
			ok = buf_putc(out, text.p[i]);
		else
			ok = buf_printf(out, "\\%02x", ch);
		if (!ok)
			return false;
	}
	return true;
}

static void
ldap_job_clear(struct ldap_job *j)
{
	free(j->base);
	free(j->filter);
	free(j->range);
}

static bool
ldap_job_same(const struct ldap_job *a, const struct ldap_job *b)
{
	return a->scope == b->scope && (a->range == NULL) ==
	    (b->range == NULL) && strcasecmp(a->base, b->base) == 0 &&
	    strcasecmp(a->filter, b->filter) == 0 && (a->range == NULL ||
	    strcasecmp(a->range, b->range) == 0);
}

/* Takes j over.  What was searched already is not searched again, so groups
 * that are members of each other end. */
static enum engine_answer
ldap_walk_add(struct ldap_walk *w, struct ldap_job *j)
{
	size_t i;

	for (i = 0; i < w->n_jobs; i++) {
		if (ldap_job_same(&w->jobs[i], j)) {
			ldap_job_clear(j);
			return ENGINE_FOUND;
		}
	}
	if (j->depth > w->table->conf.recursion_limit ||
	    w->n_jobs == LDAP_SEARCHES_MAX) {
		(void)buf_printf(w->err, "%s at %.200s", w->n_jobs ==
		    LDAP_SEARCHES_MAX ? "too many entries to follow" :
		    "over recursion_limit", j->base);
		ldap_job_clear(j);
		return ENGINE_TEMPORARY;
	}
	if (w->n_jobs == w->cap) {
		w->cap = w->cap > 0 ? 2 * w->cap : 16;
		w->jobs = mem_resize(w->jobs, w->cap, sizeof(*w->jobs));
	}
	w->jobs[w->n_jobs++] = *j;
	return ENGINE_FOUND;
}

/* The attributes that both the table and a URL name. */
static uint64_t
ldap_url_attrs(const struct ldap_conf *conf, char **attrs)
{
	uint64_t set = 0;
	size_t i, j;

	if (attrs == NULL || attrs[0] == NULL)
		return UINT64_MAX;
	for (i = 0; conf->attrs[i] != NULL; i++)
		for (j = 0; attrs[j] != NULL; j++)
			if (strcmp(attrs[j], "*") == 0 ||
			    strcasecmp(attrs[j], conf->attrs[i]) == 0)
				set |= UINT64_C(1) << i;
	return set;
}

/* A value of special_result_attribute: a DN, or a URL, of which the server's
 * name is not used. */
static enum engine_answer
ldap_walk_follow(struct ldap_walk *w, const struct ldap_job *from,
    struct view text)
{
	struct ldap_job j = { .attrs = UINT64_MAX, .depth = from->depth + 1,
	    .scope = LDAP_SCOPE_BASE };
	LDAPURLDesc *url = NULL;
	char *copy = mem_copy(text);

	if (strlen(copy) != text.n) {
		(void)buf_puts(w->err, "a DN with a NUL byte");
		free(copy);
		return ENGINE_TEMPORARY;
	}
	if (!ldap_is_ldap_url(copy)) {
		j.base = copy;
		j.filter = mem_strdup("(objectClass=*)");
		return ldap_walk_add(w, &j);
	}
	if (ldap_url_parse(copy, &url) != LDAP_URL_SUCCESS) {
		(void)buf_printf(w->err, "not a URL: %.200s", copy);
		free(copy);
		return ENGINE_TEMPORARY;
	}
	free(copy);
	j.base = mem_strdup(url->lud_dn != NULL ? url->lud_dn : "");
	j.filter = mem_strdup(url->lud_filter != NULL ? url->lud_filter :
	    "(objectClass=*)");
	if (url->lud_scope != LDAP_SCOPE_DEFAULT)
		j.scope = url->lud_scope;
	j.attrs = ldap_url_attrs(&w->table->conf, url->lud_attrs);
	ldap_free_urldesc(url);
	if (j.attrs != 0)
		return ldap_walk_add(w, &j);
	ldap_job_clear(&j);
	return ENGINE_FOUND;
}

/*
 * Active Directory gives 1,500 values of an attribute at a time, as
 * "member;range=0-1499"; the next are asked for as "member;range=1500-*", the
 * last come with "*" as their end.
 */
static enum engine_answer
ldap_walk_range(struct ldap_walk *w, const struct ldap_job *from,
    LDAPMessage *entry, const char *attr)
{
	static const char mark[] = ";range=";
	struct ldap_job j = { .attrs = from->attrs, .depth = from->depth,
	    .scope = LDAP_SCOPE_BASE };
	const char *range = strcasestr(attr, mark), *dash;
	int64_t last;
	char *dn;

	if (range == NULL || (dash = strchr(range, '-')) == NULL ||
	    !conf_parse_int(view_of(dash + 1), 0, INT32_MAX, &last))
		return ENGINE_FOUND;
	dn = ldap_get_dn(w->table->conn.ld, entry);
	if (dn == NULL)
		return ENGINE_TEMPORARY;
	j.base = mem_strdup(dn);
	ldap_memfree(dn);
	j.filter = mem_strdup("(objectClass=*)");
	j.range = mem_printf("%.*s;range=%lld-*", (int)(range - attr), attr,
	    (long long)last + 1);
	return ldap_walk_add(w, &j);
}

/* The values of one attribute. */
static enum engine_answer
ldap_walk_values(struct ldap_walk *w, const struct ldap_job *j,
    LDAPMessage *entry, const char *attr, enum ldap_attr_kind kind)
{
	struct berval **vals = ldap_get_values_len(w->table->conn.ld, entry,
	    attr);
	enum engine_answer a = ENGINE_FOUND;
	struct view v;
	size_t i;

	for (i = 0; vals != NULL && vals[i] != NULL && a == ENGINE_FOUND;
	    i++) {
		v = view_make(vals[i]->bv_val, vals[i]->bv_len);
		if (kind == LDAP_ATTR_SPECIAL) {
			a = ldap_walk_follow(w, j, v);
		} else if (v.n > 0 && memchr(v.p, '\0', v.n) != NULL) {
			(void)buf_printf(w->err, "%.100s: a value with a NUL "
			    "byte", attr);
			a = ENGINE_TEMPORARY;
		} else {
			a = engine_format_result(w->table->format, w->key, v,
			    &w->n_results, w->value, w->err);
		}
	}
	ldap_value_free_len(vals);
	if (a == ENGINE_FOUND)
		a = ldap_walk_range(w, j, entry, attr);
	return a;
}

/* Which kinds of attributes has the entry, with at least one value? */
static unsigned
ldap_walk_kinds(struct ldap_walk *w, LDAPMessage *entry)
{
	LDAP *ld = w->table->conn.ld;
	struct berval **vals;
	BerElement *ber = NULL;
	unsigned kinds = 0;
	char *attr;

	for (attr = ldap_first_attribute(ld, entry, &ber); attr != NULL;
	    attr = ldap_next_attribute(ld, entry, ber)) {
		vals = ldap_get_values_len(ld, entry, attr);
		if (vals != NULL && vals[0] != NULL)
			kinds |= 1u << ldap_conf_kind(&w->table->conf,
			    view_of(attr));
		ldap_value_free_len(vals);
		ldap_memfree(attr);
	}
	ber_free(ber, 0);
	return kinds;
}

static bool
ldap_kind_counts(enum ldap_attr_kind kind, unsigned kinds)
{
	bool terminal = (kinds & 1u << LDAP_ATTR_TERMINAL) != 0;
	bool special = (kinds & 1u << LDAP_ATTR_SPECIAL) != 0;

	switch (kind) {
	case LDAP_ATTR_TERMINAL:
		return true;
	case LDAP_ATTR_RESULT:
	case LDAP_ATTR_SPECIAL:
		return !terminal;
	case LDAP_ATTR_LEAF:
		return !terminal && !special;
	case LDAP_ATTR_NONE:
	default:
		return false;
	}
}

static enum engine_answer
ldap_walk_entry(struct ldap_walk *w, const struct ldap_job *j,
    LDAPMessage *entry)
{
	LDAP *ld = w->table->conn.ld;
	unsigned kinds = ldap_walk_kinds(w, entry);
	enum engine_answer a = ENGINE_FOUND;
	enum ldap_attr_kind kind;
	BerElement *ber = NULL;
	char *attr;

	for (attr = ldap_first_attribute(ld, entry, &ber); attr != NULL;
	    attr = ldap_next_attribute(ld, entry, ber)) {
		kind = ldap_conf_kind(&w->table->conf, view_of(attr));
		if (a == ENGINE_FOUND && ldap_kind_counts(kind, kinds))
			a = ldap_walk_values(w, j, entry, attr, kind);
		ldap_memfree(attr);
	}
	ber_free(ber, 0);
	return a;
}

/* How a search ended.  ENGINE_NONE: the server is to blame. */
static enum engine_answer
ldap_walk_outcome(struct ldap_walk *w, const struct ldap_job *j, int rc)
{
	if (rc == LDAP_SUCCESS)
		return ENGINE_FOUND;
	/* A member that is gone; or a base made of the key. */
	if (rc == LDAP_NO_SUCH_OBJECT &&
	    (j->depth > 0 || w->table->base_of_key))
		return ENGINE_FOUND;
	(void)buf_printf(w->err, "%s%s: search at \"%.150s\": %s",
	    w->err->n > 0 ? "; " : "",
	    w->table->conf.servers[w->table->conn.server], j->base,
	    ldap_err2string(rc));
	if (ldap_conn_broken(rc))
		return ENGINE_NONE;
	return rc == LDAP_FILTER_ERROR ? ENGINE_WRONG : ENGINE_TEMPORARY;
}

/* Wait for the next message of search id; its type, or 0 with *ret_rc. */
static int
ldap_walk_wait(struct ldap_walk *w, int id, struct mono until,
    LDAPMessage **ret, int *ret_rc)
{
	int64_t left = until.us - clock_mono().us;
	struct timeval wait = { left / 1000000, left % 1000000 };
	LDAP *ld = w->table->conn.ld;
	int type = left > 0 ? ldap_result(ld, id, LDAP_MSG_ONE, &wait, ret) :
	    0;

	if (type > 0)
		return type;
	*ret_rc = LDAP_TIMEOUT;
	if (type < 0) {
		(void)ldap_get_option(ld, LDAP_OPT_RESULT_CODE, ret_rc);
		if (*ret_rc == LDAP_SUCCESS)
			*ret_rc = LDAP_SERVER_DOWN;
	}
	return 0;
}

/* Take what comes for search id, entry by entry. */
static enum engine_answer
ldap_walk_read(struct ldap_walk *w, const struct ldap_job *j, int id)
{
	LDAP *ld = w->table->conn.ld;
	struct mono until = ldap_conn_begin(&w->table->conn);
	unsigned limit = w->table->conf.size_limit, n = 0;
	enum engine_answer a = ENGINE_FOUND;
	LDAPMessage *msg = NULL;
	int rc, type, result;

	while (a == ENGINE_FOUND) {
		type = ldap_walk_wait(w, id, until, &msg, &rc);
		if (type == 0)
			return ldap_walk_outcome(w, j, rc);
		if (type == LDAP_RES_SEARCH_RESULT) {
			rc = ldap_parse_result(ld, msg, &result, NULL, NULL,
			    NULL, NULL, 1);
			return ldap_walk_outcome(w, j, rc != LDAP_SUCCESS ?
			    rc : result);
		}
		if (type == LDAP_RES_SEARCH_ENTRY && limit > 0 &&
		    ++n > limit) {
			(void)buf_puts(w->err, "over size_limit");
			a = ENGINE_TEMPORARY;
		} else if (type == LDAP_RES_SEARCH_ENTRY) {
			a = ldap_walk_entry(w, j, msg);
		}
		(void)ldap_msgfree(msg);
		msg = NULL;
	}
	(void)ldap_abandon_ext(ld, id, NULL, NULL);
	return a;
}

static enum engine_answer
ldap_walk_search(struct ldap_walk *w, size_t at)
{
	/* A copy, because the list grows meanwhile; the texts stay. */
	struct ldap_job j = w->jobs[at];
	struct ldap_conf *conf = &w->table->conf;
	struct timeval wait = ldap_conn_timeout(conf);
	char *attrs[LDAP_ATTRS_MAX + 1] = { NULL };
	size_t i, n = 0;
	int rc, id;

	for (i = 0; conf->attrs[i] != NULL && j.range == NULL; i++)
		if ((j.attrs >> i & 1) != 0)
			attrs[n++] = conf->attrs[i];
	if (j.range != NULL)
		attrs[n++] = j.range;
	(void)ldap_conn_begin(&w->table->conn);
	rc = ldap_search_ext(w->table->conn.ld, j.base, j.scope, j.filter,
	    attrs, 0, NULL, NULL, &wait, (int)conf->size_limit, &id);
	if (rc != LDAP_SUCCESS)
		return ldap_walk_outcome(w, &j, rc);
	return ldap_walk_read(w, &j, id);
}

static enum engine_answer
ldap_walk_run(struct ldap_walk *w)
{
	enum engine_answer a = ENGINE_FOUND;
	size_t i;

	for (i = 0; i < w->n_jobs && a == ENGINE_FOUND; i++) {
		if (clock_mono().us > w->until.us) {
			(void)buf_puts(w->err, "took too long");
			return ENGINE_TEMPORARY;
		}
		a = ldap_walk_search(w, i);
	}
	if (a == ENGINE_FOUND && w->value->n == 0)
		a = ENGINE_NOT_FOUND;
	return a;
}

/* The first search.  ENGINE_FOUND: it is in the list. */
static enum engine_answer
ldap_walk_start(struct ldap_walk *w)
{
	struct ldap *t = w->table;
	struct buf base, filter;
	bool fits, wanted = true, also = true;
	struct ldap_job j = { .attrs = UINT64_MAX, .scope = t->conf.scope };

	buf_init(&base, ENGINE_QUERY_MAX);
	buf_init(&filter, ENGINE_QUERY_MAX);
	fits = engine_format_template(t->conf.base, w->key, ldap_quote_dn,
	    NULL, &base, &wanted) && engine_format_query(t->format, w->key,
	    ldap_quote_filter, NULL, &filter, &also);
	if (fits && wanted && also) {
		j.base = mem_strdup(buf_cstr(&base));
		j.filter = mem_strdup(buf_cstr(&filter));
	}
	buf_free(&base);
	buf_free(&filter);
	if (!fits) {
		(void)buf_puts(w->err, "the query is too long");
		return ENGINE_TEMPORARY;
	}
	return j.base == NULL ? ENGINE_NOT_FOUND : ldap_walk_add(w, &j);
}

static void
ldap_walk_clear(struct ldap_walk *w)
{
	size_t i;

	for (i = 0; i < w->n_jobs; i++)
		ldap_job_clear(&w->jobs[i]);
	free(w->jobs);
	w->jobs = NULL;
	w->n_jobs = w->cap = 0;
	w->n_results = 0;
}

/* Ask one server.  ENGINE_NONE: it failed. */
static enum engine_answer
ldap_ask(struct ldap_walk *w)
{
	struct ldap *t = w->table;
	bool fresh = t->conn.ld == NULL;
	struct mono start = clock_mono();
	size_t noted = w->err->n;
	enum engine_answer a;

	a = ldap_walk_start(w);
	if (a != ENGINE_FOUND)
		return a;
	if (!ldap_conn_open(&t->conn, w->err))
		return ENGINE_TEMPORARY;
	a = ldap_walk_run(w);
	if (a != ENGINE_NONE)
		return a;
	if (fresh || mono_since(start, clock_mono()) > LDAP_PROMPT_US) {
		ldap_conn_down(&t->conn);
	} else {
		/* An old connection; a new one may do. */
		w->err->n = noted;
		ldap_conn_close(&t->conn);
	}
	return ENGINE_NONE;
}

static enum engine_answer
ldap_query(void *h, struct view key, struct buf *ret_value, struct buf *err)
{
	struct ldap *t = h;
	struct ldap_walk w = { .table = t, .key = key, .value = ret_value,
	    .err = err };
	enum engine_answer a = ENGINE_NONE;
	size_t i;

	if (!address_utf8(key, NULL) || (key.n > 0 &&
	    memchr(key.p, '\0', key.n) != NULL) ||
	    !engine_format_wants(t->format, key))
		return ENGINE_NOT_FOUND;
	w.until.us = clock_mono().us +
	    t->conf.timeout_ms * 1000 * LDAP_QUERY_TIMEOUTS;
	for (i = 0; i <= t->conf.n_servers && a == ENGINE_NONE; i++) {
		a = ldap_ask(&w);
		ldap_walk_clear(&w);
		if (a != ENGINE_FOUND)
			buf_clear(ret_value);
	}
	return a == ENGINE_NONE ? ENGINE_TEMPORARY : a;
}

const struct lookup_engine engine = {
	.type = "ldap", .open = ldap_open_table, .query = ldap_query,
	.close = ldap_close,
	/* Names of servers, certificates. */
	.sees_files = true,
};
