#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/local_command.h"
#include "queue/local_expand.h"
#include "queue/maildir.h"
#include "queue/mbox.h"

#define HEADER_MAX	16384u

void
expansion_begin(struct expansion *x, const struct job *j,
    const struct account *a, const char *what, uid_t uid, struct arena *arena)
{
	*x = (struct expansion){ .job = j, .account = a, .what = what,
		.uid = uid, .arena = arena };
	buf_init(&x->first, 2 * LIST_BYTES_MAX);
}

/* -- what is in a list ------------------------------------------------------ */

static bool
expansion_allows(const struct expansion *x, const char *parameter,
    const char *words)
{
	return (conf_choice(parameter, view_of(words)) &
	    (x->depth > 0 ? ALLOW_INCLUDE : x->what[0] == 'a' ? ALLOW_ALIAS :
	    ALLOW_FORWARD)) != 0;
}

static bool
expansion_refuse(struct expansion *x, const char *what, struct view text)
{
	fate_set(&x->worst, RCPT_BOUNCED, "5.7.1", "mail to %s is not allowed "
	    "here", what);
	log_warn("%s: <%s>: %s: mail to %s is not allowed in %s",
	    x->job->order->id, log_safe(x->job->rcpt->addr), log_safe(text),
	    what, x->depth > 0 ? "include" : x->what);
	return false;
}

static bool
expansion_include(struct expansion *x, struct view path)
{
	char *name = mem_copy(path);
	const char *why = NULL;
	struct buf text;
	bool ok = false;
	int rc;

	buf_init(&text, LIST_BYTES_MAX);
	rc = x->depth >= INCLUDES_DEEP ? ELOOP :
	    expansion_read(name, (uid_t)-1, &text, &why);
	if (rc == EPERM && why != NULL)
		fate_set(&x->worst, RCPT_DEFERRED, "4.3.5", "%s %s", name,
		    why);
	else if (rc != 0)
		fate_errno(&x->worst, "4.3.5", rc, "cannot open include "
		    "file %s", name);
	else {
		x->depth++;
		ok = expansion_add(x, buf_view(&text));
		x->depth--;
	}
	buf_free(&text);
	free(name);
	return ok;
}

/* The mailbox of the user whom the list is for. */
static bool
expansion_is_self(const struct expansion *x, enum list_kind kind,
    struct view addr)
{
	struct view domain = address_domain(addr);
	const struct job *j = x->job;

	if (x->depth > 0 || !view_eq_nocase(address_local(addr), j->user))
		return false;
	return kind == LIST_DIRECT || domain.n == 0 || view_eq_nocase(domain,
	    address_domain(j->rcpt->addr));
}

static bool
expansion_address(struct expansion *x, struct view addr)
{
	struct view *more;
	struct buf whole;

	if (x->n == FATE_ADDRESSES_MAX ||
	    arena_used(x->arena) > FATE_BYTES_MAX) {
		fate_set(&x->worst, RCPT_BOUNCED, "5.4.6", "a list with more "
		    "than %u addresses", FATE_ADDRESSES_MAX);
		return false;
	}
	if (x->n == x->room) {
		x->room = x->room * 2 + 16;
		more = mem_resize(x->addresses, x->room, sizeof *more);
		x->addresses = more;
	}
	buf_init(&whole, 2 * ADDRESS_MAX);
	(void)buf_putv(&whole, addr);
	if (address_domain(addr).n == 0)
		(void)buf_printf(&whole, "@%.500s", local.cf->myorigin);
	x->addresses[x->n++] = arena_copy(x->arena, view_head(
	    buf_view(&whole), ADDRESS_MAX));
	buf_free(&whole);
	return true;
}

static bool
expansion_item(enum list_kind kind, struct view text, void *arg)
{
	struct expansion *x = arg;

	switch (kind) {
	case LIST_COMMAND:
		if (!expansion_allows(x, "allow_mail_to_commands",
		    local.cf->allow_mail_to_commands))
			return expansion_refuse(x, "commands", text);
		break;
	case LIST_FILE:
		if (!expansion_allows(x, "allow_mail_to_files",
		    local.cf->allow_mail_to_files))
			return expansion_refuse(x, "files", text);
		break;
	case LIST_INCLUDE:
		return expansion_include(x, text);
	case LIST_ADDRESS:
	case LIST_DIRECT:
	default:
		if (!expansion_is_self(x, kind, text))
			return expansion_address(x, text);
		x->self = true;
		return true;
	}
	if (!put_u8(&x->first, (uint8_t)kind) || !put_view(&x->first, text)) {
		fate_set(&x->worst, RCPT_BOUNCED, "5.4.6", "a list with too "
		    "many commands and files");
		return false;
	}
	x->n_direct++;
	return true;
}

bool
expansion_add(struct expansion *x, struct view text)
{
	struct view bad;

	if (list_parse(text, expansion_item, x, &bad))
		return true;
	if (x->worst.status == 0) {
		log_warn("%s: <%s>: no address: %s", x->job->order->id,
		    log_safe(x->job->rcpt->addr), log_safe(bad));
		fate_set(&x->worst, RCPT_DEFERRED, "4.3.5", "an address in "
		    "the %s of %s is not valid", x->what,
		    log_safe(x->job->rcpt->addr));
	}
	return false;
}

/* -- what is done ----------------------------------------------------------- */

static int
expansion_compare(const void *a, const void *b)
{
	const struct view *x = a, *y = b;
	size_t n = x->n < y->n ? x->n : y->n;
	int c = strncasecmp(x->p, y->p, n);

	return c != 0 ? c : (x->n > y->n) - (x->n < y->n);
}

/* Each address once. */
static uint32_t
expansion_unique(struct view *list, uint32_t n)
{
	uint32_t i, kept = 0;

	if (n > 1)
		qsort(list, n, sizeof *list, expansion_compare);
	for (i = 0; i < n; i++)
		if (kept == 0 || !view_eq_nocase(list[kept - 1], list[i]))
			list[kept++] = list[i];
	return kept;
}

/* What comes again counts most, then what failed. */
static void
expansion_count(struct expansion *x, const struct fate *f)
{
	if (x->worst.status == 0 || f->status == RCPT_DEFERRED ||
	    (f->status == RCPT_BOUNCED && x->worst.status != RCPT_DEFERRED))
		x->worst = *f;
}

/* Commands first: they fail oftenest, and what was done before would be done
 * again. */
static void
expansion_do(struct expansion *x, enum list_kind kind)
{
	struct cursor c = cursor_of(buf_view(&x->first));
	enum list_kind this;
	struct view text;
	struct fate f;
	char *name;

	while (cursor_left(&c) > 0 && x->worst.status != RCPT_DEFERRED) {
		this = cursor_u8(&c);
		text = cursor_view(&c);
		if (this != kind)
			continue;
		f = (struct fate){ 0 };
		name = mem_copy(text);
		if (kind == LIST_COMMAND)
			expansion_command(x->job, x->account, name, &f);
		else
			expansion_file(x->job, name, x->uid, &f);
		free(name);
		expansion_count(x, &f);
	}
}

void
expansion_end(struct expansion *x, struct fate *ret)
{
	if (x->worst.status == 0) {
		expansion_do(x, LIST_COMMAND);
		expansion_do(x, LIST_FILE);
	}
	buf_free(&x->first);
	x->n = expansion_unique(x->addresses, x->n);
	if (x->worst.status == 0)
		fate_set(&x->worst, RCPT_EXPANDED, "2.0.0", "expanded to %u "
		    "address%s", x->n, x->n == 1 ? "" : "es");
	*ret = x->worst;
	if (ret->status == RCPT_DEFERRED)
		return;
	ret->n = x->n;
	ret->addresses = x->addresses;
}

/* -- files ------------------------------------------------------------------ */

int
expansion_read(const char *path, uid_t owner, struct buf *b,
    const char **ret_why)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	ssize_t n = -1;
	char *to;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		rc = errno;
	else if (!S_ISREG(st.st_mode))
		*ret_why = "is not a regular file";
	else if ((st.st_mode & S_IWOTH) != 0)
		*ret_why = "can be written by everybody";
	else if (owner != (uid_t)-1 && st.st_uid != owner && st.st_uid != 0)
		*ret_why = "belongs to somebody else";
	else
		while ((to = buf_room(b, 4096)) != NULL &&
		    (n = read(fd, to, 4096)) > 0)
			b->n += (size_t)n;
	if (rc == 0 && *ret_why != NULL)
		rc = EPERM;
	else if (rc == 0 && n != 0)
		rc = n < 0 && b->n + 4096 <= b->max ? errno : EFBIG;
	if (fd >= 0)
		close(fd);
	return rc;
}

void
expansion_file(const struct job *j, const char *path, uid_t uid,
    struct fate *f)
{
	const struct conf *cf = local.cf;
	const uint32_t to = conf_choice("prepend_delivered_header",
	    view_of(cf->prepend_delivered_header));
	struct buf header;

	/* What many aliases name, and no file. */
	if (strcmp(path, "/dev/null") == 0) {
		fate_set(f, RCPT_DELIVERED, "2.0.0", "delivered to file: "
		    "/dev/null");
		return;
	}
	buf_init(&header, HEADER_MAX);
	job_header(j, (to & DELIVERED_FILE) != 0, &header);
	job_mailbox(j, path, uid, buf_view(&header), f);
	buf_free(&header);
	if (f->status == RCPT_DELIVERED)
		fate_set(f, RCPT_DELIVERED, "2.0.0", "delivered to file: %s",
		    path);
}

bool
expansion_loop(const struct job *j, struct fate *f)
{
	int was = local_text_delivered_to(&j->order->text, j->rcpt->addr);

	if (was < 0)
		fate_errno(f, "4.3.0", errno, "queue file read error");
	else if (was > 0)
		fate_set(f, RCPT_BOUNCED, "5.4.6", "mail forwarding loop for "
		    "%s", log_safe(j->rcpt->addr));
	return was != 0;
}

/* -- commands --------------------------------------------------------------- */

void
expansion_environment(const struct job *j, const struct account *a,
    struct environment *e)
{
	const char *ok = local.cf->command_expansion_filter;
	const struct envelope *env = &j->order->env;
	struct view addr = j->rcpt->addr;
	const struct {
		const char *name;
		struct view value;
	} values[] = {
		{ "SENDER", env->sender },
		{ "RECIPIENT", addr },
		{ "ORIGINAL_RECIPIENT", j->rcpt->orig.n > 0 ? j->rcpt->orig :
		    addr },
		{ "LOCAL", address_local(addr) },
		{ "DOMAIN", address_domain(addr) },
		{ "EXTENSION", j->extension },
		{ "CLIENT_HOSTNAME", env->client_name },
		{ "CLIENT_ADDRESS", env->client_addr },
		{ "CLIENT_HELO", env->helo },
		{ "CLIENT_PROTOCOL", env->proto },
		{ "SASL_USERNAME", env->login },
	};
	const char *zone = getenv("TZ");
	size_t i;

	environment_add(e, "PATH", view_of("/usr/bin:/bin"), NULL);
	environment_add(e, "LANG", view_of("C"), NULL);
	environment_add(e, "MAIL_CONFIG", view_of(
	    local.cf->config_directory), NULL);
	if (zone != NULL)
		environment_add(e, "TZ", view_of(zone), NULL);
	if (a != NULL) {
		environment_add(e, "USER", view_of(a->name), ok);
		environment_add(e, "LOGNAME", view_of(a->name), ok);
		environment_add(e, "HOME", view_of(a->home), NULL);
		environment_add(e, "SHELL", view_of(a->shell), NULL);
	} else {
		environment_add(e, "USER", j->user, ok);
		environment_add(e, "LOGNAME", j->user, ok);
		environment_add(e, "HOME", view_of("/"), NULL);
		environment_add(e, "SHELL", view_of("/bin/sh"), NULL);
	}
	for (i = 0; i < sizeof values / sizeof values[0]; i++)
		environment_add(e, values[i].name, values[i].value, ok);
}

void
expansion_command(const struct job *j, const struct account *a,
    const char *text, struct fate *f)
{
	const struct conf *cf = local.cf;
	const uint32_t to = conf_choice("prepend_delivered_header",
	    view_of(cf->prepend_delivered_header));
	struct environment e = { 0 };
	struct command c = { .name = text, .text = text,
		.shell = cf->local_command_shell,
		.directory = a != NULL ? a->home : NULL,
		.time_limit = cf->command_time_limit,
		.file_limit = cf->mailbox_size_limit,
		.flags = 0 };
	struct buf head;

	if (local.root && geteuid() == 0) {
		fate_set(f, RCPT_DEFERRED, "4.3.5", "commands are not run as "
		    "root");
		return;
	}
	expansion_environment(j, a, &e);
	c.env = e.list;
	buf_init(&head, HEADER_MAX);
	/* "From " first, for those that file it in a mailbox. */
	mbox_from_line(j->order->env.sender, &head);
	job_header(j, (to & DELIVERED_COMMAND) != 0, &head);
	c.head = buf_view(&head);
	command_run(&c, &j->order->text, f);
	buf_free(&head);
	environment_free(&e);
}
