#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "queue/maildrop.h"

#define RECORD_HEAD	3u
#define MAGIC_SIZE	8u

static const char magic[MAGIC_SIZE] = { 'P', 'S', 'T', 'N', 'D', 'R', 'P',
	'\n' };

static const struct {
	enum maildrop_record type;
	size_t max;
} kinds[] = {
	{ MAILDROP_SENDER, ADDRESS_MAX },
	{ MAILDROP_FULL_NAME, MAILDROP_FULL_NAME_MAX },
	{ MAILDROP_ENVID, DSN_ENVID_MAX },
	{ MAILDROP_RET, 1 },
	{ MAILDROP_BODY, 1 },
	{ MAILDROP_TLS, 1 },
	{ MAILDROP_NOTIFY, 1 },
	{ MAILDROP_ORCPT, DSN_ORCPT_MAX },
	{ MAILDROP_RCPT, ADDRESS_MAX },
};

bool
maildrop_name_ok(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if ((name.p[i] < '0' || name.p[i] > '9') &&
		    (name.p[i] < 'a' || name.p[i] > 'f'))
			return false;
	return name.n == MAILDROP_NAME_DIGITS;
}

/* NULL: it may stand in a file. */
static const char *
record_wrong(int type, struct view v)
{
	size_t i, k;

	for (k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
		if ((int)kinds[k].type == type)
			break;
	if (k == sizeof kinds / sizeof kinds[0])
		return "a record of unknown type";
	if (v.n > kinds[k].max)
		return "a record that is too long";
	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f)
			return "a control byte in a record";
	return NULL;
}

bool
maildrop_put(struct buf *b, enum maildrop_record type, struct view v)
{
	if (record_wrong((int)type, v) != NULL ||
	    b->n + RECORD_HEAD + v.n > MAILDROP_ENVELOPE_MAX)
		return false;
	return put_u8(b, (uint8_t)type) && put_u16(b, (uint16_t)v.n) &&
	    buf_putv(b, v);
}

/* -- decoding -------------------------------------------------------------- */

struct decoder {
	struct envelope *e;
	struct view orcpt;
	uint8_t notify;
	bool sender, full_name, envid, ret, body, tls;
	uint32_t max;
};

static const char *
decode_once(bool *seen, struct view *to, struct view v)
{
	if (*seen)
		return "a record that comes twice";
	*seen = true;
	*to = v;
	return NULL;
}

static const char *
decode_address(struct envelope *e, struct view addr)
{
	bool utf8;

	if (!address_utf8(addr, &utf8))
		return "an address that is not UTF-8";
	if (utf8)
		e->flags |= ENVELOPE_SMTPUTF8;
	return NULL;
}

/* What lib/dsn.h can write into a command or a notification. */
static const char *
decode_orcpt(struct decoder *d, struct view v)
{
	struct view type, addr;
	bool utf8;

	if (!dsn_orcpt_split(v, &type, &addr) || !address_utf8(v, &utf8) ||
	    (utf8 && !view_is_nocase(type, "utf-8")))
		return "an unknown ORCPT";
	d->orcpt = v;
	return NULL;
}

static const char *
decode_envid(struct decoder *d, struct view v)
{
	bool utf8;

	if (v.n == 0 || !address_utf8(v, &utf8) || utf8)
		return "an unknown envelope id";
	return decode_once(&d->envid, &d->e->envid, v);
}

static const char *
decode_rcpt(struct decoder *d, struct view v)
{
	struct envelope *e = d->e;

	if (v.n == 0)
		return "an empty recipient";
	if (e->nrcpts == d->max)
		return "too many recipients";
	e->rcpts[e->nrcpts++] = (struct recipient){ .addr = v,
		.orcpt = d->orcpt, .notify = d->notify };
	d->orcpt = view_make("", 0);
	return decode_address(e, v);
}

static const char *
decode_record(struct decoder *d, int type, struct view v)
{
	const char *why = record_wrong(type, v);
	struct envelope *e = d->e;
	struct view one;

	if (why != NULL)
		return why;
	switch (type) {
	case MAILDROP_SENDER:
		why = decode_once(&d->sender, &e->sender, v);
		return why != NULL ? why : decode_address(e, v);
	case MAILDROP_FULL_NAME:
		return decode_once(&d->full_name, &e->full_name, v);
	case MAILDROP_ENVID:
		return decode_envid(d, v);
	case MAILDROP_RET:
		why = decode_once(&d->ret, &one, v);
		if (why == NULL && !view_is(v, "F") && !view_is(v, "H"))
			why = "an unknown RET";
		if (why == NULL)
			e->ret = (uint8_t)v.p[0];
		return why;
	case MAILDROP_BODY:
		why = decode_once(&d->body, &one, v);
		if (why == NULL && !view_is(v, "8"))
			why = "an unknown BODY";
		if (why == NULL)
			e->flags |= ENVELOPE_8BIT;
		return why;
	case MAILDROP_TLS:
		why = decode_once(&d->tls, &one, v);
		if (why == NULL && !view_is(v, "R"))
			why = "an unknown TLS";
		if (why == NULL)
			e->flags |= ENVELOPE_REQUIRETLS;
		return why;
	case MAILDROP_NOTIFY:
		/* '1' to '?': the bits of enum NOTIFY_*, NEVER alone. */
		if (v.n != 1 || v.p[0] < '0' || v.p[0] > '?' ||
		    ((v.p[0] & NOTIFY_NEVER) != 0 && v.p[0] != '1'))
			return "an unknown NOTIFY";
		d->notify = (uint8_t)(v.p[0] - '0');
		return NULL;
	case MAILDROP_ORCPT:
		return decode_orcpt(d, v);
	default:
		return decode_rcpt(d, v);
	}
}

bool
maildrop_envelope(struct view records, struct arena *a, struct envelope *ret,
    const char **ret_why)
{
	struct envelope e = { 0 };
	struct decoder d = { .e = &e, .orcpt = view_make("", 0) };
	struct cursor c = cursor_of(records);
	const char *why = NULL;
	struct view v;
	int type;

	d.max = ENVELOPE_RCPTS_MAX;
	if (records.n / (RECORD_HEAD + 1) < d.max)
		d.max = (uint32_t)(records.n / (RECORD_HEAD + 1));
	e.rcpts = arena_alloc(a, (d.max + 1) * sizeof *e.rcpts);
	while (why == NULL && cursor_left(&c) > 0) {
		type = cursor_u8(&c);
		v = cursor_bytes(&c, cursor_u16(&c));
		why = c.bad ? "a record that is cut" :
		    decode_record(&d, type, v);
	}
	if (why == NULL && !d.sender)
		why = "no sender";
	if (why == NULL && e.nrcpts == 0)
		why = "no recipient";
	if (why != NULL) {
		*ret_why = why;
		return false;
	}
	*ret = e;
	return true;
}

/* -- writing --------------------------------------------------------------- */

static void
write_all(struct maildrop_writer *w, struct view v)
{
	ssize_t n;

	while (w->error == 0 && v.n > 0) {
		n = write(w->fd, v.p, v.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			w->error = n < 0 ? errno : EIO;
		else
			v = view_from(v, (size_t)n);
	}
}

static void
write_summed(struct maildrop_writer *w, struct view v)
{
	(void)XXH3_64bits_update(w->hash, v.p, v.n);
	write_all(w, v);
}

static void
write_number(struct maildrop_writer *w, uint64_t number, size_t size)
{
	struct buf b;

	buf_init(&b, 8);
	(void)put_u64(&b, number);
	write_summed(w, view_head(buf_view(&b), size));
	buf_free(&b);
}

void
maildrop_write_begin(struct maildrop_writer *w, int fd, struct view records)
{
	ensure(records.n <= MAILDROP_ENVELOPE_MAX);
	*w = (struct maildrop_writer){ .fd = fd,
		.hash = XXH3_createState() };
	ensure(w->hash != NULL);
	(void)XXH3_64bits_reset(w->hash);
	buf_init(&w->chunk, MAILDROP_CHUNK_MAX);
	write_summed(w, view_make(magic, sizeof magic));
	write_number(w, records.n, 4);
	write_summed(w, records);
}

static void
write_chunk(struct maildrop_writer *w)
{
	if (w->chunk.n == 0)
		return;
	write_number(w, w->chunk.n, 4);
	write_summed(w, buf_view(&w->chunk));
	w->text += w->chunk.n;
	buf_clear(&w->chunk);
}

void
maildrop_write(struct maildrop_writer *w, struct view text)
{
	size_t n;

	while (text.n > 0) {
		n = MAILDROP_CHUNK_MAX - w->chunk.n;
		n = n < text.n ? n : text.n;
		ensure(buf_putv(&w->chunk, view_head(text, n)));
		text = view_from(text, n);
		if (w->chunk.n == MAILDROP_CHUNK_MAX)
			write_chunk(w);
	}
}

void
maildrop_write_free(struct maildrop_writer *w)
{
	(void)XXH3_freeState(w->hash);
	w->hash = NULL;
	buf_free(&w->chunk);
}

int
maildrop_write_end(struct maildrop_writer *w)
{
	struct buf b;

	write_chunk(w);
	write_number(w, 0, 4);
	write_number(w, w->text, 8);
	buf_init(&b, 8);
	(void)put_u64(&b, XXH3_64bits_digest(w->hash));
	write_all(w, buf_view(&b));
	buf_free(&b);
	maildrop_write_free(w);
	return w->error;
}

/* -- reading --------------------------------------------------------------- */

enum reader_state { READ_MAGIC = 0, READ_SIZE, READ_RECORDS, READ_CHUNK_SIZE,
	READ_CHUNK, READ_LENGTH, READ_SUM, READ_DONE, READ_BAD };

void
maildrop_reader_init(struct maildrop_reader *r)
{
	*r = (struct maildrop_reader){ .state = READ_MAGIC,
		.hash = XXH3_createState() };
	ensure(r->hash != NULL);
	(void)XXH3_64bits_reset(r->hash);
	buf_init(&r->records, MAILDROP_ENVELOPE_MAX);
}

void
maildrop_reader_free(struct maildrop_reader *r)
{
	(void)XXH3_freeState(r->hash);
	r->hash = NULL;
	buf_free(&r->records);
}

static enum maildrop_event
reader_bad(struct maildrop_reader *r, const char *why)
{
	r->state = READ_BAD;
	r->why = why;
	return MAILDROP_BAD;
}

/* Collect n bytes; false: not there yet. */
static bool
reader_fixed(struct maildrop_reader *r, struct view *in, size_t n)
{
	size_t k = n - r->have;

	k = k < in->n ? k : in->n;
	if (k > 0)
		memcpy(r->fixed + r->have, in->p, k);
	r->have += k;
	*in = view_from(*in, k);
	if (r->have < n)
		return false;
	r->have = 0;
	if (r->state != READ_SUM)
		(void)XXH3_64bits_update(r->hash, r->fixed, n);
	return true;
}

static uint64_t
reader_number(const struct maildrop_reader *r, size_t n)
{
	struct cursor c = cursor_of(view_make(r->fixed, n));

	return n == 4 ? cursor_u32(&c) : cursor_u64(&c);
}

/* Bytes of the records or the chunk; empty: none is here. */
static struct view
reader_part(struct maildrop_reader *r, struct view *in)
{
	struct view part = view_head(*in, r->left);

	*in = view_from(*in, part.n);
	r->left -= (uint32_t)part.n;
	(void)XXH3_64bits_update(r->hash, part.p, part.n);
	return part;
}

/* The end of a section of fixed size. */
static enum maildrop_event
reader_section(struct maildrop_reader *r)
{
	switch ((enum reader_state)r->state) {
	case READ_MAGIC:
		if (memcmp(r->fixed, magic, sizeof magic) != 0)
			return reader_bad(r, "no maildrop file");
		r->state = READ_SIZE;
		break;
	case READ_SIZE:
		r->left = (uint32_t)reader_number(r, 4);
		if (r->left > MAILDROP_ENVELOPE_MAX)
			return reader_bad(r, "too many records");
		r->state = READ_RECORDS;
		break;
	case READ_CHUNK_SIZE:
		r->left = (uint32_t)reader_number(r, 4);
		if (r->left > MAILDROP_CHUNK_MAX)
			return reader_bad(r, "a piece of text over its limit");
		r->state = r->left > 0 ? READ_CHUNK : READ_LENGTH;
		break;
	case READ_LENGTH:
		if (reader_number(r, 8) != r->text)
			return reader_bad(r, "another length than it says");
		r->state = READ_SUM;
		break;
	case READ_SUM:
		if (reader_number(r, 8) != XXH3_64bits_digest(r->hash))
			return reader_bad(r, "a wrong checksum");
		r->state = READ_DONE;
		return MAILDROP_END;
	case READ_RECORDS:
	case READ_CHUNK:
	case READ_DONE:
	case READ_BAD:
		panic("maildrop reader in state %d", r->state);
	}
	return MAILDROP_MORE;
}

enum maildrop_event
maildrop_read(struct maildrop_reader *r, struct view *in,
    struct view *ret_text)
{
	static const uint8_t size[] = { [READ_MAGIC] = 8, [READ_SIZE] = 4,
		[READ_CHUNK_SIZE] = 4, [READ_LENGTH] = 8, [READ_SUM] = 8,
		[READ_BAD] = 0 };
	enum maildrop_event e;

	for (;;) {
		if (r->state == READ_BAD)
			return MAILDROP_BAD;
		if (r->state == READ_DONE)
			return in->n == 0 ? MAILDROP_MORE :
			    reader_bad(r, "bytes behind its end");
		if (r->state == READ_RECORDS) {
			ensure(buf_putv(&r->records, reader_part(r, in)));
			if (r->left > 0)
				return MAILDROP_MORE;
			r->state = READ_CHUNK_SIZE;
			return MAILDROP_RECORDS;
		}
		if (r->state == READ_CHUNK) {
			if (in->n == 0)
				return MAILDROP_MORE;
			*ret_text = reader_part(r, in);
			r->text += ret_text->n;
			if (r->left == 0)
				r->state = READ_CHUNK_SIZE;
			return MAILDROP_TEXT;
		}
		if (!reader_fixed(r, in, size[r->state]))
			return MAILDROP_MORE;
		e = reader_section(r);
		if (e != MAILDROP_MORE)
			return e;
	}
}
