#include "lib/address_list.h"
#include "lib/header.h"
#include "lib/log.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

enum header_kind { HEADER_OTHER = 0, HEADER_RCPT, HEADER_RESENT };

static enum header_kind
header_kind(struct view name)
{
	if (view_is_nocase(name, "To") || view_is_nocase(name, "Cc") ||
	    view_is_nocase(name, "Bcc"))
		return HEADER_RCPT;
	if (view_is_nocase(name, "Resent-To") ||
	    view_is_nocase(name, "Resent-Cc") ||
	    view_is_nocase(name, "Resent-Bcc"))
		return HEADER_RESENT;
	return HEADER_OTHER;
}

bool
sendmail_is_header(struct view line, bool first)
{
	struct view name, value;

	if (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
		return !first;
	return header_split(line, &name, &value);
}

/* The next logical header; its value with the folds in it. */
static bool
header_next(struct view *rest, struct view *ret_name, struct view *ret_value)
{
	struct view begin = *rest, value;
	size_t n;

	if (!header_split(view_head(begin, view_find(begin, '\n')), ret_name,
	    &value))
		return false;
	value = view_from(value, 1);
	do {
		n = view_find(*rest, '\n');
		*rest = view_from(*rest, n + 1);
	} while (rest->n > 0 && (rest->p[0] == ' ' || rest->p[0] == '\t'));
	*ret_value = view_make(value.p,
	    begin.n - rest->n - (size_t)(value.p - begin.p));
	return true;
}

struct each {
	sendmail_each_rcpt *fn;
	void *arg;
};

static bool
header_each(struct view addr, void *arg)
{
	struct each *e = arg;

	e->fn(addr, e->arg);
	return true;
}

static bool
header_has(struct view header, enum header_kind kind)
{
	struct view name, value;

	while (header_next(&header, &name, &value))
		if (header_kind(name) == kind)
			return true;
	return false;
}

void
sendmail_header_rcpts(struct view header, sendmail_each_rcpt *fn, void *arg)
{
	enum header_kind kind = header_has(header, HEADER_RESENT) ?
	    HEADER_RESENT : HEADER_RCPT;
	struct each e = { fn, arg };
	struct view name, value, bad;

	while (header_next(&header, &name, &value)) {
		if (header_kind(name) != kind)
			continue;
		if (address_list_read(value, header_each, &e, &bad) !=
		    ADDRESS_LIST_OK)
			submit_fail(EX_DATAERR, "%s: header has no valid "
			    "address at: %s; nothing was sent",
			    log_safe(name), log_safe(view_head(bad, 100)));
	}
}
