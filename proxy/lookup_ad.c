#define CARES_NO_DEPRECATED	/* in later versions than that of Debian 12 */
#include <ares.h>
#include <arpa/nameser.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/lookup_ad.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_packet.h"

#define TIMEOUT_MS	3000	/* of the first try; doubles with each */
#define TRIES		3
#define UDP_MAX		4096	/* bytes; loopback has room for them */
#define RECEIVE_MAX	(1 << 20)	/* bytes on their way to us */
#define BURST		64u	/* questions ahead of their answers, */
#define BURST_MS	200	/* for so long */

struct ad_question {
	char name[ANSWER_NAME_MAX];
	enum dns_type type;
	dns_done *done;		/* NULL: nobody waits for it any more */
	void *arg;
	unsigned char *message;	/* the question; then the answer, NULL: none */
	int n;
	TAILQ_ENTRY(ad_question) link;	/* while it waits, or is answered */
};

struct ad_socket {
	ares_socket_t fd;
	struct event event;
	LIST_ENTRY(ad_socket) link;
};

static ares_channel channel;
static LIST_HEAD(, ad_socket) sockets = LIST_HEAD_INITIALIZER(sockets);
static TAILQ_HEAD(, ad_question) waiting = TAILQ_HEAD_INITIALIZER(waiting);
static TAILQ_HEAD(, ad_question) answered = TAILQ_HEAD_INITIALIZER(answered);
static size_t n_open;
static unsigned credit = BURST;
static struct event timer, delivery, burst;
static const struct conf *conf;
static bool probed;		/* or not worth it: something was proven */

/* -- c-ares in the event loop ---------------------------------------------- */

static void
ad_set_timer(void)
{
	struct timeval tv;

	if (ares_timeout(channel, NULL, &tv) != NULL)
		evtimer_add(&timer, &tv);
	else
		evtimer_del(&timer);
}

static void
ad_on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	ad_set_timer();
}

static void
ad_on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)arg;
	ares_process_fd(channel,
	    (what & EV_READ) != 0 ? fd : ARES_SOCKET_BAD,
	    (what & EV_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
	ad_set_timer();
}

/* What c-ares waits for; neither: the socket is about to be closed. */
static void
ad_on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct ad_socket *s;

	(void)arg;
	LIST_FOREACH(s, &sockets, link)
		if (s->fd == fd)
			break;
	if (s != NULL) {
		event_del(&s->event);
	} else {
		s = mem_alloc(sizeof *s);
		s->fd = fd;
		LIST_INSERT_HEAD(&sockets, s, link);
	}
	if (!readable && !writable) {
		LIST_REMOVE(s, link);
		free(s);
		return;
	}
	event_assign(&s->event, loop_base(), fd, EV_PERSIST |
	    (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0), ad_on_event,
	    NULL);
	event_add(&s->event, NULL);
}

static void
ad_must(int rc, const char *what)
{
	if (rc != ARES_SUCCESS)
		fatal("name resolver: %s: %s", what, ares_strerror(rc));
}

void
ad_load(const struct conf *cf, const struct resolvers *r)
{
	/* Nothing is read but what is given here. */
	static char no_file[] = "/dev/null", lookups[] = "b";
	struct ares_options o = {
		.flags = ARES_FLAG_EDNS | ARES_FLAG_NOSEARCH |
		    ARES_FLAG_NOALIASES,
		.timeout = TIMEOUT_MS, .tries = TRIES, .ednspsz = UDP_MAX,
		.socket_receive_buffer_size = RECEIVE_MAX,
		.sock_state_cb = ad_on_socket, .lookups = lookups,
		.resolvconf_path = no_file,
	};
	char text[NETADDR_TEXT];
	struct buf list;
	size_t i;

	conf = cf;
	probed = cf->dnssec_probe[0] == '\0';
	ad_must(ares_init_options(&channel, &o, ARES_OPT_FLAGS |
	    ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
	    ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS |
	    ARES_OPT_RESOLVCONF | ARES_OPT_NOROTATE |
	    ARES_OPT_SOCK_RCVBUF), "cannot be made");
	buf_init(&list, RESOLVERS_MAX * (NETADDR_TEXT + 9));
	for (i = 0; i < r->n; i++)
		ensure(buf_printf(&list, r->list[i].family == AF_INET6 ?
		    "%s[%s]:%u" : "%s%s:%u", i > 0 ? "," : "",
		    netaddr_text(&r->list[i], text),
		    (unsigned)r->list[i].port));
	ad_must(ares_set_servers_ports_csv(channel, buf_cstr(&list)),
	    buf_cstr(&list));
	buf_free(&list);
}

/* -- questions ------------------------------------------------------------- */

static void ad_probe(void);
static void ad_send(void);

/* One that is answered, or will not be. */
static void
ad_finish(struct ad_question *q)
{
	struct packet_room room;
	struct dns_answer a;

	packet_read(view_make((const char *)q->message, (size_t)q->n), q->name,
	    q->type, &room, &a);
	n_open--;
	if (a.secure)
		probed = true;
	else if (a.status != DNS_FAILED)
		ad_probe();
	if (q->done != NULL)
		q->done(&a, q->arg);
	free(q->message);
	free(q);
}

static void
ad_deliver(evutil_socket_t fd, short what, void *arg)
{
	struct ad_question *q;

	(void)fd;
	(void)what;
	(void)arg;
	while ((q = TAILQ_FIRST(&answered)) != NULL) {
		TAILQ_REMOVE(&answered, q, link);
		ad_finish(q);
	}
	ad_send();
}

/* c-ares calls this from inside any of its functions, ares_send() too, so it
 * comes to those who wait by way of the event loop. */
static void
ad_on_answer(void *arg, int status, int timeouts, unsigned char *message,
    int n)
{
	struct ad_question *q = arg;

	(void)timeouts;
	if (status == ARES_SUCCESS && n > 0) {
		q->message = mem_alloc((size_t)n);
		q->n = n;
		memcpy(q->message, message, (size_t)n);
	}
	if (credit < BURST)
		credit++;
	TAILQ_INSERT_TAIL(&answered, q, link);
	event_active(&delivery, EV_TIMEOUT, 0);
}

/*
 * A socket's buffer in the kernel has room for a few hundred datagrams; more
 * at once would be lost, and again when they are all repeated.  Those whose
 * answers take long do not stop the others.
 */
static void
ad_send(void)
{
	struct ad_question *q;
	unsigned char *question;
	int n;

	while (credit > 0 && (q = TAILQ_FIRST(&waiting)) != NULL) {
		TAILQ_REMOVE(&waiting, q, link);
		question = q->message;
		n = q->n;
		q->message = NULL;
		q->n = 0;
		credit--;
		ares_send(channel, question, n, ad_on_answer, q);
		ares_free_string(question);
	}
	if (!TAILQ_EMPTY(&waiting) && !evtimer_pending(&burst, NULL))
		evtimer_add(&burst, loop_timeout(BURST_MS));
	ad_set_timer();
}

static void
ad_on_burst(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	credit = BURST;
	ad_send();
}

/* The flags that c-ares leaves out: AD in the header, and DO in the record OPT
 * (RFC 6891 section 6.1.3) with which the question ends. */
static void
ad_want_proof(unsigned char *question, size_t n)
{
	const size_t opt = 11;
	unsigned char *end = question + n - opt;

	ensure(n > NS_HFIXEDSZ + opt && end[0] == 0 && end[1] == 0 &&
	    end[2] == ns_t_opt && end[9] == 0 && end[10] == 0);
	question[3] |= 0x20;
	end[7] |= 0x80;
}

struct ad_question *
ad_ask(const char *name, enum dns_type type, dns_done *done, void *arg)
{
	struct ad_question *q;
	unsigned char *question = NULL;
	unsigned short id = 0;
	int n = 0;

	ensure(getrandom(&id, sizeof id, 0) == sizeof id);
	if (n_open == AD_OPEN_MAX || strlen(name) >= sizeof q->name ||
	    ares_create_query(name, ns_c_in, (int)type, id, 1, &question, &n,
	    UDP_MAX) != ARES_SUCCESS) {
		log_warn("name resolver: %s: %s", log_safe(view_of(name)),
		    n_open == AD_OPEN_MAX ? "too many questions are open" :
		    "cannot be asked for");
		return NULL;
	}
	ad_want_proof(question, (size_t)n);
	q = mem_alloc(sizeof *q);
	memcpy(q->name, name, strlen(name) + 1);
	q->type = type;
	q->done = done;
	q->arg = arg;
	q->message = question;
	q->n = n;
	n_open++;
	TAILQ_INSERT_TAIL(&waiting, q, link);
	ad_send();
	return q;
}

void
ad_cancel(struct ad_question **q)
{
	(*q)->done = NULL;
	*q = NULL;
}

/* -- whether it validates at all ------------------------------------------- */

static const struct {
	const char *word;
	enum dns_type type;
} probe_types[] = {
	{ "a", DNS_A }, { "aaaa", DNS_AAAA }, { "mx", DNS_MX },
	{ "ns", DNS_NS }, { "ptr", DNS_PTR }, { "srv", DNS_SRV },
	{ "tlsa", DNS_TLSA }, { "txt", DNS_TXT },
};

static void
ad_on_probe(const struct dns_answer *a, void *arg)
{
	(void)arg;
	if (!a->secure)
		log_warn("DNSSEC validation may be unavailable: the resolver "
		    "%s dnssec_probe = %s", a->status == DNS_FAILED ?
		    "does not answer" : "has not validated its answer to",
		    conf->dnssec_probe);
}

/* Once: nothing was proven till now, which may be the zones' own matter. */
static void
ad_probe(void)
{
	struct view spec = view_of(conf->dnssec_probe);
	size_t colon = view_find(spec, ':'), i;
	bool asked = false;

	if (probed)
		return;
	probed = true;
	for (i = 0; i < sizeof probe_types / sizeof probe_types[0]; i++)
		if (view_is_nocase(view_head(spec, colon),
		    probe_types[i].word) && colon < spec.n)
			asked = ad_ask(spec.p + colon + 1,
			    probe_types[i].type, ad_on_probe, NULL) != NULL;
	if (!asked)
		log_warn("dnssec_probe: cannot be asked: %s", spec.p);
}

void
ad_start(void)
{
	evtimer_assign(&timer, loop_base(), ad_on_timer, NULL);
	evtimer_assign(&burst, loop_base(), ad_on_burst, NULL);
	evtimer_assign(&delivery, loop_base(), ad_deliver, NULL);
}
