#include <stdlib.h>

#include "filters/milter_client_priv.h"

/* Is the answer about one transaction? */
static bool
in_message(const struct milter_client *c)
{
	return c->in_transaction && c->asked != MILTER_CONNECT &&
	    c->asked != MILTER_HELO;
}

static bool
out_of_turn(struct milter_client *c, const struct milter_packet *p)
{
	if (p->type > ' ' && p->type < 127)
		return milter_broken(c, "answer \"%c\" that is not allowed "
		    "now", p->type);
	return milter_broken(c, "answer 0x%02x that does not exist",
	    (unsigned)(unsigned char)p->type);
}

/* -- negotiation ----------------------------------------------------------- */

/* u32 stage, names of macros, again and again. */
static bool
take_macro_lists(struct milter_client *c, struct view in)
{
	struct view names;
	uint32_t stage;

	while (in.n > 0) {
		if (!milter_get_u32(&in, &stage) ||
		    !milter_get_string(&in, &names))
			return milter_broken(c, "malformed list of macros");
		if ((c->actions & MILTER_MAY_SET_MACROS) == 0)
			return milter_broken(c, "list of macros that was not "
			    "negotiated");
		if (stage >= MILTER_MACRO_STAGES ||
		    names.n > MILTER_MACROS_MAX)
			return milter_broken(c, "list of macros over the "
			    "limit");
		free(c->own_macros[stage]);
		c->own_macros[stage] = mem_copy(names);
	}
	return milter_done(c, MILTER_GO_ON);
}

static bool
take_negotiation(struct milter_client *c, const struct milter_packet *p)
{
	struct view in = p->data;
	uint32_t version, actions, steps;

	if (p->type != MILTER_NEGOTIATE)
		return out_of_turn(c, p);
	if (!milter_get_u32(&in, &version) || !milter_get_u32(&in, &actions) ||
	    !milter_get_u32(&in, &steps))
		return milter_broken(c, "negotiation is cut short");
	if (version < MILTER_VERSION_MIN || version > c->set.version)
		return milter_broken(c, "protocol version %u, not %u to %u",
		    version, MILTER_VERSION_MIN, c->set.version);
	if ((actions & ~c->actions) != 0)
		return milter_broken(c, "wants actions 0x%x that do not exist",
		    actions & ~c->actions);
	if ((steps & ~c->steps) != 0)
		return milter_broken(c, "wants steps 0x%x that do not exist",
		    steps & ~c->steps);
	c->version = version;
	c->actions = actions;
	c->steps = steps;
	return take_macro_lists(c, in);
}

/* -- verdicts -------------------------------------------------------------- */

/* What was told is over, or this filter wants no more of it. */
static void
settle(struct milter_client *c)
{
	if (c->asked == MILTER_BODY_END)
		c->in_transaction = c->passed_message = false;
	else if (in_message(c))
		c->passed_message = true;
	else
		c->passed_session = true;
}

static bool
take_accept(struct milter_client *c)
{
	/* To a command that is refused anyway, outside of mail: no more than
	 * a "go on". */
	if (c->asked == MILTER_UNKNOWN && !c->in_transaction)
		return milter_done(c, MILTER_GO_ON);
	settle(c);
	return milter_done(c, MILTER_TAKE);
}

static bool
take_discard(struct milter_client *c, const struct milter_packet *p)
{
	if (!in_message(c))
		return out_of_turn(c, p);
	settle(c);
	return milter_done(c, MILTER_DROP);
}

/* A refused recipient or unknown command ends nothing. */
static bool
refuse(struct milter_client *c, bool temporary, uint16_t code)
{
	if (c->asked != MILTER_RCPT && c->asked != MILTER_UNKNOWN)
		settle(c);
	c->result.temporary = temporary;
	c->result.code = code;
	return milter_done(c, MILTER_REFUSE);
}

static bool
digits(struct view v, size_t max, size_t *ret_n)
{
	for (*ret_n = 0; *ret_n < v.n && *ret_n <= max; (*ret_n)++)
		if (v.p[*ret_n] < '0' || v.p[*ret_n] > '9')
			break;
	return *ret_n > 0 && *ret_n <= max;
}

/* "5.7.1" in front of a text, with a space or the end behind it; 0: none. */
static size_t
status_size(struct view v)
{
	size_t n, at = 2;

	if (v.n < 5 || (v.p[0] != '2' && v.p[0] != '4' && v.p[0] != '5') ||
	    v.p[1] != '.' ||
	    !digits(view_from(v, at), 3, &n))
		return 0;
	at += n;
	if (at >= v.n || v.p[at] != '.' ||
	    !digits(view_from(v, at + 1), 3, &n))
		return 0;
	at += 1 + n;
	return at == v.n || v.p[at] == ' ' ? at : 0;
}

/* One line behind its code: printable, its status of the code's class, "%%"
 * is one "%" (libmilter's smfi_setreply). */
static bool
put_reply_line(struct buf *b, struct view line, char class)
{
	size_t i, status = status_size(line);
	char ch;

	for (i = 0; i < line.n; i++) {
		ch = line.p[i];
		if (ch == '%' && i + 1 < line.n && line.p[i + 1] == '%')
			i++;
		if (i == 0 && status > 0)
			ch = class;
		if (!buf_putc(b, ch < ' ' || ch > '~' ? '?' : ch))
			return false;
	}
	return true;
}

/* The next of "550-text CRLF 550 text"; *code is 0 before the first. */
static const char *
reply_line(struct view *rest, uint16_t *code, struct view *ret, bool *last)
{
	size_t n = view_find(*rest, '\n');
	struct view line = view_head(*rest, n);
	uint16_t own;

	*last = n + 1 >= rest->n;
	*rest = view_from(*rest, n + 1);
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n < 3 || line.p[0] < '4' || line.p[0] > '5' ||
	    line.p[1] < '0' || line.p[1] > '9' || line.p[2] < '0' ||
	    line.p[2] > '9')
		return "reply without a code of 4xx or 5xx";
	own = (uint16_t)((line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 +
	    line.p[2] - '0');
	if (*code != 0 && own != *code)
		return "reply of several codes";
	*code = own;
	if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return "reply without a space behind its code";
	if (line.n > 3 && (line.p[3] == '-') == *last)
		return "reply whose last line is not its last";
	*ret = view_from(line, 4);
	return ret->n > MILTER_REPLY_LINE_MAX ? "reply line over the limit" :
	    NULL;
}

static bool
take_reply(struct milter_client *c, const struct milter_packet *p)
{
	struct view in = p->data, rest, line;
	uint16_t code = 0;
	const char *wrong;
	bool last = false;
	size_t lines;

	if (!milter_get_string(&in, &rest) || in.n > 0)
		return milter_broken(c, "malformed reply");
	buf_clear(&c->why);
	for (lines = 0; !last; lines++) {
		wrong = reply_line(&rest, &code, &line, &last);
		if (wrong != NULL)
			return milter_broken(c, "%s", wrong);
		if (lines == MILTER_REPLY_LINES_MAX)
			return milter_broken(c, "reply of too many lines");
		if ((lines > 0 && !buf_putc(&c->why, '\n')) ||
		    !put_reply_line(&c->why, line, code < 500 ? '4' : '5'))
			return milter_broken(c, "reply over the limit");
	}
	c->result.text = buf_view(&c->why);
	/* As sendmail does: a reply of 421 ends the session. */
	if (code == 421) {
		c->result.code = code;
		c->passed_session = true;
		return milter_done(c, MILTER_HANG_UP);
	}
	return refuse(c, code < 500, code);
}

static bool
take_continue(struct milter_client *c)
{
	if (c->text == NULL)
		return milter_done(c, MILTER_GO_ON);
	if (c->asked == MILTER_BODY_END) {
		settle(c);
		c->ended_well = true;
		return milter_done(c, MILTER_GO_ON);
	}
	milter_next_answer(c);
	return milter_pump(c);
}

static bool
take_skip(struct milter_client *c, const struct milter_packet *p)
{
	if (c->asked != MILTER_BODY || (c->steps & MILTER_CAN_SKIP) == 0)
		return out_of_turn(c, p);
	c->part = MILTER_AT_END;
	milter_next_answer(c);
	return milter_pump(c);
}

static bool
take_progress(struct milter_client *c)
{
	if (c->progress++ == MILTER_PROGRESS_MAX)
		return milter_broken(c, "%u times progress and no answer",
		    MILTER_PROGRESS_MAX);
	return false;
}

/* -- changes --------------------------------------------------------------- */

static bool
header_name(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (v.p[i] <= ' ' || v.p[i] > '~' || v.p[i] == ':')
			return false;
	return v.n > 0;
}

/* Is there nothing but white space up to the end of the line at i? */
static bool
blank_line(struct view v, size_t i)
{
	while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\t' ||
	    v.p[i] == '\r'))
		i++;
	return i == v.n || v.p[i] == '\n';
}

/* No line end can hide in it: CRLF is LF, behind an LF stands white space
 * (RFC 5322 section 2.2.3), which is put in where it is missing, and no line
 * is blank. */
static struct view
folded(struct arena *a, struct view v)
{
	char *to = arena_alloc(a, 2 * v.n + 1);
	size_t i, n = 0;
	char ch;

	for (i = 0; i < v.n; i++) {
		ch = v.p[i];
		if ((ch == '\r' && i + 1 < v.n && v.p[i + 1] == '\n') ||
		    (ch == '\n' && blank_line(v, i + 1)))
			continue;
		to[n++] = ch == '\r' ? ' ' : ch;
		if (ch == '\n' && v.p[i + 1] != ' ' && v.p[i + 1] != '\t')
			to[n++] = '\t';
	}
	return view_make(to, n);
}

static bool
plain(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 127)
			return false;
	return true;
}

/* Copies; false: over a limit. */
static bool
add_edit(struct milter_client *c, enum milter_edit_kind kind, uint32_t number,
    struct view name, struct view value)
{
	struct milter_edit *e;

	if (c->edits == NULL) {
		c->edits = mem_array(MILTER_EDITS_MAX, sizeof *c->edits);
		c->edit_bytes = arena_new(3 * MILTER_EDITS_BYTES_MAX);
	}
	if (c->n_edits == MILTER_EDITS_MAX ||
	    arena_used(c->edit_bytes) + 2 * value.n + name.n + 100 >
	    MILTER_EDITS_BYTES_MAX)
		return false;
	e = &c->edits[c->n_edits++];
	e->kind = kind;
	e->number = number;
	e->name = arena_copy(c->edit_bytes, name);
	e->value = folded(c->edit_bytes, value);
	return true;
}

static const char over[] = "changes over the limit";
static const char malformed[] = "malformed change";

static const char *
edit_header(struct milter_client *c, const struct milter_packet *p)
{
	struct view in = p->data, name, value;
	uint32_t number = 0;
	enum milter_edit_kind kind = p->type == MILTER_ADD_HEADER ?
	    MILTER_EDIT_ADD_HEADER : p->type == MILTER_INSERT_HEADER ?
	    MILTER_EDIT_INSERT_HEADER : MILTER_EDIT_CHANGE_HEADER;

	if ((kind != MILTER_EDIT_ADD_HEADER && !milter_get_u32(&in, &number)) ||
	    !milter_get_string(&in, &name) ||
	    !milter_get_string(&in, &value) || in.n > 0)
		return malformed;
	if (!header_name(name))
		return "change of a header whose name is none";
	return add_edit(c, kind, number, name, value) ? NULL : over;
}

/* An address, with arguments or without. */
static const char *
edit_address(struct milter_client *c, const struct milter_packet *p,
    enum milter_edit_kind kind, bool arguments)
{
	struct view in = p->data, address, args = view_make("", 0);

	if (!milter_get_string(&in, &address) ||
	    (in.n > 0 && arguments && !milter_get_string(&in, &args)) ||
	    in.n > 0)
		return malformed;
	if (!plain(address) || !plain(args))
		return "address with a control character";
	if (address.n == 0 && kind != MILTER_EDIT_FROM)
		return "recipient of no characters";
	return add_edit(c, kind, 0, address, args) ? NULL : over;
}

static const char *
edit_body(struct milter_client *c, const struct milter_packet *p)
{
	size_t i, n;

	/* One edit for all of them. */
	for (i = 0; i < c->n_edits; i++)
		if (c->edits[i].kind == MILTER_EDIT_BODY)
			break;
	n = c->n_edits;
	if (i == n && !add_edit(c, MILTER_EDIT_BODY, 0, view_make("", 0),
	    view_make("", 0)))
		return over;
	return buf_putv(&c->body, p->data) ? NULL : "body over the limit";
}

static const char *
edit_quarantine(struct milter_client *c, const struct milter_packet *p)
{
	struct view in = p->data, reason;
	size_t i;

	if (!milter_get_string(&in, &reason) || in.n > 0)
		return malformed;
	c->held = true;
	buf_clear(&c->quarantine);
	reason = view_head(reason, MILTER_QUARANTINE_MAX);
	for (i = 0; i < reason.n; i++)
		(void)buf_putc(&c->quarantine, reason.p[i] < ' ' ||
		    reason.p[i] > '~' ? '?' : reason.p[i]);
	return NULL;
}

static uint32_t
action_of(char type)
{
	switch (type) {
	case MILTER_ADD_HEADER:
	case MILTER_INSERT_HEADER:
		return MILTER_MAY_ADD_HEADERS;
	case MILTER_CHANGE_HEADER:
		return MILTER_MAY_CHANGE_HEADERS;
	case MILTER_REPLACE_BODY:
		return MILTER_MAY_CHANGE_BODY;
	case MILTER_ADD_RCPT:
		return MILTER_MAY_ADD_RCPT;
	case MILTER_ADD_RCPT_ARGS:
		return MILTER_MAY_ADD_RCPT_ARGS;
	case MILTER_DELETE_RCPT:
		return MILTER_MAY_DELETE_RCPT;
	case MILTER_CHANGE_FROM:
		return MILTER_MAY_CHANGE_FROM;
	case MILTER_QUARANTINE:
		return MILTER_MAY_QUARANTINE;
	default:
		return 0;
	}
}

static const char *
edit(struct milter_client *c, const struct milter_packet *p)
{
	switch (p->type) {
	case MILTER_ADD_RCPT:
		return edit_address(c, p, MILTER_EDIT_ADD_RCPT, false);
	case MILTER_ADD_RCPT_ARGS:
		return edit_address(c, p, MILTER_EDIT_ADD_RCPT, true);
	case MILTER_DELETE_RCPT:
		return edit_address(c, p, MILTER_EDIT_DELETE_RCPT, false);
	case MILTER_CHANGE_FROM:
		return edit_address(c, p, MILTER_EDIT_FROM, true);
	case MILTER_REPLACE_BODY:
		return edit_body(c, p);
	case MILTER_QUARANTINE:
		return edit_quarantine(c, p);
	default:
		return edit_header(c, p);
	}
}

static bool
take_edit(struct milter_client *c, const struct milter_packet *p)
{
	uint32_t action = action_of(p->type);
	const char *wrong;

	if (action == 0 || c->asked != MILTER_BODY_END)
		return out_of_turn(c, p);
	if ((c->actions & action) == 0)
		return milter_broken(c, "change \"%c\" that was not "
		    "negotiated", p->type);
	wrong = edit(c, p);
	return wrong != NULL && milter_broken(c, "%s", wrong);
}

bool
milter_take(struct milter_client *c, const struct milter_packet *p)
{
	if (c->state != MILTER_ASKED || c->asked == 0)
		return out_of_turn(c, p);
	if (c->asked == MILTER_NEGOTIATE)
		return take_negotiation(c, p);
	switch (p->type) {
	case MILTER_CONTINUE:
		return take_continue(c);
	case MILTER_ACCEPT:
		return take_accept(c);
	case MILTER_DISCARD:
		return take_discard(c, p);
	case MILTER_REJECT:
	case MILTER_TEMPFAIL:
		return refuse(c, p->type == MILTER_TEMPFAIL, 0);
	case MILTER_REPLY_CODE:
		return take_reply(c, p);
	case MILTER_SHUTDOWN:
		c->passed_session = true;
		return milter_done(c, MILTER_HANG_UP);
	case MILTER_CONNECTION_FAIL:
		return milter_broken(c, "says that it failed");
	case MILTER_SKIP:
		return take_skip(c, p);
	case MILTER_PROGRESS:
		return take_progress(c);
	default:
		return take_edit(c, p);
	}
}
