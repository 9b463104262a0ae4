/* link: proxy/smtpd_text.c proxy/smtpd_binary.c */
/*
 * BINARYMIME becomes lines.  The first byte is the size of the pieces, the
 * second what is made of the rest: a whole message, or the octets of its body,
 * or of two of its parts.  A message gives the same wherever it is cut, with
 * no CR or LF but in CRLF; octets come back out of base64 in lines of 76.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_binary.h"

#define BOUNDARY	"--=_b"
#define FIELD		"Content-Transfer-Encoding: "
#define OUT_MAX		(8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mime_options limits = {
	.header_size_limit = 1024, .line_length_limit = 100,
	.nesting_limit = 4, .part_limit = 100, .boundary_length_limit = 70
};

struct result {
	struct buf out;
	const char *refusal;
	bool is_8bit, bare_lf;
};

static void
convert(struct view in, size_t piece, struct result *r)
{
	struct text t;
	struct binary *b;
	char *own;
	size_t n;

	*r = (struct result){ .refusal = NULL };
	buf_init(&r->out, OUT_MAX);
	text_init_chunks(&t, true);
	b = binary_new(&limits, &t);
	for (; in.n > 0; in = view_from(in, n)) {
		n = piece < in.n ? piece : in.n;
		own = mem_alloc(n);
		memcpy(own, in.p, n);
		binary_decode(b, view_make(own, n), &r->out);
		free(own);
	}
	binary_finish(b, &r->out);
	ensure(t.state == TEXT_END);
	r->refusal = binary_refusal(b);
	r->is_8bit = binary_is_8bit(b);
	r->bare_lf = t.bare_lf;
	binary_free(&b);
}

static void
same(const struct result *a, const struct result *b)
{
	ensure(a->refusal == b->refusal);
	if (a->refusal != NULL)
		return;
	ensure(view_eq(buf_view(&a->out), buf_view(&b->out)));
	ensure(a->is_8bit == b->is_8bit && a->bare_lf == b->bare_lf);
	ensure(a->is_8bit == view_8bit(buf_view(&a->out)));
}

static void
lines(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		ensure(v.p[i] != '\r' || (i + 1 < v.n && v.p[i + 1] == '\n'));
		ensure(v.p[i] != '\n' || (i > 0 && v.p[i - 1] == '\r'));
	}
	ensure(v.n == 0 || v.p[v.n - 1] == '\n');
}

static void
whole(struct view in, size_t piece)
{
	struct result a, b;

	convert(in, in.n + 1, &a);
	convert(in, piece, &b);
	same(&a, &b);
	if (a.refusal == NULL)
		lines(buf_view(&a.out));
	buf_free(&a.out);
	buf_free(&b.out);
}

static void
take(struct view *v, const char *text)
{
	ensure(v->n >= strlen(text) &&
	    memcmp(v->p, text, strlen(text)) == 0);
	*v = view_from(*v, strlen(text));
}

/* Lines of base64 that hold these octets and nothing else. */
static void
take_octets(struct view *v, struct view octets)
{
	unsigned char back[60];
	size_t n, line;
	int got;

	for (; octets.n > 0; octets = view_from(octets, n)) {
		n = octets.n < 57 ? octets.n : 57;
		line = (n + 2) / 3 * 4;
		ensure(v->n >= line);
		got = EVP_DecodeBlock(back, (const unsigned char *)v->p,
		    (int)line);
		/* It counts the padding. */
		ensure(got >= (int)n && got < (int)n + 3);
		ensure(memcmp(back, octets.p, n) == 0);
		*v = view_from(*v, line);
		take(v, "\r\n");
	}
}

/* Is there a boundary in it? */
static bool
unfit(struct view v)
{
	return view_starts_nocase(v, BOUNDARY) ||
	    memmem(v.p, v.n, "\r\n" BOUNDARY, sizeof BOUNDARY + 1) != NULL;
}

static void
body(struct view octets, size_t piece)
{
	struct result r;
	struct buf in;
	struct view v;

	buf_init(&in, OUT_MAX);
	ensure(buf_puts(&in, "A: b\r\n" FIELD "binary\r\n\r\n") &&
	    buf_putv(&in, octets));
	convert(buf_view(&in), piece, &r);
	ensure(r.refusal == NULL && !r.is_8bit && !r.bare_lf);
	v = buf_view(&r.out);
	take(&v, "A: b\r\n" FIELD "base64\r\n\r\n");
	take_octets(&v, octets);
	ensure(v.n == 0);
	buf_free(&r.out);
	buf_free(&in);
}

static void
parts(struct view a, struct view b, size_t piece)
{
	static const char top[] =
	    "Content-Type: multipart/mixed; boundary=\"=_b\"\r\n",
	    binary[] = BOUNDARY "\r\n" FIELD "binary\r\n\r\n",
	    base64[] = BOUNDARY "\r\n" FIELD "base64\r\n\r\n",
	    mail[] = BOUNDARY "\r\nContent-Type: message/rfc822\r\n\r\n"
		"A: b\r\n";
	struct result r;
	struct buf in;
	struct view v;

	if (unfit(a) || unfit(b))
		return;
	buf_init(&in, OUT_MAX);
	ensure(buf_puts(&in, top) && buf_puts(&in, "\r\n") &&
	    buf_puts(&in, binary) && buf_putv(&in, a) &&
	    buf_puts(&in, "\r\n") && buf_puts(&in, mail) &&
	    buf_puts(&in, FIELD "binary\r\n\r\n") && buf_putv(&in, b) &&
	    buf_puts(&in, "\r\n" BOUNDARY "--\nend\n"));
	convert(buf_view(&in), piece, &r);
	ensure(r.refusal == NULL && !r.is_8bit);
	v = buf_view(&r.out);
	take(&v, top);
	take(&v, "\r\n");
	take(&v, base64);
	take_octets(&v, a);
	take(&v, mail);
	take(&v, FIELD "base64\r\n\r\n");
	take_octets(&v, b);
	take(&v, BOUNDARY "--\r\nend\r\n");
	ensure(v.n == 0);
	buf_free(&r.out);
	buf_free(&in);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v;
	size_t piece;

	if (size < 2)
		return 0;
	piece = (size_t)data[0] + 1;
	v = view_make(data + 2, size - 2);
	switch (data[1] % 4) {
	case 0:
	case 1:
		whole(v, piece);
		break;
	case 2:
		body(v, piece);
		break;
	case 3:
		parts(view_head(v, v.n / 2), view_from(v, v.n / 2), piece);
		break;
	}
	return 0;
}
