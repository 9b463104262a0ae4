#include <stdio.h>
#include <time.h>

#include "filters/complete.h"
#include "lib/address.h"
#include "lib/header.h"
#include "lib/log.h"
#include "lib/mail_date.h"

#define INSERT_MAX	16384u
#define ENCODED_WORD	75u

enum seen {
	SEEN_FROM = 1 << 0, SEEN_DATE = 1 << 1, SEEN_MESSAGE_ID = 1 << 2,
	SEEN_TO = 1 << 3,
	SEEN_RESENT_FROM = 1 << 4, SEEN_RESENT_DATE = 1 << 5,
	SEEN_RESENT_MESSAGE_ID = 1 << 6, SEEN_RESENT = 1 << 7,
};

static const struct {
	const char *name;
	uint32_t seen;
} headers[] = {
	{ "From", SEEN_FROM },
	{ "Date", SEEN_DATE },
	{ "Message-ID", SEEN_MESSAGE_ID },
	{ "To", SEEN_TO },
	{ "Cc", SEEN_TO },
	{ "Resent-From", SEEN_RESENT_FROM | SEEN_RESENT },
	{ "Resent-Date", SEEN_RESENT_DATE | SEEN_RESENT },
	{ "Resent-Message-ID", SEEN_RESENT_MESSAGE_ID | SEEN_RESENT },
	{ "Resent-Sender", SEEN_RESENT },
	{ "Resent-Reply-To", SEEN_RESENT },
	{ "Resent-To", SEEN_TO | SEEN_RESENT },
	{ "Resent-Cc", SEEN_TO | SEEN_RESENT },
	{ "Resent-Bcc", SEEN_RESENT },
};

static struct complete *
complete_of(struct stage *s)
{
	return (struct complete *)(void *)s;
}

static uint32_t
header_seen(struct view name)
{
	size_t i;

	for (i = 0; i < sizeof headers / sizeof headers[0]; i++)
		if (view_is_nocase(name, headers[i].name))
			return headers[i].seen;
	return 0;
}

static bool
header_dropped(const struct complete *c, struct view name)
{
	struct view rest = view_of(c->conf->message_drop_headers), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_eq_nocase(word, name))
			return true;
	return false;
}

/* What a rule has put in the place of the header at offset; false: no rule
 * touched it. */
static bool
header_replaced(const struct findings *f, const struct mime_header *h,
    struct view *ret)
{
	const struct note *n;
	size_t i;

	for (i = f->n_notes; i > 0; i--) {
		n = &f->notes[i - 1];
		if (n->offset < h->offset)
			return false;
		if (n->offset == h->offset && n->remove > 0 && !n->stray) {
			*ret = buf_part(&f->bytes, n->at, n->n);
			return true;
		}
	}
	return false;
}

static void
complete_header(struct stage *s, const struct mime_header *h)
{
	struct complete *c = complete_of(s);
	struct view name, rest, text = h->text;
	bool replaced;

	if (h->part->block != MIME_BLOCK_PRIMARY || c->internal)
		return;
	replaced = header_replaced(c->findings, h, &text);
	if (!header_split(text, &name, &rest))
		return;
	if (!replaced && !c->as_it_is && header_dropped(c, name)) {
		if (!findings_replace(c->findings, h->offset, h->size,
		    view_make("", 0))) {
			findings_refuse(c->findings, 451, "4.3.0",
			    "Error: too many headers to remove");
			mime_stop(c->walk);
		}
	}
	c->seen |= header_seen(name);
}

/* -- what is missing ------------------------------------------------------- */

static bool
is_encoded_plain(unsigned char ch)
{
	/* RFC 2047 section 5 (3): safe in a phrase. */
	return isalnum(ch) || ch == '!' || ch == '*' || ch == '+' ||
	    ch == '-' || ch == '/';
}

static bool
put_encoded_word(struct buf *b, struct view *name, const char *charset)
{
	size_t room, n = strlen(charset) + 7, used = 0, i, k, cost;
	bool ok;

	room = n < ENCODED_WORD - 12 ? ENCODED_WORD - n : 12;
	ok = buf_printf(b, "=?%s?Q?", charset);
	while (ok && name->n > 0) {
		/* A character is not cut (section 5). */
		for (k = 1, i = 1; i < name->n && i < 4 &&
		    ((unsigned char)name->p[i] & 0xc0) == 0x80 &&
		    (unsigned char)name->p[0] >= 0xc0; i++)
			k++;
		cost = k == 1 && (is_encoded_plain((unsigned char)name->p[0]) ||
		    name->p[0] == ' ') ? 1 : 3 * k;
		if (used + cost > room)
			break;
		used += cost;
		for (i = 0; ok && i < k; i++) {
			if (name->p[i] == ' ')
				ok = buf_putc(b, '_');
			else if (is_encoded_plain((unsigned char)name->p[i]))
				ok = buf_putc(b, name->p[i]);
			else
				ok = buf_printf(b, "=%02X",
				    (unsigned char)name->p[i]);
		}
		*name = view_from(*name, k);
	}
	return ok && buf_puts(b, "?=");
}

bool
complete_put_phrase(struct buf *b, struct view name, const char *charset)
{
	bool ascii = true, atoms = true, ok = true;
	unsigned char ch;
	size_t i;

	name = view_trim(name);
	for (i = 0; i < name.n; i++) {
		ch = (unsigned char)name.p[i];
		ascii = ascii && ch < 0x80;
		atoms = atoms && (isalnum(ch) || (ch != 0 &&
		    strchr(" !#$%&'*+-/=?^_`{|}~", ch) != NULL));
	}
	/* "=?" would look like an encoded word. */
	for (i = 0; i + 1 < name.n; i++)
		atoms = atoms && (name.p[i] != '=' || name.p[i + 1] != '?');
	if (atoms && ascii)
		return buf_putv(b, name);
	if (!ascii) {
		while (ok && name.n > 0) {
			ok = put_encoded_word(b, &name, charset) &&
			    (name.n == 0 || buf_puts(b, "\r\n "));
		}
		return ok;
	}
	ok = buf_putc(b, '"');
	for (i = 0; ok && i < name.n; i++) {
		ch = (unsigned char)name.p[i];
		if (ch < ' ' || ch == 0x7f)
			ok = buf_putc(b, ' ');
		else
			ok = ((ch != '"' && ch != '\\') ||
			    buf_putc(b, '\\')) && buf_putc(b, (char)ch);
	}
	return ok && buf_putc(b, '"');
}

static bool
add_from(struct complete *c, const char *resent)
{
	const struct envelope *e = c->envelope;
	const char *charset = c->conf->full_name_encoding_charset;
	struct view name = view_trim(e->full_name);
	struct buf *b = &c->insert;
	bool ok;

	ok = buf_printf(b, "%sFrom: ", resent);
	if (name.n > 0)
		ok = ok && complete_put_phrase(b, name, charset) &&
		    buf_puts(b, " <");
	if (e->sender.n > 0)
		ok = ok && address_quote(e->sender, b);
	else
		ok = ok && buf_printf(b, "MAILER-DAEMON@%s",
		    c->conf->myorigin);
	return ok && buf_puts(b, name.n > 0 ? ">\r\n" : "\r\n");
}

static bool
add_message_id(struct complete *c, const char *resent, struct buf *value)
{
	time_t now = (time_t)(c->now.us / 1000000);
	char id[QUEUE_ID_TEXT], when[16];
	struct tm tm;

	if (gmtime_r(&now, &tm) == NULL ||
	    strftime(when, sizeof when, "%Y%m%d%H%M%S", &tm) == 0)
		return false;
	return buf_printf(value, "<%s.%s@%s>", when,
	    queue_id_text(c->id, id), c->conf->myhostname) &&
	    buf_printf(&c->insert, "%sMessage-Id: %.*s\r\n", resent,
	    VIEW_ARGS(buf_view(value)));
}

static bool
add_missing(struct complete *c)
{
	bool again = (c->seen & SEEN_RESENT) != 0, ok = true;
	const char *resent = again ? "Resent-" : "", *to;
	char id[QUEUE_ID_TEXT];
	struct buf value;

	buf_clear(&c->insert);
	if ((c->seen & (again ? SEEN_RESENT_MESSAGE_ID : SEEN_MESSAGE_ID)) ==
	    0) {
		buf_init(&value, 1000);
		ok = add_message_id(c, resent, &value);
		if (ok && !again)
			findings_message_id(c->findings, buf_view(&value));
		if (!c->again)
			log_info("%s: %smessage-id=%s",
			    queue_id_text(c->id, id), again ? "resent-" : "",
			    log_safe(buf_view(&value)));
		buf_free(&value);
	}
	if ((c->seen & (again ? SEEN_RESENT_DATE : SEEN_DATE)) == 0)
		ok = ok && buf_printf(&c->insert, "%sDate: ", resent) &&
		    mail_date_put(&c->insert, c->now) &&
		    buf_puts(&c->insert, "\r\n");
	if ((c->seen & (again ? SEEN_RESENT_FROM : SEEN_FROM)) == 0)
		ok = ok && add_from(c, resent);
	to = c->conf->undisclosed_recipients_header;
	if ((c->seen & SEEN_TO) == 0 && to[0] != '\0')
		ok = ok && buf_printf(&c->insert, "%s\r\n", to);
	return ok;
}

static void
complete_headers_end(struct stage *s, const struct mime_part *p,
    uint64_t offset)
{
	struct complete *c = complete_of(s);

	if (p->block != MIME_BLOCK_PRIMARY || !c->adding)
		return;
	if (!add_missing(c) || (c->insert.n > 0 &&
	    !findings_insert_first(c->findings, offset,
	    buf_view(&c->insert)))) {
		findings_refuse(c->findings, 451, "4.3.0",
		    "Error: no room for the missing headers");
		mime_stop(c->walk);
	}
}

static const struct stage_ops complete_ops = {
	.name = "complete",
	.header = complete_header,
	.headers_end = complete_headers_end,
};

void
complete_init(struct complete *c, const struct conf *cf, struct mime *walk,
    struct findings *findings)
{
	*c = (struct complete){ .stage.ops = &complete_ops, .conf = cf,
		.walk = walk, .findings = findings };
	buf_init(&c->insert, INSERT_MAX);
}

void
complete_free(struct complete *c)
{
	buf_free(&c->insert);
}

void
complete_begin(struct complete *c, const struct envelope *e,
    struct queue_id id)
{
	c->envelope = e;
	c->id = id;
	c->internal = (e->flags & ENVELOPE_NO_FILTER) != 0;
	c->as_it_is = c->findings->soft && (e->flags & ENVELOPE_LOCAL) == 0;
	c->adding = !c->internal && ((e->flags & ENVELOPE_LOCAL) != 0 ||
	    (c->conf->always_add_missing_headers && !c->as_it_is));
	c->seen = 0;
	c->again = false;
	if (c->adding)
		c->now = clock_wall();
}

void
complete_repeat(struct complete *c, const struct envelope *e)
{
	c->envelope = e;
	c->seen = 0;
	c->again = true;
}
