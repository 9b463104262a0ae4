#include <stdio.h>
#include <string.h>

#include "lib/sasl.h"
#include "proxy/credentials_find.h"

struct finding {
	const struct table_list *maps;
	struct buf *value;
	const struct table **ret_table;
	unsigned *ret_line;
};

static enum table_answer
find_key(const struct finding *f, struct view key)
{
	if (key.n == 0 || key.n > CREDENTIALS_KEY_MAX)
		return TABLE_NOT_FOUND;
	return table_list_find(f->maps, key, f->value, f->ret_table,
	    f->ret_line);
}

static enum table_answer
find_sender(const struct finding *f, struct view sender,
    const char *delimiters)
{
	char plain[CREDENTIALS_KEY_MAX];
	size_t at = sender.n, n = 1;
	enum table_answer a;

	if (sender.n == 0)
		return TABLE_NOT_FOUND;
	a = find_key(f, sender);
	while (at > 0 && sender.p[at - 1] != '@')
		at--;
	if (a != TABLE_NOT_FOUND || at == 0)
		return a;
	/* at is behind the last '@'. */
	while (n < at - 1 && strchr(delimiters, sender.p[n]) == NULL)
		n++;
	if (n < at - 1 && sender.n < sizeof plain) {
		n = (size_t)snprintf(plain, sizeof plain, "%.*s%.*s", (int)n,
		    sender.p, (int)(sender.n - at + 1), sender.p + at - 1);
		a = find_key(f, view_make(plain, n));
	}
	return a != TABLE_NOT_FOUND ? a :
	    find_key(f, view_from(sender, at - 1));
}

enum table_answer
credentials_find(const struct table_list *maps, const char *delimiters,
    const struct credentials_about *about, struct buf *value,
    const struct table **ret_table, unsigned *ret_line)
{
	struct finding f = { maps, value, ret_table, ret_line };
	char both[CREDENTIALS_KEY_MAX];
	enum table_answer a;
	int n;

	a = find_sender(&f, about->sender, delimiters);
	if (a != TABLE_NOT_FOUND)
		return a;
	n = snprintf(both, sizeof both, "%.*s:%u",
	    VIEW_ARGS(view_head(about->host, 255)), (unsigned)about->port);
	a = about->host.n > 0 ? find_key(&f, view_make(both, (size_t)n)) :
	    TABLE_NOT_FOUND;
	if (a == TABLE_NOT_FOUND)
		a = find_key(&f, about->host);
	return a != TABLE_NOT_FOUND ? a : find_key(&f, about->next_hop);
}

bool
credentials_split(struct view entry, struct view *ret_user,
    struct view *ret_secret)
{
	size_t n = view_find(entry, ':');

	if (n + 1 >= entry.n || !sasl_login_good(view_head(entry, n)) ||
	    memchr(entry.p, '\0', entry.n) != NULL)
		return false;
	*ret_user = view_head(entry, n);
	*ret_secret = view_from(entry, n + 1);
	return true;
}
