#include <stdlib.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "rules/addr_list.h"
#include "rules/table_impl.h"

#define LIST_MAGIC		0xadd11570u
#define LIST_FILE_DEPTH		10u	/* a file that names files */
#define LIST_VALUE_MAX		(1u << 20)

enum word_kind { WORD_NAME = 1, WORD_NET, WORD_TABLE };

struct word {
	enum word_kind kind;
	bool exclude;
	char *name;		/* WORD_NAME */
	size_t name_n;
	struct netaddr net;	/* WORD_NET */
	unsigned bits;
	struct table *table;	/* WORD_TABLE */
};

struct addr_list {
	unsigned magic;
	bool networks;		/* else domains, or words */
	bool words;
	bool parent_matches;
	struct word *list;
	size_t n, room;
	char **files;
	size_t n_files;
	/* What tables answer is not looked at, but they need somewhere to
	 * put it.  Behind a pointer, because a list is const to its users. */
	struct buf *value;
};

/* What reading needs: where words come from. */
struct reader {
	struct addr_list *list;
	const char *config_dir;
	struct table_loader loader;
};

static void
list_add(struct addr_list *l, struct word w)
{
	if (l->n == l->room) {
		l->room = l->room > 0 ? 2 * l->room : 16;
		l->list = mem_resize(l->list, l->room, sizeof(*l->list));
	}
	l->list[l->n++] = w;
}

/* -- reading ------------------------------------------------------------- */

static bool
only_of(struct view v, const char *set)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] == '\0' || strchr(set, v.p[i]) == NULL)
			return false;
	return true;
}

/* "type:table": a colon that is not inside brackets, as Postfix has it. */
static bool
looks_like_table(struct view word)
{
	return word.p[0] != '[' && view_find(word, ':') < word.n;
}

static bool
looks_like_url(struct view word)
{
	size_t colon = view_find(word, ':');

	return colon + 2 < word.n && word.p[colon + 1] == '/' &&
	    word.p[colon + 2] == '/';
}

/* An IPv6 address without brackets would be taken for a type of table. */
static bool
looks_like_ipv6(struct view word)
{
	return only_of(word, "0123456789abcdefABCDEF:./");
}

static void
read_table(struct reader *r, struct view text, bool exclude, unsigned line)
{
	struct word w = { .kind = WORD_TABLE, .exclude = exclude };

	if (looks_like_ipv6(text)) {
		table_complain(&r->loader, line, true, "\"%.*s\": an IPv6 "
		    "address needs brackets, as in [2001:db8::]/32",
		    VIEW_ARGS(view_head(text, 100)));
		return;
	}
	w.table = table_open(text, r->config_dir, r->loader.report,
	    r->loader.arg);
	if (w.table == NULL)
		r->loader.errors++;
	else
		list_add(r->list, w);
}

static void
read_name(struct reader *r, struct view text, bool exclude)
{
	struct word w = { .kind = WORD_NAME, .exclude = exclude };

	w.name = mem_copy(text);
	w.name_n = text.n;
	list_add(r->list, w);
}

/* A word of a list of networks that is not a table. */
static void
read_net(struct reader *r, struct view text, bool exclude, unsigned line)
{
	struct word w = { .kind = WORD_NET, .exclude = exclude };

	if (netaddr_parse_block(text, &w.net, &w.bits)) {
		list_add(r->list, w);
		return;
	}
	if (text.p[0] != '[' && view_find(text, '/') == text.n &&
	    !only_of(text, "0123456789.")) {
		read_name(r, text, exclude);
		return;
	}
	table_complain(&r->loader, line, true, "\"%.*s\" is neither a name "
	    "nor a network whose host bits are zero",
	    VIEW_ARGS(view_head(text, 100)));
}

static void read_words(struct reader *r, struct view text, bool exclude,
    unsigned line, unsigned depth);

static void
read_file(struct reader *r, struct view text, bool exclude, unsigned line,
    unsigned depth)
{
	struct addr_list *l = r->list;
	const char *origin = r->loader.origin;
	struct table_source s;
	struct view words;
	unsigned number;
	char *path;

	if (depth == LIST_FILE_DEPTH) {
		table_complain(&r->loader, line, true, "files are nested "
		    "over %u deep", LIST_FILE_DEPTH);
		return;
	}
	path = mem_copy(text);
	l->files = mem_resize(l->files, l->n_files + 1, sizeof(*l->files));
	l->files[l->n_files++] = path;
	r->loader.origin = path;
	s = (struct table_source){ 0 };
	if (table_source_file(&s, path, &r->loader))
		while (table_source_next(&s, &r->loader, &words, &number))
			read_words(r, words, exclude, number, depth + 1);
	table_source_free(&s);
	r->loader.origin = origin;
}

/* The words of a parameter or of one line of a file. */
static void
read_words(struct reader *r, struct view text, bool exclude, unsigned line,
    unsigned depth)
{
	struct view word;

	while ((word = conf_word(&text)).n > 0) {
		bool not = exclude;

		for (; word.n > 0 && word.p[0] == '!'; not = !not)
			word = view_from(word, 1);
		if (word.n == 0)
			table_complain(&r->loader, line, true,
			    "no pattern after '!'");
		else if (word.p[0] == '/')
			read_file(r, word, not, line, depth);
		else if (looks_like_url(word))
			table_complain(&r->loader, line, false, "\"%.*s\" is "
			    "a URL, not a pattern; it matches nothing",
			    VIEW_ARGS(view_head(word, 100)));
		else if (looks_like_table(word))
			read_table(r, word, not, line);
		else if (r->list->networks)
			read_net(r, word, not, line);
		else
			read_name(r, word, not);
	}
}

static struct addr_list *
list_open(const char *what, const char *patterns, bool networks,
    bool parent_matches, const char *config_dir, table_report *report,
    void *arg)
{
	struct addr_list *l = mem_alloc(sizeof(*l));
	struct reader r = {
		.list = l, .config_dir = config_dir,
		.loader = { .origin = what, .report = report, .arg = arg }
	};

	l->magic = LIST_MAGIC;
	l->networks = networks;
	l->parent_matches = parent_matches;
	l->value = mem_alloc(sizeof(*l->value));
	buf_init(l->value, LIST_VALUE_MAX);
	read_words(&r, view_of(patterns), false, 0, 0);
	if (r.loader.errors > 0)
		addr_list_free(&l);
	return l;
}

struct addr_list *
net_list_open(const char *what, const char *patterns,
    const char *config_dir, table_report *report, void *arg)
{
	return list_open(what, patterns, true, true, config_dir, report, arg);
}

struct addr_list *
domain_list_open(const char *what, const char *patterns, bool parent_matches,
    const char *config_dir, table_report *report, void *arg)
{
	return list_open(what, patterns, false, parent_matches, config_dir,
	    report, arg);
}

struct addr_list *
word_list_open(const char *what, const char *patterns,
    const char *config_dir, table_report *report, void *arg)
{
	struct addr_list *l = list_open(what, patterns, false, false,
	    config_dir, report, arg);

	if (l != NULL)
		l->words = true;
	return l;
}

void
net_list_parent_matches(struct addr_list *l, bool parent_matches)
{
	l->parent_matches = parent_matches;
}

void
addr_list_free(struct addr_list **lp)
{
	struct addr_list *l = *lp;

	if (l == NULL)
		return;
	ensure(l->magic == LIST_MAGIC);
	for (size_t i = 0; i < l->n; i++) {
		free(l->list[i].name);
		table_free(&l->list[i].table);
	}
	for (size_t i = 0; i < l->n_files; i++)
		free(l->files[i]);
	free(l->list);
	free(l->files);
	buf_free(l->value);
	free(l->value);
	l->magic = 0;
	free(l);
	*lp = NULL;
}

void
addr_list_files(const struct addr_list *l,
    void (*each)(const char *file, void *arg), void *arg)
{
	for (size_t i = 0; i < l->n_files; i++)
		each(l->files[i], arg);
	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].kind == WORD_TABLE &&
		    table_file(l->list[i].table) != NULL)
			each(table_file(l->list[i].table), arg);
}

/* -- matching ------------------------------------------------------------ */

static bool
name_matches(const struct addr_list *l, const struct word *w,
    struct view name)
{
	struct view word = view_make(w->name, w->name_n);

	if (view_eq_nocase(name, word))
		return true;
	if (l->words || name.n <= word.n || !view_ends_nocase(name, word))
		return false;
	/* Postfix knows ".example.com" only where parents do not match; who
	 * writes it means subdomains everywhere. */
	return word.p[0] == '.' || (l->parent_matches &&
	    name.p[name.n - word.n - 1] == '.');
}

/* The table is asked for the whole name, then for parents of it.  Patterns
 * see whole names only, and an address literal has no parents. */
static enum table_answer
table_matches(const struct addr_list *l, const struct word *w, struct view name,
    bool parents)
{
	unsigned line;

	if (table_is_pattern(w->table) || (name.n > 0 && name.p[0] == '['))
		parents = false;
	while (name.n > 0) {
		enum table_answer a = table_find(w->table, name, l->value,
		    &line);
		size_t dot;

		if (a != TABLE_NOT_FOUND || !parents)
			return a;
		dot = view_find(view_from(name, 1), '.') + 1;
		name = view_from(name, l->parent_matches ? dot + 1 : dot);
	}
	return TABLE_NOT_FOUND;
}

static enum table_answer
net_word_matches(const struct addr_list *l, const struct word *w,
    struct view client_name, const struct netaddr *addr)
{
	char text[NETADDR_TEXT];
	enum table_answer a;
	bool found = false;

	switch (w->kind) {
	case WORD_NAME:
		found = name_matches(l, w, client_name);
		break;
	case WORD_NET:
		found = netaddr_in_block(addr, &w->net, w->bits);
		break;
	case WORD_TABLE:
		a = table_matches(l, w, client_name, true);
		if (a == TABLE_NOT_FOUND && addr->family != 0)
			a = table_matches(l, w,
			    view_of(netaddr_text(addr, text)), false);
		return a;
	}
	return found ? TABLE_FOUND : TABLE_NOT_FOUND;
}

enum table_answer
net_list_match(const struct addr_list *l, struct view client_name,
    const struct netaddr *addr)
{
	ensure(l->magic == LIST_MAGIC);
	for (size_t i = 0; i < l->n; i++) {
		enum table_answer a = net_word_matches(l, &l->list[i],
		    client_name, addr);

		if (a == TABLE_FOUND && l->list[i].exclude)
			return TABLE_NOT_FOUND;
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	return TABLE_NOT_FOUND;
}

static enum table_answer
list_match(const struct addr_list *l, struct view domain)
{
	ensure(l->magic == LIST_MAGIC);
	for (size_t i = 0; i < l->n; i++) {
		const struct word *w = &l->list[i];
		enum table_answer a;

		if (w->kind == WORD_TABLE)
			a = table_matches(l, w, domain, !l->words);
		else
			a = name_matches(l, w, domain) ? TABLE_FOUND :
			    TABLE_NOT_FOUND;
		if (a == TABLE_FOUND && w->exclude)
			return TABLE_NOT_FOUND;
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	return TABLE_NOT_FOUND;
}

enum table_answer
domain_list_match(const struct addr_list *l, struct view domain)
{
	return list_match(l, domain);
}

enum table_answer
word_list_match(const struct addr_list *l, struct view word)
{
	return list_match(l, word);
}
