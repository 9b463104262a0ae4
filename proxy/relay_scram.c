/* SCRAM (RFC 5802, RFC 7677): the client's side. */
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_sasl_impl.h"

#define NONCE_BYTES	24	/* 32 letters */

static bool
scram_mac(const struct scram *s, const unsigned char *key, struct view text,
    unsigned char *ret)
{
	unsigned n = 0;

	return HMAC(s->md, key, (int)s->size, (const unsigned char *)text.p,
	    text.n, ret, &n) != NULL && n == s->size;
}

static char *
scram_nonce(void)
{
	unsigned char random[NONCE_BYTES];
	char *text = mem_alloc(NONCE_BYTES / 3 * 4 + 1);

	if (RAND_bytes(random, sizeof random) != 1)
		fatal("no random numbers from OpenSSL");
	(void)EVP_EncodeBlock((unsigned char *)text, random, sizeof random);
	return text;
}

/* What c= of the last message carries: the header of our first one, and what
 * names the channel. */
static void
scram_header(struct scram *s, const struct relay_sasl_about *about)
{
	const struct relay_binding *b = about->binding;
	bool plus = relay_mechanisms[about->mechanism].binding;

	ensure(!plus || (b != NULL && b->type != NULL));
	buf_init(&s->gs2, 256);
	if (plus)
		(void)buf_printf(&s->gs2, "p=%s,,", b->type);
	else
		(void)buf_puts(&s->gs2, about->could_bind ? "y,," : "n,,");
	s->gs2_header = s->gs2.n;
	if (plus)
		(void)buf_put(&s->gs2, b->data, b->n);
}

void
relay_scram_init(struct relay_sasl *x, const struct relay_sasl_about *about,
    const char *nonce)
{
	struct scram *s = &x->scram;
	bool sha1 = x->mechanism == MECHANISM_SCRAM_SHA_1 ||
	    x->mechanism == MECHANISM_SCRAM_SHA_1_PLUS;

	s->md = sha1 ? EVP_sha1() : EVP_sha256();
	s->size = (size_t)EVP_MD_get_size(s->md);
	s->nonce = nonce != NULL ? mem_strdup(nonce) : scram_nonce();
	buf_init(&s->first, SASL_DECODED_MAX);
	scram_header(s, about);
}

void
relay_scram_free(struct scram *s)
{
	free(s->nonce);
	relay_wipe(&s->gs2);
	relay_wipe(&s->first);
}

const char *
relay_scram_first(struct relay_sasl *x, struct buf *out)
{
	struct scram *s = &x->scram;
	const char *p;
	bool ok = buf_puts(&s->first, "n=");

	for (p = x->user; *p != '\0' && ok; p++)
		ok = *p == ',' ? buf_puts(&s->first, "=2C") : *p == '=' ?
		    buf_puts(&s->first, "=3D") : buf_putc(&s->first, *p);
	ok = ok && buf_puts(&s->first, ",r=") &&
	    buf_puts(&s->first, s->nonce) &&
	    buf_putv(out, buf_part(&s->gs2, 0, s->gs2_header)) &&
	    buf_putv(out, buf_view(&s->first));
	return ok ? NULL : "user is too long";
}

/* -- the server's first message -------------------------------------------- */

struct server_first {
	struct view nonce;
	unsigned char salt[SCRAM_SALT_MAX];
	size_t salt_n;
	int iterations;
};

/* "r=...": the value, up to the next comma. */
static bool
scram_value(struct view *rest, char letter, struct view *ret)
{
	size_t n;

	if (rest->n < 2 || rest->p[0] != letter || rest->p[1] != '=')
		return false;
	*rest = view_from(*rest, 2);
	n = view_find(*rest, ',');
	*ret = view_head(*rest, n);
	*rest = view_from(*rest, n < rest->n ? n + 1 : n);
	return ret->n > 0;
}

static bool
scram_salt(struct view text, struct server_first *f)
{
	struct buf salt;
	bool ok;

	buf_init(&salt, SCRAM_SALT_MAX);
	/* Room is asked for whole groups. */
	ok = text.n <= SCRAM_SALT_MAX / 3 * 4 &&
	    relay_base64_decode(text, &salt) && salt.n > 0;
	if (ok)
		memcpy(f->salt, salt.p, f->salt_n = salt.n);
	buf_free(&salt);
	return ok;
}

static const char *
scram_read(const struct scram *s, struct view text, struct server_first *f)
{
	size_t own = strlen(s->nonce), i;
	struct view salt, number;
	int64_t n;

	if (text.n >= 2 && text.p[0] == 'm' && text.p[1] == '=')
		return "SCRAM: an extension that is not known";
	if (text.n >= 2 && text.p[0] == 'e' && text.p[1] == '=')
		return "SCRAM: the server reports an error";
	if (!scram_value(&text, 'r', &f->nonce) ||
	    !scram_value(&text, 's', &salt) ||
	    !scram_value(&text, 'i', &number))
		return "SCRAM: the server's first message is malformed";
	for (i = 0; i < f->nonce.n; i++)
		if (f->nonce.p[i] <= ' ' || f->nonce.p[i] >= 0x7f)
			return "SCRAM: the server's nonce is malformed";
	if (f->nonce.n <= own || memcmp(f->nonce.p, s->nonce, own) != 0)
		return "SCRAM: the server's nonce is not made of ours";
	if (f->nonce.n > own + SCRAM_NONCE_MAX)
		return "SCRAM: the server's nonce is too long";
	if (!scram_salt(salt, f))
		return "SCRAM: the server's salt is malformed or too long";
	if (!conf_parse_int(number, 1, INT32_MAX, &n))
		return "SCRAM: the number of iterations is malformed";
	if (n < SCRAM_ITERATIONS_MIN || n > SCRAM_ITERATIONS_MAX)
		return n < SCRAM_ITERATIONS_MIN ?
		    "SCRAM: too few iterations to be safe" :
		    "SCRAM: more iterations than are done for anybody";
	f->iterations = (int)n;
	return NULL;
}

/* -- what proves both sides ------------------------------------------------ */

/* ClientProof to proof, and what the server has to show to s->signature:
 * RFC 5802 section 3. */
static bool
scram_prove(struct scram *s, const char *password,
    const struct server_first *f, struct view message, unsigned char *proof)
{
	unsigned char salted[EVP_MAX_MD_SIZE], key[EVP_MAX_MD_SIZE];
	unsigned char stored[EVP_MAX_MD_SIZE], sign[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	size_t i;
	bool ok;

	ok = PKCS5_PBKDF2_HMAC(password, (int)strlen(password), f->salt,
	    (int)f->salt_n, f->iterations, s->md, (int)s->size, salted) == 1 &&
	    scram_mac(s, salted, view_of("Client Key"), key) &&
	    EVP_Digest(key, s->size, stored, &n, s->md, NULL) == 1 &&
	    scram_mac(s, stored, message, sign) &&
	    scram_mac(s, salted, view_of("Server Key"), s->server_key) &&
	    scram_mac(s, s->server_key, message, s->signature);
	for (i = 0; ok && i < s->size; i++)
		proof[i] = key[i] ^ sign[i];
	explicit_bzero(salted, sizeof salted);
	explicit_bzero(key, sizeof key);
	explicit_bzero(stored, sizeof stored);
	explicit_bzero(sign, sizeof sign);
	return ok;
}

const char *
relay_scram_final(struct relay_sasl *x, struct view challenge,
    struct buf *out)
{
	struct scram *s = &x->scram;
	unsigned char proof[EVP_MAX_MD_SIZE];
	struct server_first f;
	struct buf message;
	const char *why = scram_read(s, challenge, &f);
	bool ok;

	if (why != NULL)
		return why;
	ok = buf_puts(out, "c=");
	relay_base64_encode(buf_view(&s->gs2), out);
	ok = ok && buf_puts(out, ",r=") && buf_putv(out, f.nonce);
	buf_init(&message, 3 * SASL_DECODED_MAX);
	ok = ok && buf_putv(&message, buf_view(&s->first)) &&
	    buf_putc(&message, ',') && buf_putv(&message, challenge) &&
	    buf_putc(&message, ',') && buf_putv(&message, buf_view(out)) &&
	    scram_prove(s, x->secret, &f, buf_view(&message), proof);
	if (ok) {
		(void)buf_puts(out, ",p=");
		relay_base64_encode(view_make(proof, s->size), out);
	}
	explicit_bzero(proof, sizeof proof);
	buf_free(&message);
	return ok ? NULL : "SCRAM: OpenSSL cannot do it";
}

const char *
relay_scram_verify(struct relay_sasl *x, struct view challenge)
{
	const struct scram *s = &x->scram;
	struct view text;
	struct buf shown;
	bool same;

	if (challenge.n > 2 && challenge.p[0] == 'e' && challenge.p[1] == '=')
		return "SCRAM: the server reports an error";
	if (!scram_value(&challenge, 'v', &text))
		return "SCRAM: the server's last message is malformed";
	buf_init(&shown, EVP_MAX_MD_SIZE + 4);
	same = text.n <= EVP_MAX_MD_SIZE && relay_base64_decode(text, &shown) &&
	    shown.n == s->size &&
	    CRYPTO_memcmp(shown.p, s->signature, s->size) == 0;
	buf_free(&shown);
	return same ? NULL : "SCRAM: the server does not know the password";
}
