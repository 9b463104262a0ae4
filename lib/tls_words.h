/*
 * The words of TLS parameters (smtpd_tls_protocols, tls_high_cipherlist and
 * their like) and what OpenSSL makes of them.  Nothing is opened here, and
 * nothing is logged: what is wrong is given back.
 */
#ifndef LIB_TLS_WORDS_H
#define LIB_TLS_WORDS_H

#include <openssl/types.h>

#include "lib/conf.h"

/* The least that a session must have; those after encrypt, which tell who the
 * other side is, are a client's. */
enum tls_level { TLS_LEVEL_NONE = 0, TLS_LEVEL_MAY, TLS_LEVEL_ENCRYPT,
	TLS_LEVEL_FINGERPRINT,
	TLS_LEVEL_HALFDANE,	/* what dane can come to */
	TLS_LEVEL_DANE, TLS_LEVEL_DANE_ONLY, TLS_LEVEL_VERIFY,
	TLS_LEVEL_SECURE };
/* Empty is none.  False: no such level. */
bool tls_client_level_parse(struct view word, enum tls_level *ret);
/*
 * What smtpd_tls_security_level says, or smtp_tls_security_level; where it is
 * empty the older parameters count, as in Postfix.  A server takes
 * fingerprint, verify and secure for encrypt, with a warning, which is left to
 * the caller.  False: no such level, or dane.
 */
bool tls_server_level(const struct conf *cf, enum tls_level *ret);
bool tls_client_level(const struct conf *cf, enum tls_level *ret);
const char *tls_level_name(enum tls_level level);

/*
 * Protocols as in Postfix: ">=TLSv1.2", "<=TLSv1.3", "!SSLv3", "TLSv1.2,
 * TLSv1.3"; numbers (0x0303) may stand for the names.  Bounds and a set, both
 * of OpenSSL.
 */
struct tls_protocols {
	int min, max;		/* 0: no bound */
	uint64_t off;		/* SSL_OP_NO_... */
	bool old;		/* one below TLSv1.2 is on */
};
/* False: *ret_bad is the word that nobody knows; empty: nothing is left. */
bool tls_protocols_parse(struct view words, struct tls_protocols *ret,
    struct view *ret_bad);

/* tls_ssl_options: "NO_TICKET, NO_RENEGOTIATION" or 0x...: bits for
 * SSL_CTX_set_options().  False: *ret_bad is not known. */
bool tls_options_parse(struct view words, uint64_t *ret,
    struct view *ret_bad);

/*
 * The cipher list of TLSv1.2 and older for a grade (high, medium; low, export
 * and null are what they are in Postfix since 3.8: medium), without the words
 * of exclude and without what is never used.  False: *ret_bad is no cipher
 * name, or out is full.
 */
bool tls_ciphers_put(const struct conf *cf, const char *grade,
    const char *exclude, struct buf *out, struct view *ret_bad);

/*
 * The groups for key exchange, the best first: of the words, those that the
 * library has; no word: its own default, or what tls_config_file says.  Since
 * OpenSSL 3.5 words may be in its syntax, of which older ones read the names
 * alone.  False: there are words, and none of them can be used.
 */
bool tls_groups_set(SSL_CTX *ctx, const char *words);

#endif
