/* postern test: this host: queue directories, room, clock, resolvers. */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/netaddr.h"
#include "lib/resolvers.h"
#include "proxy/postern_test.h"

#define DNS_LIMIT_MS	5000
#define DNS_MESSAGE_MAX	512u
#define DNS_TYPE_MX	15

/* -- the instance ---------------------------------------------------------- */

static void
check_queue(struct selftest *s, uid_t owner, const char *name, bool *ok)
{
	char *path = mem_printf("%s/%s", s->cf->queue_directory, name);
	struct stat st;

	if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
		selftest_mark(s, MARK_FAILED, "`postern check`, which makes "
		    "it", "%s: %s", path, errno == ENOENT ?
		    "there is no such directory" : "not a directory");
		*ok = false;
	} else if (st.st_uid != owner) {
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "mail_owner"), "%s belongs to uid %u instead of %u", path,
		    (unsigned)st.st_uid, (unsigned)owner);
		*ok = false;
	} else if ((st.st_mode & 07777) != 0700) {
		selftest_mark(s, MARK_FAILED, "`postern check`", "%s has mode "
		    "%04o instead of 0700", path,
		    (unsigned)(st.st_mode & 07777));
		*ok = false;
	}
	free(path);
}

static void
check_queues(struct selftest *s)
{
	static const char *const names[] = { "incoming", "active", "deferred",
		"hold", "corrupt", "bounce", "defer" };
	struct passwd *pw = geteuid() == 0 ? getpwnam(s->cf->mail_owner) :
	    NULL;
	uid_t owner = pw != NULL ? pw->pw_uid : geteuid();
	bool ok = true;
	size_t i;

	if (!s->owner) {
		selftest_mark(s, MARK_NOT_DONE, NULL, "queue directories: "
		    "only the owner of the instance sees them");
		return;
	}
	for (i = 0; i < sizeof names / sizeof names[0]; i++)
		check_queue(s, owner, names[i], &ok);
	if (ok)
		selftest_mark(s, MARK_OK, NULL, "queue directories below %s",
		    s->cf->queue_directory);
}

static void
check_room(struct selftest *s)
{
	struct statvfs v;
	uint64_t room, want = (uint64_t)s->cf->queue_minfree;

	if (statvfs(s->cf->queue_directory, &v) != 0) {
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "queue_directory"), "%s", strerror(errno));
		return;
	}
	room = (uint64_t)v.f_bavail * v.f_frsize;
	if (want < (uint64_t)s->cf->message_size_limit * 3 / 2)
		want = (uint64_t)s->cf->message_size_limit * 3 / 2;
	if (room < want)
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "queue_minfree"), "%llu MB are free for the queue: mail "
		    "is refused below %llu MB", (unsigned long long)room >> 20,
		    (unsigned long long)want >> 20);
	else if (v.f_files > 0 && v.f_favail < 1000)
		selftest_mark(s, MARK_FAILED, s->cf->queue_directory, "only "
		    "%llu files can still be made for the queue",
		    (unsigned long long)v.f_favail);
	else
		selftest_mark(s, MARK_OK, NULL, "%llu MB are free for the "
		    "queue", (unsigned long long)room >> 20);
}

/* A wrong clock gives wrong dates, expired certificates, mail that is too
 * old at once. */
static void
check_clock(struct selftest *s)
{
	struct timex tx = { .modes = 0 };
	char *path = mem_printf("%s/main.cf", s->config_dir);
	int64_t now = clock_wall().us / 1000000;
	struct stat st;
	int state;

	if (stat(path, &st) == 0 && (int64_t)st.st_mtime > now + 60)
		selftest_mark(s, MARK_FAILED, "the clock of this host",
		    "%s was changed %lld s in the future", path,
		    (long long)(st.st_mtime - now));
	else if ((state = adjtimex(&tx)) >= 0 && state != TIME_ERROR &&
	    (tx.status & STA_UNSYNC) == 0)
		selftest_mark(s, MARK_OK, NULL, "the clock is synchronised");
	else
		selftest_mark(s, MARK_NOTE, NULL, "the kernel does not know "
		    "of a time server (NTP) that the clock follows");
	free(path);
}

void
selftest_instance(struct selftest *s)
{
	struct buf answer;
	const char *why;

	printf("Postern %s, %s, configuration %s\n", POSTERN_VERSION,
	    s->cf->myhostname, s->config_dir);
	selftest_title("The instance");
	buf_init(&answer, 1u << 20);
	s->owner = postern_fetch(s->cf, "up", &answer, &why);
	buf_free(&answer);
	if (s->owner)
		selftest_mark(s, MARK_OK, NULL, "it runs and answers: "
		    "process %d", (int)postern_running(s->cf));
	else
		selftest_mark(s, MARK_NOTE, NULL, "process %d runs; %s",
		    (int)postern_running(s->cf), why != NULL ? why :
		    "it does not answer");
	check_queues(s);
	check_room(s);
	check_clock(s);
}

/* -- resolvers ------------------------------------------------------------- */

/* A question for the mail exchangers of domain (RFC 1035 section 4.1). */
static bool
dns_question(struct buf *b, uint16_t id, struct view domain)
{
	const char head[12] = { (char)(id >> 8), (char)id, 1, 0, 0, 1 };
	static const char tail[] = { 0, 0, DNS_TYPE_MX, 0, 1 };
	struct view label;
	bool ok = buf_put(b, head, sizeof head);

	while (ok && (label = view_word(&domain, ".")).n > 0)
		ok = label.n < 64 && buf_putc(b, (char)label.n) &&
		    buf_putv(b, label);
	return ok && buf_put(b, tail, sizeof tail);
}

/* The answer's code; -1: there was none. */
static int
dns_ask(const struct netaddr *server, struct view domain)
{
	struct sockaddr_storage ss;
	socklen_t size = netaddr_to_sockaddr(server, &ss);
	struct mono end = { clock_mono().us + DNS_LIMIT_MS * 1000 };
	unsigned char answer[DNS_MESSAGE_MAX * 4];
	struct pollfd p = { .events = POLLIN };
	uint16_t id = 0;
	struct buf b;
	int rcode = -1;
	ssize_t n;

	buf_init(&b, DNS_MESSAGE_MAX);
	p.fd = socket(server->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p.fd >= 0 && getrandom(&id, sizeof id, 0) == sizeof id &&
	    dns_question(&b, id, domain) &&
	    connect(p.fd, (struct sockaddr *)&ss, size) == 0 &&
	    send(p.fd, b.p, b.n, 0) == (ssize_t)b.n)
		while (rcode < 0 && mono_since(clock_mono(), end) > 0 &&
		    poll(&p, 1, (int)(mono_since(clock_mono(), end) / 1000)
		    + 1) == 1) {
			n = recv(p.fd, answer, sizeof answer, MSG_DONTWAIT);
			if (n < 0)
				break;	/* nobody listens there */
			if (n >= 12 && answer[0] == id >> 8 &&
			    answer[1] == (id & 255) && (answer[2] & 128) != 0)
				rcode = answer[3] & 15;
		}
	if (p.fd >= 0)
		close(p.fd);
	buf_free(&b);
	return rcode;
}

static void
dns_servers(struct selftest *s, const void *arg)
{
	const struct resolvers *r = arg;
	struct view domain = view_of(s->postmaster);
	const char *look = s->cf->dns_resolvers[0] != '\0' ?
	    selftest_place(s, s->cf, "dns_resolvers") : RESOLV_CONF;
	char text[LISTEN_TEXT];
	size_t i;
	int rc;

	domain = view_from(domain, view_find(domain, '@') + 1);
	for (i = 0; i < r->n; i++) {
		rc = dns_ask(&r->list[i], domain);
		(void)listen_text(&r->list[i], text);
		if (rc == 0 || rc == 3)
			selftest_mark(s, MARK_OK, NULL, "the resolver %s "
			    "answers: %.*s %s", text, VIEW_ARGS(domain),
			    rc == 0 ? "exists" : "does not exist in DNS");
		else if (rc < 0)
			selftest_mark(s, MARK_FAILED, look, "the resolver %s "
			    "does not answer", text);
		else
			selftest_mark(s, MARK_FAILED, look, "the resolver %s "
			    "cannot tell anything about %.*s (code %d)", text,
			    VIEW_ARGS(domain), rc);
	}
}

void
selftest_dns(struct selftest *s)
{
	char why[DNSSEC_WHY_MAX];
	struct resolvers r;

	selftest_title("DNS");
	resolvers_find(s->cf, &r);
	if (r.n == 0)
		selftest_mark(s, MARK_NOTE, RESOLV_CONF, "no resolver is "
		    "named, so DNS is asked from its root servers on");
	else
		selftest_apart(s, dns_servers, &r);
	if (dnssec_trust(s->cf, &r, why) != DNSSEC_NONE)
		selftest_mark(s, MARK_OK, NULL, "DNSSEC: %s", why);
	else
		selftest_mark(s, MARK_NOTE, NULL, "DNSSEC proves nothing, so "
		    "that there is no DANE: %s", why);
}
