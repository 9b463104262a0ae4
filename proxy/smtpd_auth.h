/*
 * AUTH of one session (RFC 4954).  While a conversation goes on, what the
 * client sends are responses, not commands; they go to an auth role, which
 * says what follows.  Who has logged in stays so until the session ends or
 * begins TLS.
 */
#ifndef PROXY_SMTPD_AUTH_H
#define PROXY_SMTPD_AUTH_H

#include "lib/sasl.h"
#include "proxy/smtpd.h"

struct session_login {
	char *name, *method;
	char *sender;		/* MAIL AUTH=, decoded; NULL: not given */
};

/* What the service offers, when filters of mechanisms are applied. */
struct auth_mechanism {
	char name[SASL_MECHANISM_MAX + 1];
	bool plain, tls;	/* permitted without and with TLS */
};
struct auth_service {
	const struct conf *cf;
	struct addr_list *filter, *exceptions;
	bool known;		/* what the server offers, or that it is away */
	bool announced;		/* auth is not in smtpd_discard_ehlo_keywords */
	struct mono waiting_since;	/* 0: nobody had to wait */
	uint32_t n;
	struct auth_mechanism list[SASL_MECHANISMS_MAX];
	/* "PLAIN LOGIN"; empty: none */
	char text_plain[SASL_MECHANISMS_MAX * (SASL_MECHANISM_MAX + 1)];
	char text_tls[SASL_MECHANISMS_MAX * (SASL_MECHANISM_MAX + 1)];
};

/* *ret NULL: the service has no AUTH.  False after a report. */
bool auth_service_open(const struct conf *cf, bool announced,
    struct auth_service **ret, table_report *report, void *arg);
void auth_service_free(struct auth_service **a);
/* The server offers this. */
void auth_service_begin(struct auth_service *a);
void auth_service_add(struct auth_service *a, struct view mechanism,
    uint32_t properties);
void auth_service_end(struct auth_service *a);

/* The lines of the reply to EHLO for s. */
bool auth_ehlo(const struct session *s, struct buf *out);
bool auth_check(struct session *s, struct view args);
void auth_proceed(struct session *s, struct view args);
/* Is the next line a response? */
bool auth_expects(const struct session *s);
/* One such line at the start of in.  Returns the bytes used; 0: more is
 * needed. */
size_t auth_line(struct session *s, struct view in);
/* Longest line of a command; AUTH may have a response in it. */
size_t auth_command_limit(const struct session *s, struct view in);
/* What of a command line may be shown: not the response of AUTH. */
struct view auth_shown(struct view line);
/* The auth role has answered; it must be an answer that makes sense. */
void auth_answered(struct session *s, enum auth_says says, struct view text,
    struct view login);
void auth_resume(struct session *s);
/* No answer came in time. */
void auth_give_up(struct session *s);
/* Who it is without a conversation: somebody else says so. */
void auth_trust(struct session *s, struct view login, const char *method);
/* The conversation, and who logged in, are forgotten. */
void auth_forget(struct session *s);
/* MAIL AUTH=; false: bad syntax. */
bool auth_sender_good(struct view value);
void auth_sender(struct session *s, struct view value);
/* What the policy may know; views into s. */
void auth_facts(const struct session *s, struct policy_facts *f);
/* ", sasl_method=PLAIN, sasl_username=joe" */
void auth_log(const struct session *s, struct buf *b);

/* -- smtpd_auth_link.c -------- */

struct auth_link;
/* The auth role that a conversation begins with; NULL: there is none. */
struct auth_link *auth_link_take(void);
void auth_link_release(struct auth_link *l);
struct chan *auth_link_chan(const struct auth_link *l);
/* s has a conversation over a link that is gone. */
void auth_lost(struct session *s);
/* Has the server's offer been heard?  Else whoever connects waits. */
bool auth_known(struct server *sv);

#endif
