#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "filters/milter_client_priv.h"
#include "lib/log.h"

#define ACTIONS_ALL	0x1ffu
#define STEPS_ALL	0x1fffffu
#define MACRO_VALUES_MAX	(64u << 10)	/* of one packet */

/* What a version knows of actions and steps. */
static const struct {
	uint32_t actions, steps;
} known[MILTER_VERSION_MAX + 1] = {
	[2] = { 0x3f, 0x7f }, [3] = { 0x3f, 0x17f }, [4] = { 0x3f, 0x3ff },
	[5] = { 0x3f, 0x3ff }, [6] = { ACTIONS_ALL, STEPS_ALL },
};

struct milter_client *
milter_client_new(const struct milter_settings *s, milter_macro *macro,
    void *arg)
{
	struct milter_client *c = mem_alloc(sizeof *c);

	ensure(s->version >= MILTER_VERSION_MIN &&
	    s->version <= MILTER_VERSION_MAX);
	c->set = *s;
	c->macro = macro;
	c->arg = arg;
	c->state = MILTER_NEW;
	buf_init(&c->out, MILTER_OUT_MAX);
	buf_init(&c->why, MILTER_PACKET_MAX + 1000);
	buf_init(&c->body, (size_t)s->body_max);
	buf_init(&c->quarantine, MILTER_QUARANTINE_MAX);
	return c;
}

static void
forget_edits(struct milter_client *c)
{
	c->n_edits = 0;
	c->held = false;
	buf_free(&c->body);
	buf_clear(&c->quarantine);
	arena_free(&c->edit_bytes);
	free(c->edits);
	c->edits = NULL;
}

void
milter_client_free(struct milter_client **cp)
{
	struct milter_client *c = *cp;
	size_t i;

	if (c == NULL)
		return;
	forget_edits(c);
	for (i = 0; i < MILTER_MACRO_STAGES; i++)
		free(c->own_macros[i]);
	buf_free(&c->out);
	buf_free(&c->why);
	buf_free(&c->quarantine);
	free(c);
	*cp = NULL;
}

void
milter_client_adopt(struct milter_client *c, void *arg)
{
	ensure(c->state == MILTER_READY && !c->in_session);
	c->arg = arg;
}

bool
milter_done(struct milter_client *c, enum milter_answer answer)
{
	c->result.answer = answer;
	c->asked = 0;
	c->text = NULL;
	/* What it says to the rest cannot be told from later answers. */
	c->cut = c->n_behind > 0;
	c->state = c->cut ? MILTER_ENDED : MILTER_READY;
	c->n_behind = 0;
	return true;
}

bool
milter_broken(struct milter_client *c, const char *fmt, ...)
{
	va_list ap;

	buf_clear(&c->why);
	va_start(ap, fmt);
	(void)buf_vprintf(&c->why, fmt, ap);
	va_end(ap);
	forget_edits(c);
	buf_clear(&c->out);
	(void)milter_done(c, MILTER_BROKEN);
	c->result.text = buf_view(&c->why);
	c->state = MILTER_ENDED;
	return true;
}

/* -- what is said ---------------------------------------------------------- */

static bool
too_much(struct milter_client *c)
{
	return milter_broken(c, "more to tell it than the limit");
}

/* One macro of a list; its name goes out as it stands there. */
static bool
put_macro(struct milter_client *c, struct view word)
{
	struct view name = word, value;

	if (name.n > 2 && name.p[0] == '{' && name.p[name.n - 1] == '}')
		name = view_head(view_from(name, 1), name.n - 2);
	if (!c->macro(c->arg, name, &value))
		return true;
	/* One letter goes bare, a longer name in braces. */
	return (name.n == 1 ? milter_put_string(&c->out, name) :
	    buf_putc(&c->out, '{') && buf_putv(&c->out, name) &&
	    buf_put(&c->out, "}\0", 2)) &&
	    milter_put_string(&c->out, view_head(value, MACRO_VALUES_MAX));
}

static bool
put_macros(struct milter_client *c, enum milter_command command,
    struct view list)
{
	size_t at, empty;
	struct view word;

	if (!milter_packet_begin(&c->out, MILTER_MACRO, &at) ||
	    !buf_putc(&c->out, (char)command))
		return false;
	empty = c->out.n;
	while ((word = view_word(&list, " \t\r\n,")).n > 0)
		if (!put_macro(c, word))
			return false;
	if (c->out.n == empty)
		c->out.n = at;
	else
		milter_packet_end(&c->out, at);
	return true;
}

static struct view
macros_of(const struct milter_client *c, enum milter_macro_stage stage)
{
	return c->own_macros[stage] != NULL ? view_of(c->own_macros[stage]) :
	    c->set.macros[stage];
}

/* The call needs no word with the filter. */
static bool
passes(struct milter_client *c)
{
	ensure(c->state != MILTER_ASKED);
	if (c->state == MILTER_ENDED || c->state == MILTER_NEW) {
		if (c->result.answer != MILTER_BROKEN)
			(void)milter_broken(c, "not connected");
		return true;
	}
	c->result = (struct milter_result){ .answer = MILTER_GO_ON };
	return c->passed_session || c->passed_message;
}

static void
ask(struct milter_client *c, enum milter_command command)
{
	c->state = MILTER_ASKED;
	c->asked = command;
	c->progress = 0;
}

/* It was said; is there an answer to wait for? */
static bool
said(struct milter_client *c, enum milter_command command, uint32_t silent)
{
	if ((c->steps & silent) != 0)
		return true;
	ask(c, command);
	return false;
}

bool
milter_client_negotiate(struct milter_client *c)
{
	size_t at;

	ensure(c->state == MILTER_NEW);
	if (!milter_packet_begin(&c->out, MILTER_NEGOTIATE, &at) ||
	    !milter_put_u32(&c->out, c->set.version) ||
	    !milter_put_u32(&c->out, known[c->set.version].actions) ||
	    !milter_put_u32(&c->out, known[c->set.version].steps &
	    ~(c->set.rejected_rcpts ? 0u : MILTER_REJECTED_RCPT)))
		return too_much(c);
	milter_packet_end(&c->out, at);
	c->actions = known[c->set.version].actions;
	c->steps = known[c->set.version].steps;
	ask(c, MILTER_NEGOTIATE);
	return false;
}

bool
milter_client_connect(struct milter_client *c, struct view name, char family,
    uint16_t port, struct view addr)
{
	size_t at;
	char be[2] = { (char)(port >> 8), (char)port };

	if (passes(c))
		return true;
	c->ended_well = false;
	c->in_session = true;
	if (!put_macros(c, MILTER_CONNECT, macros_of(c,
	    MILTER_MACROS_CONNECT)))
		return too_much(c);
	if ((c->steps & MILTER_NO_CONNECT) != 0)
		return true;
	if (!milter_packet_begin(&c->out, MILTER_CONNECT, &at) ||
	    !milter_put_string(&c->out, name) || !buf_putc(&c->out, family) ||
	    (family != 'U' && (!buf_put(&c->out, be, sizeof be) ||
	    !milter_put_string(&c->out, addr))))
		return too_much(c);
	milter_packet_end(&c->out, at);
	return said(c, MILTER_CONNECT, MILTER_SILENT_CONNECT);
}

/* Macros, then a packet of strings. */
static bool
say(struct milter_client *c, enum milter_command command, struct view macros,
    const struct view *args, size_t n, uint32_t no, uint32_t silent)
{
	size_t at, i;

	if (!put_macros(c, command, macros))
		return too_much(c);
	if ((c->steps & no) != 0)
		return true;
	if (!milter_packet_begin(&c->out, (char)command, &at))
		return too_much(c);
	for (i = 0; i < n; i++)
		if (!milter_put_string(&c->out, args[i]))
			return too_much(c);
	milter_packet_end(&c->out, at);
	return said(c, command, silent);
}

bool
milter_client_helo(struct milter_client *c, struct view name)
{
	return passes(c) || say(c, MILTER_HELO, macros_of(c,
	    MILTER_MACROS_HELO), &name, 1, MILTER_NO_HELO,
	    MILTER_SILENT_HELO);
}

bool
milter_client_mail(struct milter_client *c, const struct view *args, size_t n)
{
	c->passed_message = false;
	if (passes(c))
		return true;
	(void)milter_client_abort(c);
	c->ended_well = false;
	c->in_transaction = true;
	return say(c, MILTER_MAIL, macros_of(c, MILTER_MACROS_MAIL), args, n,
	    MILTER_NO_MAIL, MILTER_SILENT_MAIL);
}

bool
milter_client_rcpt(struct milter_client *c, const struct view *args, size_t n,
    bool refused)
{
	if (passes(c))
		return true;
	if (refused && (c->steps & MILTER_REJECTED_RCPT) == 0)
		return true;
	return say(c, MILTER_RCPT, macros_of(c, MILTER_MACROS_RCPT), args, n,
	    MILTER_NO_RCPT, MILTER_SILENT_RCPT);
}

bool
milter_client_data(struct milter_client *c)
{
	return passes(c) || c->version < 4 || say(c, MILTER_DATA,
	    macros_of(c, MILTER_MACROS_DATA), NULL, 0, MILTER_NO_DATA,
	    MILTER_SILENT_DATA);
}

bool
milter_client_unknown(struct milter_client *c, struct view command)
{
	return passes(c) || c->version < 3 || say(c, MILTER_UNKNOWN,
	    c->set.unknown_macros, &command, 1, MILTER_NO_UNKNOWN,
	    MILTER_SILENT_UNKNOWN);
}

bool
milter_client_abort(struct milter_client *c)
{
	bool said;

	ensure(c->state != MILTER_ASKED);
	said = c->state == MILTER_READY && c->in_transaction &&
	    milter_put_packet(&c->out, MILTER_ABORT, view_make("", 0));
	c->in_transaction = c->passed_message = false;
	forget_edits(c);
	return said;
}

bool
milter_client_renew(struct milter_client *c)
{
	/* libmilter with a pool of workers, as Debian builds it, hears nothing
	 * any more when QUIT_NC follows ABORT, or ACCEPT at the end. */
	if (c->state != MILTER_READY || c->version < 6 ||
	    (c->in_session && !c->ended_well))
		return false;
	(void)milter_client_abort(c);
	if (c->in_session && !milter_put_packet(&c->out, MILTER_QUIT_NEW,
	    view_make("", 0)))
		return false;
	c->in_session = c->passed_session = false;
	return true;
}

void
milter_client_quit(struct milter_client *c)
{
	if (c->state == MILTER_READY)
		(void)milter_put_packet(&c->out, MILTER_QUIT,
		    view_make("", 0));
	c->state = MILTER_ENDED;
	forget_edits(c);
}

/* -- a message ------------------------------------------------------------- */

static bool
put_header(struct milter_client *c, const struct milter_header *h)
{
	struct view value = h->value;
	size_t at;

	if ((c->steps & MILTER_LEADING_SPACE) == 0 && value.n > 0 &&
	    value.p[0] == ' ')
		value = view_from(value, 1);
	if (!milter_packet_begin(&c->out, MILTER_HEADER, &at) ||
	    !milter_put_string(&c->out, h->name) ||
	    !milter_put_string(&c->out, value))
		return false;
	milter_packet_end(&c->out, at);
	return true;
}

/* The answer to what was just said, unless the filter agreed to be silent. */
static void
expect(struct milter_client *c, enum milter_command command, uint32_t silent)
{
	if ((c->steps & silent) != 0)
		return;
	if (c->asked != 0)
		c->behind[c->n_behind++] = command;
	else {
		c->asked = command;
		c->progress = 0;
	}
}

void
milter_next_answer(struct milter_client *c)
{
	c->asked = 0;
	c->progress = 0;
	if (c->n_behind == 0)
		return;
	c->asked = c->behind[0];
	c->n_behind--;
	memmove(c->behind, c->behind + 1, c->n_behind * sizeof c->behind[0]);
}

/* Is it time for the next piece of the message? */
static bool
may_say(const struct milter_client *c)
{
	enum milter_command last = c->n_behind > 0 ?
	    c->behind[c->n_behind - 1] : c->asked;

	if (c->out.n >= MILTER_OUT_ENOUGH)
		return false;
	/* Not the end: one answer too many is not taken for that to it. */
	return c->asked == 0 || (c->set.pipelining && c->version >= 6 &&
	    c->n_behind < MILTER_BEHIND_MAX && last != MILTER_BODY &&
	    c->part != MILTER_AT_END && c->part != MILTER_SENT);
}

static bool
send_header(struct milter_client *c)
{
	if ((c->steps & MILTER_NO_HEADERS) != 0 ||
	    c->next == c->text->n_headers) {
		c->part = MILTER_AT_HEADERS_END;
		return true;
	}
	if (!put_header(c, &c->text->headers[c->next++]))
		return false;
	expect(c, MILTER_HEADER, MILTER_SILENT_HEADERS);
	return true;
}

static bool
send_headers_end(struct milter_client *c)
{
	c->part = MILTER_IN_BODY;
	c->next = 0;
	if (!put_macros(c, MILTER_HEADERS_END, macros_of(c,
	    MILTER_MACROS_HEADERS_END)))
		return false;
	if ((c->steps & MILTER_NO_HEADERS_END) != 0)
		return true;
	if (!milter_put_packet(&c->out, MILTER_HEADERS_END,
	    view_make("", 0)))
		return false;
	expect(c, MILTER_HEADERS_END, MILTER_SILENT_HEADERS_END);
	return true;
}

static bool
send_body(struct milter_client *c)
{
	struct view rest = view_from(c->text->body, c->next);

	if ((c->steps & MILTER_NO_BODY) != 0 || rest.n == 0) {
		c->part = MILTER_AT_END;
		return true;
	}
	rest = view_head(rest, MILTER_CHUNK);
	c->next += rest.n;
	if (!milter_put_packet(&c->out, MILTER_BODY, rest))
		return false;
	expect(c, MILTER_BODY, MILTER_SILENT_BODY);
	return true;
}

static bool
send_end(struct milter_client *c)
{
	c->part = MILTER_SENT;
	if (!put_macros(c, MILTER_BODY_END, macros_of(c,
	    MILTER_MACROS_BODY_END)) ||
	    !milter_put_packet(&c->out, MILTER_BODY_END, view_make("", 0)))
		return false;
	expect(c, MILTER_BODY_END, 0);
	return true;
}

bool
milter_pump(struct milter_client *c)
{
	bool ok = true;

	while (ok && may_say(c)) {
		switch (c->part) {
		case MILTER_IN_HEADERS:
			ok = send_header(c);
			break;
		case MILTER_AT_HEADERS_END:
			ok = send_headers_end(c);
			break;
		case MILTER_IN_BODY:
			ok = send_body(c);
			break;
		case MILTER_AT_END:
			ok = send_end(c);
			break;
		case MILTER_SENT:
			return false;
		}
	}
	return ok ? false : too_much(c);
}

bool
milter_client_message(struct milter_client *c, const struct milter_text *t)
{
	forget_edits(c);
	if (passes(c))
		return true;
	c->text = t;
	c->part = MILTER_IN_HEADERS;
	c->next = 0;
	c->state = MILTER_ASKED;
	c->asked = 0;
	return milter_pump(c);
}

void
milter_client_pipelines(struct milter_client *c, bool yes)
{
	ensure(c->state != MILTER_ASKED);
	c->set.pipelining = yes;
}

bool
milter_client_cut(const struct milter_client *c)
{
	return c->cut;
}

/* -- the owner's side ------------------------------------------------------ */

struct buf *
milter_client_out(struct milter_client *c)
{
	return &c->out;
}

bool
milter_client_written(struct milter_client *c)
{
	return c->text != NULL && milter_pump(c);
}

bool
milter_client_read(struct milter_client *c, struct view *in)
{
	struct milter_packet p;

	for (;;) {
		if (in->n == 0)
			return false;
		if (c->state == MILTER_ENDED) {
			*in = view_from(*in, in->n);
			return false;
		}
		switch (milter_packet_get(in, MILTER_PACKET_MAX, &p)) {
		case MILTER_GET_MORE:
			return false;
		case MILTER_GET_BAD:
			return milter_broken(c, "packet of a wrong length");
		case MILTER_GET_PACKET:
			/* It cannot have heard all of the question. */
			if (c->out.n > 0 && c->n_behind == 0)
				return milter_broken(c, "answers before it "
				    "is asked");
			if (milter_take(c, &p))
				return true;
			break;
		}
	}
}

void
milter_client_fail(struct milter_client *c, const char *why)
{
	if (c->state != MILTER_ENDED)
		(void)milter_broken(c, "%s", why);
}

bool
milter_client_over(const struct milter_client *c)
{
	return c->state == MILTER_ENDED;
}

bool
milter_client_waiting(const struct milter_client *c)
{
	return c->state == MILTER_ASKED;
}

const struct milter_result *
milter_client_result(const struct milter_client *c)
{
	return &c->result;
}

const struct milter_edit *
milter_client_edits(const struct milter_client *c, size_t *ret_n)
{
	*ret_n = c->n_edits;
	return c->edits;
}

struct view
milter_client_body(const struct milter_client *c)
{
	return buf_view(&c->body);
}

bool
milter_client_quarantine(const struct milter_client *c, struct view *ret)
{
	*ret = buf_view(&c->quarantine);
	return c->held;
}

uint32_t
milter_client_steps(const struct milter_client *c)
{
	return c->steps;
}
