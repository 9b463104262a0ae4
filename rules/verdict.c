#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/verdict.h"

#define ROUTE_MAX	1000u	/* transport:nexthop */
#define WHERE_MAX	4200u	/* a path, a colon, a line */
#define MESSAGE_ID_MAX	1000u

enum argument {
	ARGUMENT_TEXT = 0,	/* any text, or none */
	ARGUMENT_REASON,	/* [enhanced status] [text] */
	ARGUMENT_IGNORED,
	ARGUMENT_NEEDED,
	ARGUMENT_ADDRESS,
	ARGUMENT_ROUTE
};

#define ACCESS	(1u << DIALECT_ACCESS)
#define CHECKS	(1u << DIALECT_CHECKS)
#define ATTACH	(1u << DIALECT_ATTACHMENTS)
#define CONTENT	(CHECKS | ATTACH)
#define BOTH	(ACCESS | CONTENT)

static const struct keyword {
	const char *name;
	unsigned dialects;
	enum action action;
	enum argument argument;
	enum defer_when when;
} keywords[] = {
	{ "REJECT", BOTH, ACTION_REJECT, ARGUMENT_REASON, DEFER_NOW },
	{ "DUNNO", BOTH, ACTION_DUNNO, ARGUMENT_IGNORED, DEFER_NOW },
	{ "OK", ACCESS, ACTION_OK, ARGUMENT_IGNORED, DEFER_NOW },
	{ "OK", CONTENT, ACTION_DUNNO, ARGUMENT_IGNORED, DEFER_NOW },
	{ "RELAY", ACCESS, ACTION_OK, ARGUMENT_IGNORED, DEFER_NOW },
	{ "WARN", BOTH, ACTION_WARN, ARGUMENT_TEXT, DEFER_NOW },
	{ "INFO", BOTH, ACTION_INFO, ARGUMENT_TEXT, DEFER_NOW },
	{ "PASS", CONTENT, ACTION_PASS, ARGUMENT_TEXT, DEFER_NOW },
	{ "IGNORE", CHECKS, ACTION_IGNORE, ARGUMENT_IGNORED, DEFER_NOW },
	{ "STRIP", CONTENT, ACTION_STRIP, ARGUMENT_TEXT, DEFER_NOW },
	{ "RENAME", ATTACH, ACTION_RENAME, ARGUMENT_TEXT, DEFER_NOW },
	{ "QUARANTINE", ATTACH, ACTION_HOLD, ARGUMENT_TEXT, DEFER_NOW },
	{ "PREPEND", ACCESS | CHECKS, ACTION_PREPEND, ARGUMENT_NEEDED, DEFER_NOW },
	{ "REPLACE", CHECKS, ACTION_REPLACE, ARGUMENT_NEEDED, DEFER_NOW },
	{ "BCC", BOTH, ACTION_BCC, ARGUMENT_ADDRESS, DEFER_NOW },
	{ "REDIRECT", BOTH, ACTION_REDIRECT, ARGUMENT_ADDRESS, DEFER_NOW },
	{ "FILTER", BOTH, ACTION_FILTER, ARGUMENT_ROUTE, DEFER_NOW },
	{ "HOLD", BOTH, ACTION_HOLD, ARGUMENT_TEXT, DEFER_NOW },
	{ "DISCARD", BOTH, ACTION_DISCARD, ARGUMENT_TEXT, DEFER_NOW },
	{ "DEFER", ACCESS, ACTION_DEFER, ARGUMENT_REASON, DEFER_NOW },
	{ "DEFER_IF_PERMIT", ACCESS, ACTION_DEFER, ARGUMENT_REASON,
	    DEFER_IF_PERMIT },
	{ "DEFER_IF_REJECT", ACCESS, ACTION_DEFER, ARGUMENT_REASON,
	    DEFER_IF_REJECT }
};

bool
action_edits(enum action a)
{
	return a == ACTION_PREPEND || a == ACTION_REPLACE ||
	    a == ACTION_STRIP || a == ACTION_IGNORE;
}

static const char *const action_names[ACTIONS] = {
	[ACTION_NONE] = "none", [ACTION_DUNNO] = "DUNNO",
	[ACTION_OK] = "OK", [ACTION_INFO] = "INFO", [ACTION_WARN] = "WARN",
	[ACTION_PASS] = "PASS", [ACTION_IGNORE] = "IGNORE",
	[ACTION_STRIP] = "STRIP", [ACTION_RENAME] = "RENAME",
	[ACTION_PREPEND] = "PREPEND",
	[ACTION_REPLACE] = "REPLACE", [ACTION_BCC] = "BCC",
	[ACTION_REDIRECT] = "REDIRECT", [ACTION_FILTER] = "FILTER",
	[ACTION_HOLD] = "HOLD", [ACTION_DISCARD] = "DISCARD",
	[ACTION_DEFER] = "DEFER", [ACTION_REJECT] = "REJECT"
};

const char *
action_name(enum action a)
{
	ensure(a < ACTIONS);
	return action_names[a];
}

/* -- enhanced status codes (RFC 3463) ------------------------------------ */

/* Length of "n.n.n" at the start of text, before white space or the end. */
static size_t
status_length(struct view text)
{
	size_t i = 1;

	if (text.n < 5 || (text.p[0] != '2' && text.p[0] != '4' &&
	    text.p[0] != '5'))
		return 0;
	for (int part = 0; part < 2; part++) {
		size_t digits = 0;

		if (i >= text.n || text.p[i++] != '.')
			return 0;
		for (; i < text.n && isdigit((unsigned char)text.p[i]); i++)
			digits++;
		if (digits < 1 || digits > 3)
			return 0;
	}
	return i == text.n || view_space(text.p[i]) ? i : 0;
}

/*
 * Codes whose first digit had to be corrected.  A verdict's status is a view
 * and cannot be written to, so the corrected ones that exist (the registry of
 * RFC 5248 has subjects 0 to 7 and details below 31) lie here.
 */
#define STATUS_DETAILS	31u
#define STATUS_ROW(s) {							\
	s ".0", s ".1", s ".2", s ".3", s ".4", s ".5", s ".6", s ".7",	\
	s ".8", s ".9", s ".10", s ".11", s ".12", s ".13", s ".14",	\
	s ".15", s ".16", s ".17", s ".18", s ".19", s ".20", s ".21",	\
	s ".22", s ".23", s ".24", s ".25", s ".26", s ".27", s ".28",	\
	s ".29", s ".30" }
#define STATUS_CLASS(c) {						\
	STATUS_ROW(c ".0"), STATUS_ROW(c ".1"), STATUS_ROW(c ".2"),	\
	STATUS_ROW(c ".3"), STATUS_ROW(c ".4"), STATUS_ROW(c ".5"),	\
	STATUS_ROW(c ".6"), STATUS_ROW(c ".7") }

static const char *const corrected[2][8][STATUS_DETAILS] = {
	STATUS_CLASS("4"), STATUS_CLASS("5")
};

/* The digits at the start of v, which has at most three. */
static unsigned
number_of(struct view v)
{
	unsigned n = 0;

	for (; v.n > 0 && isdigit((unsigned char)v.p[0]); v = view_from(v, 1))
		n = n * 10 + (unsigned)(v.p[0] - '0');
	return n;
}

/* status with its first digit as that of the reply code; an unregistered
 * one becomes n.7.1, the class being more important than the detail. */
static struct view
status_for_code(struct view status, unsigned code)
{
	char class = code < 500 ? '4' : '5';
	struct view rest = view_from(status, 2);
	unsigned subject, detail;

	if (status.p[0] == class)
		return status;
	subject = number_of(rest);
	detail = number_of(view_from(rest, view_find(rest, '.') + 1));
	if (subject > 7 || detail >= STATUS_DETAILS)
		subject = 7, detail = 1;
	return view_of(corrected[class - '4'][subject][detail]);
}

/* -- parsing ------------------------------------------------------------- */

static bool
has_control(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f)
			return true;
	return false;
}

static bool
address_acceptable(struct view v)
{
	size_t at = view_find(v, '@');

	return v.n <= ADDRESS_MAX && at > 0 && at + 1 < v.n &&
	    !has_control(v);
}

static bool
route_acceptable(struct view v)
{
	size_t colon = view_find(v, ':');

	return v.n <= ROUTE_MAX && colon > 0 && colon < v.n &&
	    !has_control(v);
}

/* The reply code before an action's text; 0: not one. */
static unsigned
code_of(struct view word)
{
	if (word.n != 3 || (word.p[0] != '4' && word.p[0] != '5') ||
	    !isdigit((unsigned char)word.p[1]) ||
	    !isdigit((unsigned char)word.p[2]))
		return 0;
	return number_of(word);
}

static bool
all_digits(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if (!isdigit((unsigned char)v.p[i]))
			return false;
	return v.n > 0;
}

/*
 * "[x.y.z] [text]".  code 0: none was written; then a REJECT of the checks
 * takes its class from the status, as in "REJECT 4.7.1 text".  What the text
 * is never makes this fail: it may come from the message by way of $1, and a
 * sender must not be able to switch a rule off.
 */
static void
reason_parse(struct view text, enum verdict_dialect dialect, unsigned code,
    struct verdict *v)
{
	static const char rejected[] = "message content rejected";
	static const char later[] = "service unavailable";
	bool access = dialect == DIALECT_ACCESS;
	size_t n = status_length(text);

	if (code == 0 && v->action == ACTION_DEFER)
		code = 450;
	else if (code == 0 && access)
		code = 554;
	else if (code == 0)
		code = n > 0 && text.p[0] != '5' ? 451 : 550;
	v->code = (uint16_t)code;
	v->status = n > 0 ? status_for_code(view_head(text, n), code) :
	    view_of(code < 500 ? "4.7.1" : "5.7.1");
	v->text = view_trim(view_from(text, n));
	if (v->text.n == 0)
		v->text = view_of(!access ? (code < 500 ? later : rejected) :
		    v->when != DEFER_NOW ? "Service unavailable" :
		    "Access denied");
}

static bool
argument_parse(const struct keyword *k, struct view text,
    enum verdict_dialect dialect, struct verdict *v, const char **ret_error)
{
	switch (k->argument) {
	case ARGUMENT_IGNORED:
		return true;
	case ARGUMENT_TEXT:
		break;
	case ARGUMENT_REASON:
		reason_parse(text, dialect, 0, v);
		return true;
	case ARGUMENT_NEEDED:
		if (text.n == 0) {
			*ret_error = "this action needs a text";
			return false;
		}
		if (dialect == DIALECT_ACCESS &&
		    !verdict_text_is_header(text)) {
			*ret_error = "need \"headername: headervalue\"";
			return false;
		}
		break;
	case ARGUMENT_ADDRESS:
		if (!address_acceptable(text)) {
			*ret_error = "need user@domain";
			return false;
		}
		break;
	case ARGUMENT_ROUTE:
		if (!route_acceptable(text)) {
			*ret_error = "need transport:destination";
			return false;
		}
		break;
	}
	v->text = text;
	return true;
}

static const struct keyword *
keyword_find(struct view word, enum verdict_dialect dialect,
    unsigned *ret_other)
{
	*ret_other = 0;
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
		if (!view_is_nocase(word, keywords[i].name))
			continue;
		if ((keywords[i].dialects & 1u << dialect) != 0)
			return &keywords[i];
		*ret_other |= keywords[i].dialects;
	}
	return NULL;
}

/* Numbers in front: "550 text", and what access(5) calls all-numerical. */
static bool
number_parse(struct view word, struct view text,
    enum verdict_dialect dialect, struct verdict *v, const char **ret_error)
{
	unsigned code = code_of(word);

	if (code != 0 && (text.n > 0 || dialect != DIALECT_ACCESS)) {
		v->action = ACTION_REJECT;
		reason_parse(text, dialect, code, v);
		return true;
	}
	/* Postfix takes "550" alone for OK, the opposite of what it says. */
	if (code != 0) {
		*ret_error = "a reply code needs a text behind it";
		return false;
	}
	if (dialect == DIALECT_ACCESS && text.n == 0) {
		v->action = ACTION_OK;
		return true;
	}
	*ret_error = "not a reply code from 400 to 599";
	return false;
}

/* What is done to a message that is under way. */
static bool
action_at_delivery(enum action a)
{
	return a == ACTION_DUNNO || a == ACTION_INFO || a == ACTION_WARN ||
	    action_edits(a);
}

bool
verdict_parse(struct view rhs, enum verdict_dialect dialect,
    struct verdict *ret, const char **ret_error)
{
	struct verdict v = { .action = ACTION_NONE };
	const struct keyword *k;
	struct view word, text;
	unsigned other;
	bool decoded = dialect == DIALECT_DECODED;
	bool delivery = dialect == DIALECT_DELIVERY;
	size_t n = 0;

	if (decoded || delivery)
		dialect = DIALECT_CHECKS;
	rhs = view_trim(rhs);
	while (n < rhs.n && !view_space(rhs.p[n]))
		n++;
	word = view_head(rhs, n);
	text = view_trim(view_from(rhs, n));
	if (word.n == 0) {
		*ret_error = "there is no action";
		return false;
	}
	if (all_digits(word) && !delivery) {
		if (!number_parse(word, text, dialect, &v, ret_error))
			return false;
		*ret = v;
		return true;
	}
	k = keyword_find(word, dialect, &other);
	if (k == NULL) {
		*ret_error = other == 0 ? "unknown action" :
		    dialect == DIALECT_ACCESS ?
		    "this action is for header and body checks only" :
		    dialect == DIALECT_ATTACHMENTS ?
		    "this action is not for attachments" :
		    (other & ACCESS) == 0 ?
		    "this action is for attachments only" :
		    "this action is for access tables only";
		return false;
	}
	v.action = k->action;
	v.when = k->when;
	if (decoded && action_edits(v.action)) {
		*ret_error = "decoded text cannot be changed";
		return false;
	}
	if (delivery && !action_at_delivery(v.action)) {
		*ret_error = "this action comes too late while a message is "
		    "delivered";
		return false;
	}
	if (!argument_parse(k, text, dialect, &v, ret_error))
		return false;
	*ret = v;
	return true;
}

struct table_check {
	const struct table *table;
	enum verdict_dialect dialect;
	table_report *report;
	void *arg;
	bool ok;
};

static void
result_check(struct view result, unsigned line, void *arg)
{
	struct table_check *c = arg;
	struct verdict v;
	const char *error;
	char *text;

	if (verdict_parse(result, c->dialect, &v, &error))
		return;
	c->ok = false;
	text = mem_printf("%s:%u: %s: \"%.*s\"", table_origin(c->table), line,
	    error, VIEW_ARGS(view_head(result, 200)));
	c->report(true, text, c->arg);
	free(text);
}

bool
verdict_check_table(const struct table *t, enum verdict_dialect dialect,
    table_report *report, void *arg)
{
	struct table_check c = { t, dialect, report, arg, true };

	table_each_result(t, result_check, &c);
	return c.ok;
}

/* -- messages between roles ---------------------------------------------- */

/* Text that will stand in a reply or in the log: one line. */
static bool
put_line(struct buf *b, struct view v, size_t max)
{
	char *to;

	v = view_head(v, max);
	if (!put_u32(b, (uint32_t)v.n) || (to = buf_room(b, v.n)) == NULL)
		return false;
	for (size_t i = 0; i < v.n; i++)
		to[i] = (unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f ? ' ' :
		    v.p[i];
	b->n += v.n;
	return true;
}

/* A line as put_line() writes it; else c->bad. */
static struct view
get_line(struct cursor *c, size_t max)
{
	struct view v = cursor_view(c);

	if (v.n > max || has_control(v))
		c->bad = true;
	return v;
}

bool
verdict_put(struct buf *b, const struct verdict *v)
{
	return put_u8(b, (uint8_t)v->action) && put_u8(b, (uint8_t)v->when) &&
	    put_u16(b, v->code) && put_view(b, v->status) &&
	    put_line(b, v->text, VERDICT_TEXT_MAX) &&
	    put_line(b, v->where, WHERE_MAX);
}

static bool
verdict_valid(unsigned action, unsigned when, const struct verdict *v)
{
	if (action == ACTION_NONE || action >= ACTIONS ||
	    when > DEFER_IF_REJECT ||
	    (when != DEFER_NOW && action != ACTION_DEFER))
		return false;
	if (action != ACTION_REJECT && action != ACTION_DEFER)
		return v->code == 0 && v->status.n == 0;
	return v->code >= 400 && v->code <= 599 && v->status.n > 0 &&
	    status_length(v->status) == v->status.n &&
	    v->status.p[0] == (v->code < 500 ? '4' : '5');
}

void
verdict_get(struct cursor *c, struct verdict *ret)
{
	struct verdict v = { .action = ACTION_NONE };
	unsigned action = cursor_u8(c), when = cursor_u8(c);

	v.code = cursor_u16(c);
	v.status = cursor_view(c);
	v.text = get_line(c, VERDICT_TEXT_MAX);
	v.where = get_line(c, WHERE_MAX);
	if (c->bad || !verdict_valid(action, when, &v)) {
		c->bad = true;
		*ret = (struct verdict){ .action = ACTION_NONE };
		return;
	}
	v.action = (enum action)action;
	v.when = (enum defer_when)when;
	*ret = v;
}

bool
judgement_put(struct buf *b, const struct judgement *j)
{
	if (j->n_bcc > JUDGEMENT_BCC_MAX)
		return false;
	if (!verdict_put(b, &j->verdict) || !put_view(b, j->redirect) ||
	    !put_view(b, j->filter) || !put_u32(b, j->n_bcc))
		return false;
	for (uint32_t i = 0; i < j->n_bcc; i++)
		if (!put_view(b, j->bcc[i]))
			return false;
	/* The edits come last, so they need no length. */
	return put_line(b, j->message_id, MESSAGE_ID_MAX) &&
	    put_view(b, j->envelope) && edits_put(b, &j->edits);
}

static bool
judgement_valid(const struct judgement *j)
{
	enum action a = j->verdict.action;

	if (a != ACTION_OK && a != ACTION_REJECT && a != ACTION_DISCARD &&
	    a != ACTION_HOLD)
		return false;
	if ((j->redirect.n > 0 && !address_acceptable(j->redirect)) ||
	    (j->filter.n > 0 && !route_acceptable(j->filter)))
		return false;
	for (uint32_t i = 0; i < j->n_bcc; i++)
		if (!address_acceptable(j->bcc[i]))
			return false;
	return true;
}

bool
judgement_get(struct view encoded, uint64_t text_size, struct arena *a,
    struct judgement *ret)
{
	struct cursor c = cursor_of(encoded);
	struct judgement j = { .n_bcc = 0 };
	struct view edits;

	verdict_get(&c, &j.verdict);
	j.redirect = cursor_view(&c);
	j.filter = cursor_view(&c);
	j.n_bcc = cursor_u32(&c);
	if (c.bad || j.n_bcc > JUDGEMENT_BCC_MAX)
		return false;
	for (uint32_t i = 0; i < j.n_bcc; i++)
		j.bcc[i] = cursor_view(&c);
	j.message_id = get_line(&c, MESSAGE_ID_MAX);
	j.envelope = cursor_view(&c);
	edits = cursor_bytes(&c, cursor_left(&c));
	/* An empty list has a count too; nothing at all was cut off. */
	if (!cursor_done(&c) || edits.n == 0 || !judgement_valid(&j) ||
	    !edits_get(edits, text_size, a, &j.edits))
		return false;
	*ret = j;
	return true;
}
