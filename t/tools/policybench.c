/*
 * What rules cost: policybench [ENTRIES [MICROSECONDS]].  Prints the CPU time
 * of a recipient check against an indexed table of ENTRIES (a million) and of
 * a restriction list of 20 entries, and what part of a message's CPU time
 * that is (MICROSECONDS of all processes together; 305, as contrib/bench
 * measured it on the reference machine).  Facts of the DNS are known.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/policy.h"

#define ROUNDS		200000u
#define KEYS		65536u	/* recipients that are asked for */

static char dir[] = "/tmp/policybench.XXXXXX";
static char keys[KEYS][40];
static unsigned long entries = 1000000;

static void
say(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		(void)fprintf(stderr, "policybench: %s\n", text);
}

/* Numbers that repeat with the same seed and do not stand in a row. */
static unsigned long
next_number(void)
{
	static uint64_t x = 1;

	x = x * 6364136223846793005u + 1442695040888963407u;
	return (unsigned long)(x >> 33);
}

static void
write_table(void)
{
	char *path = mem_printf("%s/rcpts", dir);
	FILE *f = fopen(path, "w");
	unsigned long i;

	if (f == NULL)
		fatal("%s: cannot write", path);
	for (i = 0; i < entries; i++)
		(void)fprintf(f, "user%lu@inside.example x\n", i);
	if (fclose(f) != 0)
		fatal("%s: cannot write", path);
	free(path);
	for (i = 0; i < KEYS; i++)
		(void)snprintf(keys[i], sizeof keys[i],
		    "user%lu@inside.example", next_number() % entries);
}

static double
cpu_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Answer what is asked for: domains have an MX, no list lists anybody. */
static void
learn(const struct policy *p, struct policy_facts *f, struct facts *facts,
    struct policy_result *r)
{
	const struct view mx = view_make("\x0a\0mx.example.org", 16);
	struct buf b;

	buf_init(&b, 1000);
	for (f->asked = 0; f->asked < POLICY_ASKS_MAX; f->asked++) {
		policy_evaluate(p, STAGE_RCPT, f, r);
		if (r->outcome != POLICY_NEED)
			break;
		buf_clear(&b);
		if (!facts_put_answer(&b, r->need.type == FACT_MX ?
		    FACT_FOUND : FACT_NO_NAME, &mx,
		    r->need.type == FACT_MX) ||
		    !facts_add(facts, r->shelf, &r->need, buf_view(&b)))
			fatal("a fact cannot be kept");
	}
	buf_free(&b);
	if (r->outcome != POLICY_PERMIT)
		fatal("not permitted: %u %s", r->reply.code, r->reply.text);
}

/* Microseconds of one evaluation at RCPT. */
static double
measure(const char *settings)
{
	char *text = mem_printf("myhostname = gw.example.net\n"
	    "mydomain = example.net\nmynetworks = 192.0.2.0/24\n"
	    "mydestination = gw.example.net\nrelay_domains = inside.example\n"
	    "config_directory = %s\n%s", dir, settings);
	struct conf *cf = conf_parse(view_of(text), "policybench", say, NULL);
	struct policy *p = cf != NULL ? policy_open(cf, NULL, 0, say, NULL) :
	    NULL;
	struct policy_result *r = policy_result_new();
	struct facts facts = { { NULL }, { 0 }, { 0 } };
	struct policy_facts f = { .client_name = view_of("mail.example.org"),
		.reverse_name = view_of("mail.example.org"),
		.name_status = NAME_OK, .has_helo = true,
		.helo = view_of("mail.example.org"), .has_sender = true,
		.sender = view_of("someone@example.org"),
		.has_recipient = true, .recipient = view_of(keys[0]),
		.known = &facts };
	double since;
	unsigned i;

	if (p == NULL || !netaddr_parse(view_of("203.0.113.5"), &f.client))
		fatal("the settings cannot be used");
	learn(p, &f, &facts, r);
	/* The first round is not measured: it brings the table to memory. */
	for (i = 0, since = 0; i < 2 * ROUNDS; i++) {
		if (i == ROUNDS)
			since = cpu_us();
		f.recipient = view_of(keys[i % KEYS]);
		policy_evaluate(p, STAGE_RCPT, &f, r);
		if (r->outcome != POLICY_PERMIT)
			fatal("%s: not permitted", keys[i % KEYS]);
	}
	since = (cpu_us() - since) / ROUNDS;
	policy_result_free(&r);
	facts_free(&facts);
	policy_free(&p);
	conf_free(&cf);
	free(text);
	return since;
}

static void
clean(void)
{
	static const char *const names[] = { "/rcpts", "/rcpts.lmdb",
		"/rcpts.lmdb-lock", "" };
	char *path;
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		path = mem_printf("%s%s", dir, names[i]);
		(void)remove(path);
		free(path);
	}
}

int
main(int argc, char **argv)
{
	double message = argc > 2 ? strtod(argv[2], NULL) : 305;
	double none, table, list;

	if (argc > 1)
		entries = strtoul(argv[1], NULL, 10);
	if (argc > 3 || entries == 0 || !(message > 0)) {
		(void)fprintf(stderr,
		    "usage: policybench [ENTRIES [MICROSECONDS]]\n");
		return 1;
	}
	if (mkdtemp(dir) == NULL)
		fatal("%s: cannot be made", dir);
	(void)atexit(clean);
	write_table();
	none = measure("smtpd_relay_restrictions = reject_unauth_destination\n"
	    "smtpd_recipient_restrictions =\n"
	    "smtpd_reject_unlisted_recipient = no\n");
	table = measure("smtpd_relay_restrictions ="
	    " reject_unauth_destination\nsmtpd_recipient_restrictions =\n"
	    "relay_recipient_maps = lmdb:rcpts\n") - none;
	list = measure("smtpd_relay_restrictions =\n"
	    "smtpd_reject_unlisted_recipient = no\n"
	    "smtpd_recipient_restrictions = permit_mynetworks,\n"
	    " permit_sasl_authenticated, reject_unauth_pipelining,\n"
	    " reject_unknown_client_hostname,\n"
	    " check_client_access inline:{10.0.0.1=REJECT},\n"
	    " reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname,\n"
	    " reject_unknown_helo_hostname,\n"
	    " check_helo_access inline:{x.example=REJECT},\n"
	    " reject_non_fqdn_sender, reject_unknown_sender_domain,\n"
	    " check_sender_access inline:{x@y.example=REJECT},\n"
	    " reject_non_fqdn_recipient, reject_unknown_recipient_domain,\n"
	    " reject_unauth_destination,\n"
	    " check_recipient_access inline:{u@z.example=REJECT},\n"
	    " reject_rbl_client a.example, reject_rbl_client b.example,\n"
	    " reject_rhsbl_sender c.example, permit\n");
	(void)printf("recipient in a table of %lu: %.2f us, %.2f %% of a "
	    "message\n", entries, table, 100 * table / message);
	(void)printf("list of 20 restrictions: %.2f us, %.2f %% of a "
	    "message\n", list, 100 * list / message);
	return 0;
}
