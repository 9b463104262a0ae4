#include "proxy/gate_header.h"

#define TEXT_MAX	107u	/* the longest of version 1, with CRLF */
#define FIXED		16u	/* of version 2 */

static const char text_start[] = "PROXY TCP";
static const char binary_start[] = "\r\n\r\n\0\r\nQUIT\n";

/* -- version 1 ------------------------------------------------------------- */

/* Fields have exactly one space between them. */
static struct view
text_field(struct view *rest)
{
	size_t n = view_find(*rest, ' ');
	struct view field = view_head(*rest, n);

	*rest = view_from(*rest, n < rest->n ? n + 1 : n);
	return field;
}

static bool
text_port(struct view v, uint16_t *ret)
{
	uint32_t n = 0;
	size_t i;

	if (v.n == 0 || v.n > 5)
		return false;
	for (i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (uint32_t)(v.p[i] - '0');
	}
	*ret = (uint16_t)n;
	return n <= UINT16_MAX;
}

/* "192.0.2.1" or "2001:db8::1", as the family says and nothing around it. */
static bool
text_address(struct view v, bool six, struct netaddr *ret)
{
	return v.n > 0 && v.p[0] != '[' &&
	    (view_find(v, ':') < v.n) == six && netaddr_parse(v, ret);
}

/* "4 192.0.2.1 192.0.2.2 4711 25", behind text_start. */
static enum gate_header
text_read(struct view line, struct netaddr *remote, struct netaddr *local)
{
	struct view family = text_field(&line), from = text_field(&line),
	    to = text_field(&line), from_port = text_field(&line),
	    to_port = line;
	bool six = view_is(family, "6");
	struct netaddr a, b;

	if ((!six && !view_is(family, "4")) ||
	    !text_address(from, six, &a) || !text_address(to, six, &b) ||
	    !text_port(from_port, &a.port) || !text_port(to_port, &b.port))
		return GATE_HEADER_BAD;
	*remote = a;
	*local = b;
	return GATE_HEADER_CLIENT;
}

static enum gate_header
text_header(struct view in, size_t *ret_n, struct netaddr *remote,
    struct netaddr *local)
{
	size_t start = sizeof text_start - 1, n = in.n, lf;

	if (memcmp(in.p, text_start, n < start ? n : start) != 0)
		return GATE_HEADER_BAD;
	lf = view_find(in, '\n');
	if (lf == in.n) {
		*ret_n = in.n;
		return in.n < TEXT_MAX ? GATE_HEADER_MORE : GATE_HEADER_BAD;
	}
	if (lf <= start || lf >= TEXT_MAX || in.p[lf - 1] != '\r')
		return GATE_HEADER_BAD;
	*ret_n = lf + 1;
	return text_read(view_from(view_head(in, lf - 1), start), remote,
	    local);
}

/* -- version 2 ------------------------------------------------------------- */

static uint16_t
binary_u16(const char *p)
{
	return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
}

static bool
binary_addresses(struct view v, size_t bytes, struct netaddr *remote,
    struct netaddr *local)
{
	if (v.n < 2 * bytes + 4 ||
	    !netaddr_from_bytes(view_head(v, bytes), remote) ||
	    !netaddr_from_bytes(view_head(view_from(v, bytes), bytes), local))
		return false;
	remote->port = binary_u16(v.p + 2 * bytes);
	local->port = binary_u16(v.p + 2 * bytes + 2);
	return true;
}

static enum gate_header
binary_header(struct view in, size_t *ret_n, struct netaddr *remote,
    struct netaddr *local)
{
	size_t start = sizeof binary_start - 1, n = in.n, len;
	struct netaddr a, b;
	uint8_t command, family;
	bool ok = false;

	if (memcmp(in.p, binary_start, n < start ? n : start) != 0)
		return GATE_HEADER_BAD;
	*ret_n = in.n;
	/* Version, command: what cannot be right is not waited for. */
	command = n > start ? (uint8_t)in.p[start] : 0x21;
	if (command != 0x20 && command != 0x21)
		return GATE_HEADER_BAD;
	if (n < FIXED)
		return GATE_HEADER_MORE;
	family = (uint8_t)in.p[start + 1];
	len = FIXED + binary_u16(in.p + start + 2);
	if (len > GATE_HEADER_MAX)
		return GATE_HEADER_BAD;
	if (command == 0x21 && family != 0x11 && family != 0x21)
		return GATE_HEADER_BAD;
	if (n < len)
		return GATE_HEADER_MORE;
	*ret_n = len;
	if (command == 0x20)
		return GATE_HEADER_LOCAL;
	in = view_from(view_head(in, len), FIXED);
	if (family == 0x11)
		ok = binary_addresses(in, 4, &a, &b);
	else
		ok = binary_addresses(in, 16, &a, &b);
	if (!ok)
		return GATE_HEADER_BAD;
	*remote = a;
	*local = b;
	return GATE_HEADER_CLIENT;
}

enum gate_header
gate_header_read(struct view in, size_t *ret_n, struct netaddr *remote,
    struct netaddr *local)
{
	*ret_n = 0;
	if (in.n == 0)
		return GATE_HEADER_MORE;
	return in.p[0] == binary_start[0] ?
	    binary_header(in, ret_n, remote, local) :
	    text_header(in, ret_n, remote, local);
}
