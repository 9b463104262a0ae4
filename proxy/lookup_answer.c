#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/cursor.h"
#include "proxy/lookup_answer.h"

#define LABEL_MAX	63

static bool
answer_label(struct view label)
{
	size_t i;
	char c;

	for (i = 0; i < label.n; i++) {
		c = label.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
	}
	return true;
}

enum answer_name
answer_name(struct view data, char ret[ANSWER_NAME_MAX])
{
	struct cursor c = cursor_of(data);
	struct view label;
	char text[ANSWER_NAME_MAX];
	size_t used = 0, n;

	/* A compression pointer is a length over 63, too. */
	while ((n = cursor_u8(&c)) > 0) {
		if (n > LABEL_MAX || used + 1 + n >= sizeof text)
			return ANSWER_BAD;
		label = cursor_bytes(&c, n);
		if (label.n != n || !answer_label(label))
			return ANSWER_BAD;
		if (used > 0)
			text[used++] = '.';
		memcpy(text + used, label.p, n);
		used += n;
	}
	if (!cursor_done(&c))
		return ANSWER_BAD;
	text[used] = '\0';
	memcpy(ret, text, used + 1);
	return used > 0 ? ANSWER_HOST : ANSWER_ROOT;
}

enum answer_name
answer_mx(struct view data, uint16_t *ret_preference,
    char ret[ANSWER_NAME_MAX])
{
	enum answer_name kind;

	if (data.n < 3)
		return ANSWER_BAD;
	kind = answer_name(view_from(data, 2), ret);
	if (kind != ANSWER_BAD)
		*ret_preference = (uint16_t)((unsigned char)data.p[0] << 8 |
		    (unsigned char)data.p[1]);
	return kind;
}

static uint16_t
answer_u16(struct view data, size_t at)
{
	return (uint16_t)((unsigned char)data.p[at] << 8 |
	    (unsigned char)data.p[at + 1]);
}

enum answer_name
answer_srv(struct view data, struct answer_srv *ret)
{
	enum answer_name kind;

	if (data.n < 7)
		return ANSWER_BAD;
	kind = answer_name(view_from(data, 6), ret->target);
	if (kind == ANSWER_BAD)
		return ANSWER_BAD;
	ret->priority = answer_u16(data, 0);
	ret->weight = answer_u16(data, 2);
	ret->port = answer_u16(data, 4);
	/* Nobody listens on port 0. */
	return kind == ANSWER_HOST && ret->port == 0 ? ANSWER_BAD : kind;
}

static int
srv_compare(const void *a, const void *b)
{
	const struct answer_srv *x = a, *y = b;

	/* Without weight: in front, or the draw would never come to it. */
	return x->priority != y->priority ?
	    (x->priority > y->priority) - (x->priority < y->priority) :
	    (x->weight > 0) - (y->weight > 0);
}

/* One of the first n, more often if it is heavier.  Without weights the chance
 * is that of all. */
static size_t
srv_draw(const struct answer_srv *list, size_t n,
    uint32_t (*random)(uint32_t n))
{
	uint32_t total = 0, at;
	size_t i;

	for (i = 0; i < n; i++)
		total += list[i].weight;
	if (total == 0)
		return random((uint32_t)n);
	at = random(total + 1);
	for (i = 0; i + 1 < n && at > list[i].weight; i++)
		at -= list[i].weight;
	return i;
}

void
answer_srv_order(struct answer_srv *list, size_t n,
    uint32_t (*random)(uint32_t n))
{
	struct answer_srv one;
	size_t i, k, end;

	if (n > 1)
		qsort(list, n, sizeof *list, srv_compare);
	for (i = 0; i < n; i++) {
		for (end = i + 1; end < n &&
		    list[end].priority == list[i].priority; end++)
			;
		k = i + srv_draw(list + i, end - i, random);
		one = list[k];
		memmove(&list[i + 1], &list[i], (k - i) * sizeof *list);
		list[i] = one;
	}
}

bool
answer_txt(struct view data, struct buf *out)
{
	struct cursor c = cursor_of(data);
	struct view part;

	buf_clear(out);
	while (cursor_left(&c) > 0) {
		part = cursor_bytes(&c, cursor_u8(&c));
		if (c.bad)
			return false;
		(void)buf_putv(out, view_head(part, out->max - out->n));
	}
	return data.n > 0 && cursor_done(&c);
}

bool
answer_address(struct view data, int family, struct netaddr *ret)
{
	return data.n == (family == AF_INET ? 4 : 16) &&
	    netaddr_from_bytes(data, ret);
}

bool
answer_plain(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] >= 0x7f ||
		    strchr("\\\"();@", name.p[i]) != NULL)
			return false;
	return name.n > 0;
}

void
answer_reverse(const struct netaddr *a, char ret[ANSWER_REVERSE_MAX])
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;
	int i;

	if (a->family == AF_INET) {
		(void)snprintf(ret, ANSWER_REVERSE_MAX,
		    "%u.%u.%u.%u.in-addr.arpa", a->b[3], a->b[2], a->b[1],
		    a->b[0]);
		return;
	}
	for (i = 15; i >= 0; i--) {
		ret[n++] = hex[a->b[i] & 15];
		ret[n++] = '.';
		ret[n++] = hex[a->b[i] >> 4];
		ret[n++] = '.';
	}
	memcpy(ret + n, "ip6.arpa", sizeof "ip6.arpa");
}

bool
answer_hosts_line(struct view line, struct netaddr *ret_addr,
    struct view *ret_name)
{
	struct view addr, name;
	struct netaddr a;
	size_t i;

	line = view_head(line, view_find(line, '#'));
	addr = view_word(&line, " \t\r");
	name = view_word(&line, " \t\r");
	if (name.n == 0 || name.n >= ANSWER_NAME_MAX ||
	    !netaddr_parse(addr, &a))
		return false;
	for (i = 0; i < name.n; i++)
		if (name.p[i] != '.' &&
		    !answer_label(view_make(name.p + i, 1)))
			return false;
	*ret_addr = a;
	*ret_name = name;
	return true;
}
