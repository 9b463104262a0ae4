/* link: proxy/lookup_answer.c */
/*
 * The data of DNS records: whatever comes out as a host name can stand in a
 * log line, a command and a question, and encodes back to the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/lookup_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

/* The wire form of text is what data was. */
static void
check_name(const char *text, struct view data)
{
	size_t at = 0, n;

	check(strlen(text) < ANSWER_NAME_MAX);
	while (*text != '\0') {
		n = strcspn(text, ".");
		check(n > 0 && at + 1 + n < data.n);
		check((unsigned char)data.p[at] == n);
		check(memcmp(data.p + at + 1, text, n) == 0);
		check(strspn(text, "abcdefghijklmnopqrstuvwxyz"
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n);
		at += 1 + n;
		text += n + (text[n] == '.');
	}
	check(at + 1 == data.n && data.p[at] == '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size), host;
	char name[ANSWER_NAME_MAX];
	struct netaddr a;
	struct answer_srv srv;
	uint16_t preference;

	if (answer_srv(v, &srv) != ANSWER_BAD) {
		check_name(srv.target, view_from(v, 6));
		check(srv.port != 0 || srv.target[0] == '\0');
	}
	if (answer_name(v, name) != ANSWER_BAD)
		check_name(name, v);
	if (answer_mx(v, &preference, name) != ANSWER_BAD) {
		check_name(name, view_from(v, 2));
		check(preference == (data[0] << 8 | data[1]));
	}
	check(answer_address(v, AF_INET, &a) == (size == 4));
	check(answer_address(v, AF_INET6, &a) == (size == 16));
	if (answer_hosts_line(v, &a, &host))
		check(host.n > 0 && host.p >= v.p && host.p + host.n <=
		    v.p + v.n && a.family != 0);
	return 0;
}
