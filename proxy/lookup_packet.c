#include <arpa/nameser.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "proxy/lookup_packet.h"

#define ALIASES_MAX	16u	/* one after the other */

struct packet {
	ns_msg msg;
	unsigned answers;
};

static struct view
packet_name(const char *text)
{
	struct view name = view_of(text);

	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}

/* With a dot at the end, or without. */
static bool
packet_same(const char *a, const char *b)
{
	return view_eq_nocase(packet_name(a), packet_name(b));
}

/* An answer to this question, all of it? */
static bool
packet_answers(ns_msg *m, const char *name, enum dns_type type)
{
	ns_rr question;

	return ns_msg_getflag(*m, ns_f_qr) == 1 &&
	    ns_msg_getflag(*m, ns_f_opcode) == ns_o_query &&
	    ns_msg_getflag(*m, ns_f_tc) == 0 &&
	    ns_msg_count(*m, ns_s_qd) == 1 &&
	    ns_parserr(m, ns_s_qd, 0, &question) == 0 &&
	    ns_rr_type(question) == (unsigned)type &&
	    ns_rr_class(question) == ns_c_in &&
	    packet_same(ns_rr_name(question), name);
}

/* The record number i, if it is one of type at name. */
static bool
packet_record(struct packet *p, unsigned i, unsigned type, const char *name,
    ns_rr *ret)
{
	return ns_parserr(&p->msg, ns_s_an, (int)i, ret) == 0 &&
	    ns_rr_type(*ret) == type && ns_rr_class(*ret) == ns_c_in &&
	    packet_same(ns_rr_name(*ret), name);
}

/* The alias that name is.  False: it is none. */
static bool
packet_alias(struct packet *p, const char *name, ns_rr *ret)
{
	unsigned i;

	for (i = 0; i < p->answers; i++)
		if (packet_record(p, i, ns_t_cname, name, ret))
			return true;
	return false;
}

/* Where the aliases lead; their order is nobody's promise.  False: nowhere. */
static bool
packet_follow(struct packet *p, char name[PACKET_NAME_MAX])
{
	unsigned hops;
	ns_rr rr;

	for (hops = 0; packet_alias(p, name, &rr); hops++)
		if (hops == ALIASES_MAX || ns_name_uncompress(
		    ns_msg_base(p->msg), ns_msg_end(p->msg), ns_rr_rdata(rr),
		    name, PACKET_NAME_MAX) != ns_rr_rdlen(rr))
			return false;
	return true;
}

/* Where in the data of this type a name begins; -1: it has none. */
static int
packet_name_at(enum dns_type type)
{
	switch (type) {
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		return 0;
	case DNS_MX:
		return 2;
	case DNS_SRV:
		return 6;
	case DNS_A:
	case DNS_AAAA:
	case DNS_TXT:
	case DNS_TLSA:
		break;
	}
	return -1;
}

/* A record's data, without compression (RFC 1035 section 4.1.4).  False: it is
 * broken. */
static bool
packet_data(struct packet *p, enum dns_type type, const ns_rr *rr,
    char room[PACKET_DATA_MAX], struct view *ret)
{
	const unsigned char *data = ns_rr_rdata(*rr);
	int at = packet_name_at(type), used;
	u_char name[NS_MAXCDNAME];
	size_t n;

	if (at < 0) {
		*ret = view_make((const char *)data, ns_rr_rdlen(*rr));
		return true;
	}
	if (ns_rr_rdlen(*rr) <= at)
		return false;
	used = ns_name_unpack(ns_msg_base(p->msg), ns_msg_end(p->msg),
	    data + at, name, sizeof name);
	if (used < 0 || at + used != ns_rr_rdlen(*rr))
		return false;
	for (n = 0; name[n] != 0; n += 1u + name[n])
		;
	memcpy(room, data, (size_t)at);
	memcpy(room + at, name, n + 1);
	*ret = view_make(room, (size_t)at + n + 1);
	return true;
}

static void
packet_records(struct packet *p, enum dns_type type, struct packet_room *room,
    struct dns_answer *ret)
{
	bool some = false;
	unsigned i;
	ns_rr rr;

	for (i = 0; i < p->answers && ret->n < DNS_RECORDS_MAX; i++) {
		if (!packet_record(p, i, (unsigned)type, room->name, &rr))
			continue;
		some = true;
		if (packet_data(p, type, &rr, room->data[ret->n],
		    &ret->data[ret->n]))
			ret->n++;
	}
	/* Records, and none of them as it should be, say nothing. */
	ret->status = ret->n > 0 ? DNS_FOUND : some ? DNS_FAILED :
	    DNS_NO_DATA;
}

void
packet_read(struct view message, const char *name, enum dns_type type,
    struct packet_room *room, struct dns_answer *ret)
{
	struct packet p;
	int rcode;

	ensure(room != NULL);
	ret->status = DNS_FAILED;
	ret->bogus = ret->secure = false;
	ret->n = 0;
	ret->name = view_of("");
	if (message.n > NS_MAXMSG || ns_initparse((const u_char *)message.p,
	    (int)message.n, &p.msg) != 0 ||
	    !packet_answers(&p.msg, name, type))
		return;
	p.answers = ns_msg_count(p.msg, ns_s_an);
	(void)snprintf(room->name, sizeof room->name, "%s", name);
	/* An alias that is asked for leads nowhere else. */
	if (type != DNS_CNAME && !packet_follow(&p, room->name))
		return;
	rcode = ns_msg_getflag(p.msg, ns_f_rcode);
	if (rcode == ns_r_nxdomain)
		ret->status = DNS_NO_NAME;
	else if (rcode == ns_r_noerror)
		packet_records(&p, type, room, ret);
	if (ret->status == DNS_FAILED)
		return;
	ret->name = packet_name(room->name);
	ret->secure = ns_msg_getflag(p.msg, ns_f_ad) == 1;
}
