#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/tls_chain.h"

#define FILE_MAX	(1u << 20)
#define CA_FILE_MAX	(8u << 20)
#define CHAIN_MAX	20		/* certificates behind one */
#define AUTHORITIES_MAX	10000u

struct pem_file {
	const char *name;
	char *text;		/* wiped when freed */
	size_t n;
	BIO *bio;
	bool open_to_all;
	conf_report *report;
	void *arg;
};

/* Returns false. */
__attribute__((format(printf, 3, 4)))
static bool
pem_report(const struct pem_file *f, bool error, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	(void)buf_printf(&b, "%s: ", f->name);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	f->report(error, buf_cstr(&b), f->arg);
	buf_free(&b);
	return false;
}

const char *
tls_library_error(const char *otherwise)
{
	static char text[300];
	unsigned long e = ERR_get_error();
	const char *reason = ERR_reason_error_string(e);

	if (e == 0)
		return otherwise;
	if (reason != NULL)
		(void)snprintf(text, sizeof text, "%s", reason);
	else
		ERR_error_string_n(e, text, sizeof text);
	ERR_clear_error();
	return text;
}

/* -- files ----------------------------------------------------------------- */

static bool
pem_open(struct pem_file *f, const char *name, size_t max,
    conf_report *report, void *arg)
{
	struct stat st;
	ssize_t n = -1;
	int fd;

	*f = (struct pem_file){ .name = name, .report = report, .arg = arg };
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return pem_report(f, true, "%s", strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size > max) {
		(void)close(fd);
		return pem_report(f, true, "not a file of at most %zu bytes",
		    max);
	}
	f->open_to_all = (st.st_mode & S_IROTH) != 0;
	f->n = (size_t)st.st_size;
	f->text = mem_alloc(f->n + 1);
	n = pread(fd, f->text, f->n, 0);
	(void)close(fd);
	f->bio = n == (ssize_t)f->n ? BIO_new_mem_buf(f->text, (int)f->n) :
	    NULL;
	if (f->bio != NULL)
		return true;
	OPENSSL_cleanse(f->text, f->n);
	free(f->text);
	return pem_report(f, true, "cannot be read");
}

static void
pem_close(struct pem_file *f)
{
	(void)BIO_free(f->bio);
	OPENSSL_cleanse(f->text, f->n);
	free(f->text);
}

enum pem_kind { PEM_END = 0, PEM_KEY, PEM_CERT, PEM_BAD };

/* What a block of the file is; others are passed over. */
static enum pem_kind
pem_kind(const char *name)
{
	static const struct {
		const char *name;
		enum pem_kind kind;
	} kinds[] = {
		{ PEM_STRING_PKCS8INF, PEM_KEY }, { PEM_STRING_RSA, PEM_KEY },
		{ PEM_STRING_ECPRIVATEKEY, PEM_KEY },
		{ PEM_STRING_DSA, PEM_KEY }, { PEM_STRING_PKCS8, PEM_BAD },
		{ PEM_STRING_X509, PEM_CERT },
		{ PEM_STRING_X509_OLD, PEM_CERT },
		{ PEM_STRING_X509_TRUSTED, PEM_CERT },
	};
	size_t i;

	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strcmp(name, kinds[i].name) == 0)
			return kinds[i].kind;
	return PEM_END;
}

/* The next key or certificate.  PEM_BAD: it was reported. */
static enum pem_kind
pem_next(struct pem_file *f, EVP_PKEY **ret_key, X509 **ret_cert)
{
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	const unsigned char *p;
	enum pem_kind kind = PEM_END;
	bool locked = false;
	long n = 0;

	while (kind == PEM_END) {
		if (PEM_read_bio(f->bio, &name, &header, &data, &n) != 1) {
			if (ERR_GET_REASON(ERR_peek_last_error()) !=
			    PEM_R_NO_START_LINE) {
				(void)pem_report(f, true, "bad PEM: %s",
				    tls_library_error("damaged"));
				return PEM_BAD;
			}
			ERR_clear_error();
			return PEM_END;
		}
		p = data;
		kind = pem_kind(name);
		locked = kind == PEM_BAD || header[0] != '\0';
		if (kind == PEM_KEY && !locked &&
		    (*ret_key = d2i_AutoPrivateKey(NULL, &p, n)) == NULL)
			kind = PEM_BAD;
		else if (kind == PEM_CERT) {
			*ret_cert = strcmp(name, PEM_STRING_X509_TRUSTED) ==
			    0 ? d2i_X509_AUX(NULL, &p, n) :
			    d2i_X509(NULL, &p, n);
			kind = *ret_cert != NULL ? PEM_CERT : PEM_BAD;
		} else if (locked)
			kind = PEM_BAD;
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(data, (size_t)n);
	}
	if (kind == PEM_BAD && locked)
		(void)pem_report(f, true, "the private key has a password: "
		    "nobody is here to type it");
	else if (kind == PEM_BAD)
		(void)pem_report(f, true, "%s", tls_library_error(
		    "damaged"));
	return kind;
}

/* -- pairs ----------------------------------------------------------------- */

struct pair {
	EVP_PKEY *key;
	X509 *cert;
	STACK_OF(X509) *chain;
};

static void
pair_clear(struct pair *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->cert);
	sk_X509_pop_free(p->chain, X509_free);
	*p = (struct pair){ 0 };
}

static int64_t
cert_ends(const X509 *cert)
{
	struct tm tm = { 0 };

	return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ?
	    (int64_t)timegm(&tm) : INT64_MAX;
}

/* Takes cert over: the first is the one that the key is of. */
static bool
pair_cert(struct pair *p, X509 *cert, const struct pem_file *f)
{
	if (p->cert == NULL) {
		p->cert = cert;
		p->chain = sk_X509_new_null();
		return true;
	}
	if (sk_X509_num(p->chain) < CHAIN_MAX &&
	    sk_X509_push(p->chain, cert) > 0)
		return true;
	X509_free(cert);
	return pem_report(f, true, "more than %d certificates in a chain",
	    CHAIN_MAX);
}

static bool
pair_use(SSL_CTX *ctx, const struct pair *p, const struct pem_file *f,
    struct tls_certs *certs)
{
	if (p->key == NULL || p->cert == NULL)
		return pem_report(f, true, "%s", p->key == NULL ?
		    "no private key" : "no certificate behind the private "
		    "key");
	if (X509_check_private_key(p->cert, p->key) != 1) {
		ERR_clear_error();
		return pem_report(f, true, "the certificate is not of this "
		    "private key");
	}
	if (SSL_CTX_use_cert_and_key(ctx, p->cert, p->key, p->chain, 1) != 1)
		return pem_report(f, true, "%s", tls_library_error(
		    "cannot be used"));
	certs->list = mem_resize(certs->list, certs->n + 1,
	    sizeof *certs->list);
	certs->list[certs->n++] = (struct tls_cert){
		.file = mem_strdup(f->name), .ends = cert_ends(p->cert) };
	return true;
}

static void
pair_check_mode(const struct pem_file *f)
{
	if (f->open_to_all)
		(void)pem_report(f, false, "the private key can be read by "
		    "everybody on this machine");
}

static bool
pair_read_key(struct pair *p, const char *file, conf_report *report,
    void *arg)
{
	struct pem_file f;
	enum pem_kind kind;
	X509 *cert;

	if (!pem_open(&f, file, FILE_MAX, report, arg))
		return false;
	while ((kind = pem_next(&f, &p->key, &cert)) == PEM_CERT)
		X509_free(cert);
	if (kind == PEM_KEY)
		pair_check_mode(&f);
	else if (kind == PEM_END)
		(void)pem_report(&f, true, "no private key");
	pem_close(&f);
	return kind == PEM_KEY;
}

bool
tls_chain_pair(SSL_CTX *ctx, const char *cert_file, const char *key_file,
    struct tls_certs *certs, conf_report *report, void *arg)
{
	struct pair p = { 0 };
	struct pem_file f;
	enum pem_kind kind;
	EVP_PKEY *key;
	X509 *cert;
	bool ok = true;

	if (!pem_open(&f, cert_file, FILE_MAX, report, arg))
		return false;
	while (ok && (kind = pem_next(&f, &key, &cert)) != PEM_END) {
		if (kind == PEM_KEY)
			EVP_PKEY_free(key);
		ok = kind == PEM_KEY || (kind == PEM_CERT &&
		    pair_cert(&p, cert, &f));
	}
	if (ok && p.cert == NULL)
		ok = pem_report(&f, true, "no certificate");
	ok = ok && pair_read_key(&p, key_file, report, arg) &&
	    pair_use(ctx, &p, &f, certs);
	pem_close(&f);
	pair_clear(&p);
	return ok;
}

bool
tls_chain_file(SSL_CTX *ctx, const char *file, struct tls_certs *certs,
    conf_report *report, void *arg)
{
	struct pair p = { 0 };
	struct pem_file f;
	enum pem_kind kind = PEM_BAD;
	EVP_PKEY *key;
	X509 *cert;
	bool ok;

	ok = pem_open(&f, file, FILE_MAX, report, arg);
	if (!ok)
		return false;
	while (ok && (kind = pem_next(&f, &key, &cert)) != PEM_END) {
		if (kind == PEM_KEY) {
			ok = p.key == NULL || pair_use(ctx, &p, &f, certs);
			pair_clear(&p);
			p.key = key;
		} else if (kind == PEM_BAD)
			ok = false;
		else if (p.key != NULL)
			ok = pair_cert(&p, cert, &f);
		else {
			X509_free(cert);
			ok = pem_report(&f, true, "the private key must come "
			    "before its certificate");
		}
	}
	ok = ok && pair_use(ctx, &p, &f, certs);
	if (ok)
		pair_check_mode(&f);
	pem_close(&f);
	pair_clear(&p);
	return ok;
}

void
tls_certs_free(struct tls_certs *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		free(c->list[i].file);
	free(c->list);
	*c = (struct tls_certs){ 0 };
}

const struct tls_cert *
tls_certs_first(const struct tls_certs *c)
{
	const struct tls_cert *first = NULL;
	size_t i;

	for (i = 0; i < c->n; i++)
		if (first == NULL || c->list[i].ends < first->ends)
			first = &c->list[i];
	return first;
}

/* -- authorities ----------------------------------------------------------- */

/* told: clients hear of it, so that they know which certificate to show. */
static bool
authority_file(SSL_CTX *ctx, const char *file, bool told, size_t *left,
    conf_report *report, void *arg)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	struct pem_file f;
	enum pem_kind kind;
	EVP_PKEY *key;
	X509 *cert;
	bool ok = true;

	if (!pem_open(&f, file, CA_FILE_MAX, report, arg))
		return false;
	while (ok && (kind = pem_next(&f, &key, &cert)) != PEM_END) {
		if (kind == PEM_KEY) {
			EVP_PKEY_free(key);
			continue;
		}
		if (kind != PEM_CERT || *left == 0) {
			ok = false;
			if (kind == PEM_CERT)
				X509_free(cert);
			break;
		}
		--*left;
		ok = X509_STORE_add_cert(store, cert) == 1 &&
		    (!told || SSL_CTX_add_client_CA(ctx, cert) == 1);
		X509_free(cert);
	}
	if (*left == 0)
		(void)pem_report(&f, true, "more than %u authorities",
		    AUTHORITIES_MAX);
	pem_close(&f);
	return ok;
}

static bool
authority_name(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && name[0] != '.' && (isdigit((unsigned char)
	    name[n - 1]) || strcmp(name + n - 4, ".pem") == 0 ||
	    strcmp(name + n - 4, ".crt") == 0);
}

bool
tls_authorities(SSL_CTX *ctx, const char *file, const char *directory,
    conf_report *report, void *arg)
{
	struct pem_file f = { .name = directory, .report = report,
		.arg = arg };
	size_t left = AUTHORITIES_MAX;
	struct dirent *d;
	char *path;
	DIR *dir;
	bool ok = true;

	if (file[0] != '\0' &&
	    !authority_file(ctx, file, true, &left, report, arg))
		return false;
	if (directory[0] == '\0')
		return true;
	dir = opendir(directory);
	if (dir == NULL)
		return pem_report(&f, true, "%s", strerror(errno));
	while (ok && (d = readdir(dir)) != NULL) {
		if (!authority_name(d->d_name))
			continue;
		path = mem_printf("%s/%s", directory, d->d_name);
		ok = authority_file(ctx, path, false, &left, report, arg);
		free(path);
	}
	closedir(dir);
	return ok;
}
