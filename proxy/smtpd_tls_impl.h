/* TLS of one session: for smtpd_tls.c and smtpd_handshake.c only. */
#ifndef PROXY_SMTPD_TLS_IMPL_H
#define PROXY_SMTPD_TLS_IMPL_H

#include "proxy/smtpd_tls.h"

struct session_tls {
	SSL *ssl;
	struct session *session;
	struct session_tls *next;	/* in the server's queue */
	bool queued;
	bool active;		/* the handshake is done */
	bool broken;		/* OpenSSL must not be asked again */
	bool ended;		/* the client has closed */
	bool said_bye, wants_write;
	bool last;		/* what is written has its end behind it */
	uint8_t head_n;
	uint8_t head[TLS_HEAD_SIZE];
	uint32_t post;		/* messages of a handshake after it */
	struct buf raw;		/* read, and not yet given to OpenSSL */
	char *name;		/* that the client asked for; NULL: none */
	const char *why;	/* of a failed handshake */
	char reason[120];	/* the library's word for it */
	struct tls_info info;
	uint32_t tell;		/* enum tls_tell */
	struct tls_watch *watch;	/* NULL: nothing is watched */
};

#endif
