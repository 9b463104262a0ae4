/* link: proxy/lookup_packet.c */
/*
 * An answer of the DNS, whole: what comes out lies in the message or beside
 * it, within its maxima, and names in data end where the data ends.  The first
 * byte chooses the type; the question is that of the message, if it has one.
 */
#include <arpa/nameser.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/lookup_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static int
inside(struct view v, const void *from, size_t n)
{
	return v.p >= (const char *)from &&
	    v.p + v.n <= (const char *)from + n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA, DNS_NS,
		DNS_PTR, DNS_MX, DNS_TXT, DNS_SRV, DNS_TLSA };
	static struct packet_room room;
	enum dns_type type;
	struct dns_answer a;
	struct view message;
	ns_msg m;
	ns_rr question;
	const char *name = "a.example";
	size_t i, k;

	if (size == 0)
		return 0;
	type = types[data[0] % 8];
	message = view_make(data + 1, size - 1);
	if (ns_initparse(data + 1, (int)message.n, &m) == 0 &&
	    ns_msg_count(m, ns_s_qd) == 1 &&
	    ns_parserr(&m, ns_s_qd, 0, &question) == 0)
		name = ns_rr_name(question);
	packet_read(message, name, type, &room, &a);
	check(a.status >= DNS_FOUND && a.status <= DNS_FAILED);
	check((a.status == DNS_FOUND) == (a.n > 0) && !a.bogus);
	check(a.n <= DNS_RECORDS_MAX && strlen(room.name) < sizeof room.name);
	if (a.secure)
		check(a.status != DNS_FAILED && (message.p[3] & 0x20) != 0);
	for (i = 0; i < a.n; i++) {
		check(inside(a.data[i], message.p, message.n) ||
		    inside(a.data[i], room.data[i], sizeof room.data[i]));
		if (type != DNS_MX && type != DNS_SRV && type != DNS_NS &&
		    type != DNS_PTR)
			continue;
		k = type == DNS_MX ? 2 : type == DNS_SRV ? 6 : 0;
		while (k < a.data[i].n && a.data[i].p[k] != 0)
			k += 1u + (unsigned char)a.data[i].p[k];
		check(k + 1 == a.data[i].n);
	}
	return 0;
}
