#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_sasl_impl.h"

/* -- bytes ----------------------------------------------------------------- */

void
relay_wipe(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_free(b);
}

void
relay_wipe_text(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

bool
relay_base64_decode(struct view in, struct buf *out)
{
	char *room;
	size_t pad = 0;
	int n;

	buf_clear(out);
	if (!sasl_base64_good(in) || in.n > SASL_TEXT_MAX)
		return false;
	if (in.n == 0)
		return true;
	room = buf_room(out, in.n / 4 * 3);
	if (room == NULL)
		return false;
	while (pad < 2 && in.p[in.n - 1 - pad] == '=')
		pad++;
	n = EVP_DecodeBlock((unsigned char *)room,
	    (const unsigned char *)in.p, (int)in.n);
	if (n < (int)pad)
		return false;
	out->n += (size_t)n - pad;
	return true;
}

void
relay_base64_encode(struct view in, struct buf *out)
{
	char *room;

	ensure(in.n <= SASL_DECODED_MAX);
	room = buf_room(out, in.n / 3 * 4 + 5);
	ensure(room != NULL);
	if (in.n > 0)
		out->n += (size_t)EVP_EncodeBlock((unsigned char *)room,
		    (const unsigned char *)in.p, (int)in.n);
}

bool
relay_sasl_open(void)
{
	const EVP_MD *const digests[] = { EVP_md5(), EVP_sha1(),
		EVP_sha256() };
	unsigned char out[EVP_MAX_MD_SIZE];
	unsigned n;
	size_t i;

	for (i = 0; i < sizeof digests / sizeof digests[0]; i++)
		if (HMAC(digests[i], "", 0, (const unsigned char *)"", 0, out,
		    &n) == NULL || EVP_Digest("", 0, out, &n, digests[i],
		    NULL) != 1 || PKCS5_PBKDF2_HMAC("", 0,
		    (const unsigned char *)"salt", 4, 1, digests[i], 16,
		    out) != 1)
			return false;
	return RAND_bytes(out, 16) == 1;
}

/* -- the simple ones ------------------------------------------------------- */

static const char *
plain_say(const struct relay_sasl *x, struct buf *out)
{
	return buf_putc(out, '\0') && buf_puts(out, x->user) &&
	    buf_putc(out, '\0') && buf_puts(out, x->secret) ? NULL :
	    "user and password are too long";
}

/* The words of the challenges differ: what is asked for is known by their
 * order. */
static const char *
login_say(struct relay_sasl *x, struct buf *out)
{
	return buf_puts(out, x->step == 0 ? x->user : x->secret) ? NULL :
	    "user or password is too long";
}

static const char *
cram_say(const struct relay_sasl *x, struct view challenge, struct buf *out)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned n = 0, i;
	bool ok;

	if (challenge.n == 0)
		return "empty challenge";
	if (HMAC(EVP_md5(), x->secret, (int)strlen(x->secret),
	    (const unsigned char *)challenge.p, challenge.n, mac, &n) == NULL)
		return "MD5 is not available";
	ok = buf_puts(out, x->user) && buf_putc(out, ' ');
	for (i = 0; i < n; i++)
		ok = ok && buf_printf(out, "%02x", mac[i]);
	explicit_bzero(mac, sizeof mac);
	return ok ? NULL : "user is too long";
}

/* RFC 5801 section 4: "=" and "," of a name. */
static bool
gs2_name(struct buf *out, const char *name)
{
	bool ok = true;

	for (; *name != '\0' && ok; name++)
		ok = *name == ',' ? buf_puts(out, "=2C") : *name == '=' ?
		    buf_puts(out, "=3D") : buf_putc(out, *name);
	return ok;
}

static const char *
bearer_say(const struct relay_sasl *x, struct buf *out)
{
	bool ok;

	if (x->mechanism == MECHANISM_XOAUTH2)
		ok = buf_puts(out, "user=") && buf_puts(out, x->user) &&
		    buf_puts(out, "\1auth=Bearer ") &&
		    buf_puts(out, x->secret) && buf_puts(out, "\1\1");
	else
		ok = buf_puts(out, "n,a=") && gs2_name(out, x->user) &&
		    buf_printf(out, ",\1host=%s\1port=%u\1auth=Bearer ",
		    x->host, (unsigned)x->port) &&
		    buf_puts(out, x->secret) && buf_puts(out, "\1\1");
	return ok ? NULL : "user and token are too long";
}

/* What they say of a refusal is JSON; after our word comes the reply. */
static const char *
bearer_refused(struct relay_sasl *x, struct view challenge, struct buf *out)
{
	size_t i;

	for (i = 0; i < challenge.n && i + 1 < sizeof x->detail; i++)
		x->detail[i] = challenge.p[i] >= ' ' && challenge.p[i] < 0x7f ?
		    challenge.p[i] : '?';
	if (x->mechanism == MECHANISM_OAUTHBEARER)
		(void)buf_putc(out, '\1');
	return NULL;
}

/* -- the exchange ---------------------------------------------------------- */

static bool
is_scram(enum relay_mechanism m)
{
	return m >= MECHANISM_SCRAM_SHA_256_PLUS && m <= MECHANISM_SCRAM_SHA_1;
}

/* A line of the exchange: what is said to the challenge after x->step words.
 * NULL: *out is it. */
static const char *
sasl_say(struct relay_sasl *x, struct view challenge, struct buf *out)
{
	bool token = relay_mechanisms[x->mechanism].token, last = false;
	const char *why = "a challenge more than there can be";

	if (x->complete && !(token && x->step == 1))
		return why;
	if (is_scram(x->mechanism)) {
		why = x->step == 0 ? relay_scram_first(x, out) :
		    x->step == 1 ? relay_scram_final(x, challenge, out) :
		    x->step == 2 ? relay_scram_verify(x, challenge) : why;
		last = x->step == 2;
	} else if (x->mechanism == MECHANISM_PLAIN) {
		why = plain_say(x, out);
		last = true;
	} else if (x->mechanism == MECHANISM_LOGIN) {
		why = login_say(x, out);
		last = x->step == 1;
	} else if (x->mechanism == MECHANISM_CRAM_MD5) {
		why = cram_say(x, challenge, out);
		last = true;
	} else if (token && x->step == 0) {
		why = bearer_say(x, out);
		last = true;
	} else if (token && x->step == 1) {
		why = bearer_refused(x, challenge, out);
	}
	/* After a refusal nothing can be well. */
	x->complete = last && why == NULL;
	return why;
}

enum relay_sasl_step
relay_sasl_step(struct relay_sasl *x, struct view challenge, struct buf *out,
    const char **ret_why)
{
	struct buf in, said;
	const char *why = "the exchange is over";

	buf_init(&in, SASL_DECODED_MAX);
	buf_init(&said, SASL_DECODED_MAX);
	/* They do not move, which would leave copies. */
	ensure(buf_room(&in, SASL_DECODED_MAX) != NULL);
	ensure(buf_room(&said, SASL_DECODED_MAX) != NULL);
	if (!x->broken) {
		why = "a challenge that is not BASE64, or too long";
		if (relay_base64_decode(challenge, &in))
			why = sasl_say(x, buf_view(&in), &said);
	}
	x->broken = why != NULL;
	if (why == NULL) {
		x->step++;
		relay_base64_encode(buf_view(&said), out);
	} else {
		x->complete = false;
		*ret_why = why;
	}
	relay_wipe(&in);
	relay_wipe(&said);
	return why == NULL ? RELAY_SASL_SAY : RELAY_SASL_BAD;
}

bool
relay_sasl_first(const struct relay_sasl *x)
{
	return x->mechanism != MECHANISM_LOGIN &&
	    x->mechanism != MECHANISM_CRAM_MD5;
}

bool
relay_sasl_complete(const struct relay_sasl *x)
{
	return x->complete;
}

const char *
relay_sasl_detail(const struct relay_sasl *x)
{
	return x->detail;
}

enum relay_mechanism
relay_sasl_mechanism(const struct relay_sasl *x)
{
	return x->mechanism;
}

struct relay_sasl *
relay_sasl_new(const struct relay_sasl_about *about, const char *nonce)
{
	struct relay_sasl *x = mem_alloc(sizeof *x);

	ensure(about->mechanism > 0 && about->mechanism < MECHANISMS);
	x->mechanism = about->mechanism;
	x->user = mem_copy(about->user);
	x->secret = mem_copy(about->secret);
	x->host = mem_copy(about->host);
	x->port = about->port;
	if (is_scram(x->mechanism))
		relay_scram_init(x, about, nonce);
	return x;
}

void
relay_sasl_free(struct relay_sasl **xp)
{
	struct relay_sasl *x = *xp;

	*xp = NULL;
	if (x == NULL)
		return;
	relay_wipe_text(&x->user);
	relay_wipe_text(&x->secret);
	free(x->host);
	relay_scram_free(&x->scram);
	explicit_bzero(x, sizeof *x);
	free(x);
}
