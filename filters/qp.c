#include "filters/qp.h"

/* 0 to 15; 16 more for lower case; -1: no digit. */
static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10 + 16;
	return -1;
}

void
qp_begin(struct qp *q, bool loose)
{
	*q = (struct qp){ .loose = loose };
}

/* A byte behind an "=". */
static char *
held(struct qp *q, char c, char *o)
{
	int high, low;

	if (digit(c) < 0) {
		condition_add(&q->conditions, MIME_QP_GARBAGE);
		if (!q->loose) {
			memcpy(o, q->held, q->n_held);
			o += q->n_held;
		}
		q->n_held = 0;
		if (c == '=')
			q->held[q->n_held++] = c;
		else if (!q->loose)
			*o++ = c;
		return o;
	}
	if (q->n_held == 1) {
		q->held[q->n_held++] = c;
		return o;
	}
	high = digit(q->held[1]);
	low = digit(c);
	if (high >= 16 || low >= 16)
		condition_add(&q->conditions, MIME_QP_CASE);
	*o++ = (char)((high & 15) * 16 + (low & 15));
	q->n_held = 0;
	return o;
}

size_t
qp_decode(struct qp *q, struct view text, bool last, char *out)
{
	char *o = out;
	size_t n;

	q->soft = false;
	while (q->loose && !q->inside && text.n > 0 && view_space(text.p[0]))
		text = view_from(text, 1);
	q->inside = !last;
	/* White space at the end of a line was added on the way. */
	while (last && text.n > 0 && (text.p[text.n - 1] == ' ' ||
	    text.p[text.n - 1] == '\t'))
		text.n--;
	while (text.n > 0) {
		if (q->n_held > 0) {
			o = held(q, text.p[0], o);
			text = view_from(text, 1);
			continue;
		}
		n = view_find(text, '=');
		memcpy(o, text.p, n);
		o += n;
		text = view_from(text, n);
		if (text.n > 0) {
			q->held[q->n_held++] = '=';
			text = view_from(text, 1);
		}
	}
	if (!last)
		return (size_t)(o - out);
	if (q->n_held == 1) {
		q->n_held = 0;
		q->soft = true;
		return (size_t)(o - out);
	}
	if (q->n_held == 2) {
		condition_add(&q->conditions, MIME_QP_GARBAGE);
		memcpy(o, q->held, 2);
		o += q->loose ? 0 : 2;
		q->n_held = 0;
	}
	*o++ = '\r';
	*o++ = '\n';
	return (size_t)(o - out);
}

void
qp_end(struct qp *q)
{
	if (q->soft || q->n_held > 0)
		condition_add(&q->conditions, MIME_QP_END);
}
