/* Mail for a user of this host: the .forward file, then the mailbox. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/local_expand.h"
#include "queue/maildir.h"
#include "queue/mbox.h"

#define HEADER_MAX	16384u
#define PATH_MAX_BYTES	4096u

/* Who takes a user's mail, if not a mailbox; "": nobody. */
struct choice {
	const char *transport, *command, *fallback;
};

void
job_mailbox(const struct job *j, const char *path, uid_t uid,
    struct view header, struct fate *f)
{
	const struct conf *cf = local.cf;
	const struct maildir dir = { .path = path,
		.hostname = cf->myhostname, .limit = cf->mailbox_size_limit,
		.header = header };
	const struct mbox box = { .path = path, .owner = uid,
		.any_owner = !cf->strict_mailbox_ownership,
		.locks = conf_choice("mailbox_delivery_lock",
		    view_of(cf->mailbox_delivery_lock)),
		.attempts = (unsigned)cf->deliver_lock_attempts,
		.delay = cf->deliver_lock_delay,
		.stale = cf->stale_lock_time, .limit = cf->mailbox_size_limit,
		.from = j->order->env.sender, .header = header };

	if (path[strlen(path) - 1] == '/')
		maildir_deliver(&dir, &j->order->text, f);
	else
		mbox_deliver(&box, &j->order->text, f);
}

/* -- $name ------------------------------------------------------------------ */

/* False: there is no such name. */
static bool
user_name(const struct job *j, const struct account *a, struct view name,
    struct view *ret)
{
	struct view addr = j->rcpt->addr;

	if (view_is(name, "user"))
		*ret = j->user;
	else if (view_is(name, "home"))
		*ret = view_of(a != NULL ? a->home : "");
	else if (view_is(name, "shell"))
		*ret = view_of(a != NULL ? a->shell : "");
	else if (view_is(name, "extension"))
		*ret = j->extension;
	else if (view_is(name, "recipient_delimiter"))
		/* the one that was found */
		*ret = j->extension.n > 0 ? view_make(j->extension.p - 1, 1) :
		    view_make("", 0);
	else if (view_is(name, "local") || view_is(name, "mailbox"))
		*ret = address_local(addr);
	else if (view_is(name, "domain"))
		*ret = address_domain(addr);
	else if (view_is(name, "recipient"))
		*ret = addr;
	else
		return false;
	return true;
}

/* A value in a path: no other directory than the one that is meant. */
static void
user_put(struct buf *out, struct view value, const char *allowed)
{
	size_t i;

	for (i = 0; i < value.n; i++)
		(void)buf_putc(out, allowed != NULL && (value.p[i] == '\0' ||
		    value.p[i] == '/' ||
		    strchr(allowed, value.p[i]) == NULL) ? '_' : value.p[i]);
}

/* $name, ${name}, $(name), ${name?text if it is not empty}, ${name:else}. */
static bool
user_expand(const struct job *j, const struct account *a,
    struct view template, const char *allowed, struct buf *out)
{
	struct view name, rest, value;
	size_t n;
	char how;

	while (template.n > 0) {
		n = view_find(template, '$');
		(void)buf_putv(out, view_head(template, n));
		template = view_from(template, n + 1);
		if (template.n == 0)
			break;
		if (template.p[0] == '{' || template.p[0] == '(') {
			n = view_find(template, template.p[0] == '{' ? '}' :
			    ')');
			name = view_head(view_from(template, 1),
			    n > 0 ? n - 1 : 0);
			template = view_from(template, n + 1);
		} else {
			for (n = 0; n < template.n && (template.p[n] == '_' ||
			    (template.p[n] >= 'a' &&
			    template.p[n] <= 'z')); n++)
				;
			name = view_head(template, n);
			template = view_from(template, n);
		}
		for (n = 0; n < name.n && name.p[n] != '?' &&
		    name.p[n] != ':'; n++)
			;
		how = n < name.n ? name.p[n] : '\0';
		rest = view_from(name, n + 1);
		if (!user_name(j, a, view_head(name, n), &value))
			return false;
		if (how == '\0')
			user_put(out, value, view_is(name, "home") ? NULL :
			    allowed);
		else if ((value.n > 0) == (how == '?') &&
		    !user_expand(j, a, rest, allowed, out))
			return false;
	}
	return true;
}

/* -- tables by user ----------------------------------------------------- */

void
user_load(void)
{
	const struct conf *cf = local.cf;
	const struct {
		const char *name, *specs;
		struct table_list *list;
	} maps[] = {
		{ "mailbox_transport_maps", cf->mailbox_transport_maps,
		    &local.transports },
		{ "mailbox_command_maps", cf->mailbox_command_maps,
		    &local.commands },
		{ "fallback_transport_maps", cf->fallback_transport_maps,
		    &local.fallbacks },
	};
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++)
		if (!local_tables(maps[i].name, maps[i].specs,
		    maps[i].list)) {
			log_error("%s: mail of local users is deferred until "
			    "it can be used", maps[i].name);
			local.users_failed = true;
		}
}

/* What the tables say of him, else the parameter; "" is none. */
static bool
user_ask(const struct job *j, const struct table_list *maps, const char *name,
    const char *all, struct arena *a, const char **ret, struct fate *f)
{
	struct addr_found found;
	struct buf value;
	enum table_answer answer;

	*ret = all;
	if (maps->n == 0)
		return true;
	buf_init(&value, PATH_MAX_BYTES);
	answer = addr_find_key(maps, j->user, false, &value, &found);
	if (answer == TABLE_FOUND && value.n > 0)
		*ret = arena_copy(a, view_make(buf_cstr(&value),
		    value.n + 1)).p;
	buf_free(&value);
	if (answer != TABLE_FAILED)
		return true;
	fate_set(f, RCPT_DEFERRED, "4.3.0", "%s lookup failure", name);
	return false;
}

/* Asked while the tables' own rights hold, before anybody is become. */
static bool
user_choose(const struct job *j, struct arena *a, struct choice *ret,
    struct fate *f)
{
	const struct conf *cf = local.cf;

	if (local.users_failed) {
		fate_set(f, RCPT_DEFERRED, "4.3.5", "a table of local users "
		    "is unavailable");
		return false;
	}
	return user_ask(j, &local.transports, "mailbox_transport_maps",
	    cf->mailbox_transport, a, &ret->transport, f) &&
	    user_ask(j, &local.commands, "mailbox_command_maps",
	    cf->mailbox_command, a, &ret->command, f) &&
	    user_ask(j, &local.fallbacks, "fallback_transport_maps",
	    cf->fallback_transport, a, &ret->fallback, f);
}

/* -- mailbox ---------------------------------------------------------------- */

/* Where it goes: the file or, with a slash at its end, the maildir. */
static char *
user_mailbox(const struct account *a)
{
	const struct conf *cf = local.cf;
	struct view spool = view_of(cf->mail_spool_directory);

	if (cf->home_mailbox[0] != '\0')
		return mem_printf("%s/%s", a->home, cf->home_mailbox);
	if (spool.n > 0 && spool.p[spool.n - 1] == '/')
		return mem_printf("%s%s/", cf->mail_spool_directory, a->name);
	return mem_printf("%s/%s", cf->mail_spool_directory, a->name);
}

/*
 * A directory of mailboxes that only a group may write to: it takes that
 * group to make a lock, or a mailbox that is not there yet.  No other right
 * comes with it, and no program is run with it.
 */
static gid_t
user_group(const struct account *a)
{
	const int writable = S_IWGRP | S_IXGRP;
	struct stat st;

	if (local.cf->home_mailbox[0] == '\0' &&
	    stat(local.cf->mail_spool_directory, &st) == 0 &&
	    S_ISDIR(st.st_mode) && (st.st_mode & S_IWOTH) == 0 &&
	    (int)(st.st_mode & (mode_t)writable) == writable && st.st_gid != 0)
		return st.st_gid;
	return a->gid;
}

/* To another transport, as it is. */
static void
user_reroute(const struct job *j, const char *transport, struct arena *a,
    struct fate *f)
{
	fate_set(f, RCPT_SENT, "2.0.0", "passed to transport %s", transport);
	fate_pass(f, view_of(transport), j->rcpt->addr, a);
}

static void
user_to_mailbox(const struct job *j, const struct account *a,
    const struct choice *how, gid_t group, struct arena *arena,
    struct fate *f)
{
	const struct conf *cf = local.cf;
	const uint32_t to = conf_choice("prepend_delivered_header",
	    view_of(cf->prepend_delivered_header));
	struct buf header;
	char *path;

	if (how->transport[0] != '\0') {
		user_reroute(j, how->transport, arena, f);
		return;
	}
	if (how->command[0] != '\0') {
		expansion_command(j, a, how->command, f);
		return;
	}
	/* root reads no mail where it could be led elsewhere. */
	if (a->uid == 0 && cf->home_mailbox[0] != '\0') {
		fate_set(f, RCPT_DEFERRED, "4.3.5", "mail for root has no "
		    "mailbox: an alias must say who reads it");
		return;
	}
	if (!account_join(group, f))
		return;
	path = user_mailbox(a);
	buf_init(&header, HEADER_MAX);
	job_header(j, (to & DELIVERED_FILE) != 0, &header);
	job_mailbox(j, path, a->uid, buf_view(&header), f);
	buf_free(&header);
	free(path);
}

/* -- .forward --------------------------------------------------------------- */

enum forward { FORWARD_NONE = 1, FORWARD_READ, FORWARD_FAILED };

static enum forward
forward_open(const struct job *j, const struct account *a, const char *path,
    struct buf *text, struct fate *f)
{
	const char *why = NULL;
	int rc = expansion_read(path, a->uid, text, &why);

	switch (rc) {
	case 0:
		return FORWARD_READ;
	case ENOENT:
	case ENOTDIR:
	case EACCES:
		return FORWARD_NONE;
	case EPERM:
		log_warn("%s: %s is not used: it %s", j->order->id, path,
		    why != NULL ? why : "cannot be read");
		return FORWARD_NONE;
	default:
		/* It may say that mail goes elsewhere. */
		fate_errno(f, "4.3.0", rc, "cannot read %s", path);
		return FORWARD_FAILED;
	}
}

/* The first that there is, of forward_path. */
static enum forward
forward_find(const struct job *j, const struct account *a, struct buf *text,
    struct fate *f)
{
	struct view rest = view_of(local.cf->forward_path), word;
	enum forward found = FORWARD_NONE;
	struct buf path;

	buf_init(&path, PATH_MAX_BYTES);
	while (found == FORWARD_NONE && (word = conf_word(&rest)).n > 0) {
		buf_clear(&path);
		buf_clear(text);
		if (!user_expand(j, a, word, local.cf->
		    forward_expansion_filter, &path)) {
			fate_set(f, RCPT_DEFERRED, "4.3.5", "forward_path "
			    "has an unknown name");
			found = FORWARD_FAILED;
		} else if (path.n > 0 && path.p[0] == '/')
			found = forward_open(j, a, buf_cstr(&path), text, f);
	}
	buf_free(&path);
	return found;
}

/* True: *f says what came of it; f->self: the mailbox is still to come. */
static bool
forward_deliver(const struct job *j, const struct account *a,
    struct arena *arena, struct fate *f)
{
	struct expansion x;
	struct buf text;
	bool used = false;

	buf_init(&text, LIST_BYTES_MAX);
	switch (forward_find(j, a, &text, f)) {
	case FORWARD_READ:
		expansion_begin(&x, j, a, "forward", a->uid, arena);
		used = !expansion_add(&x, buf_view(&text)) || x.n > 0 ||
		    x.n_direct > 0;
		/* An empty one is none, and so is one that names nothing
		 * but the mailbox. */
		if (used)
			expansion_end(&x, f);
		f->self = x.self;
		break;
	case FORWARD_FAILED:
		used = true;
		break;
	case FORWARD_NONE:
	default:
		break;
	}
	buf_free(&text);
	return used;
}

/* -- the user --------------------------------------------------------------- */

static bool
user_home_ok(const struct account *a, struct fate *f)
{
	struct stat st;

	if (!local.cf->require_home_directory ||
	    (stat(a->home, &st) == 0 && S_ISDIR(st.st_mode)))
		return true;
	fate_set(f, RCPT_DEFERRED, "4.2.0", "home directory of user %s is "
	    "not there", a->name);
	return false;
}

static void
user_account(const struct job *j, const struct account *a,
    const struct choice *how, struct arena *arena, struct fate *f)
{
	gid_t group = user_group(a);
	struct fate box = { 0 };

	if (!account_become_with(a->uid, a->gid, group, f) ||
	    !user_home_ok(a, f) || expansion_loop(j, f))
		return;
	if (a->uid == 0 || !forward_deliver(j, a, arena, f)) {
		user_to_mailbox(j, a, how, group, arena, f);
		return;
	}
	if (f->status == RCPT_DEFERRED || !f->self)
		return;
	f->self = false;
	user_to_mailbox(j, a, how, group, arena, &box);
	if (box.status == RCPT_DEFERRED) {
		*f = box;
	} else if (box.route.n > 0) {
		fate_pass(f, box.route, j->rcpt->addr, arena);
	} else if (f->status == RCPT_EXPANDED || box.status == RCPT_BOUNCED) {
		box.addresses = f->addresses;
		box.n = f->n;
		*f = box;
	}
}

/* Nobody of that name: whoever else may take it. */
static void
user_unknown(const struct job *j, const struct choice *how,
    struct arena *a, struct fate *f)
{
	const struct conf *cf = local.cf;
	const char *other = how->transport[0] != '\0' ? how->transport :
	    how->fallback;
	struct buf to;

	if (other[0] != '\0') {
		user_reroute(j, other, a, f);
		return;
	}
	fate_set(f, RCPT_BOUNCED, "5.1.1", "unknown user: \"%s\"",
	    log_safe(j->user));
	if (cf->luser_relay[0] == '\0')
		return;
	buf_init(&to, ADDRESS_MAX);
	if (!user_expand(j, NULL, view_of(cf->luser_relay), NULL, &to))
		fate_set(f, RCPT_DEFERRED, "4.3.5", "luser_relay has an "
		    "unknown name");
	else if (!expansion_loop(j, f)) {
		if (view_find(buf_view(&to), '@') == to.n)
			(void)buf_printf(&to, "@%.500s", cf->myorigin);
		fate_set(f, RCPT_EXPANDED, "2.0.0", "forwarded by "
		    "luser_relay");
		f->addresses = arena_alloc(a, sizeof *f->addresses);
		f->addresses[0] = arena_copy(a, view_head(buf_view(&to),
		    ADDRESS_MAX));
		f->n = 1;
	}
	buf_free(&to);
}

void
user_deliver(const struct job *j, struct arena *a, struct fate *ret)
{
	struct choice how;
	struct account who;

	if (!user_choose(j, a, &how, ret))
		return;
	switch (account_find(j->user, &who)) {
	case ACCOUNT_FOUND:
		user_account(j, &who, &how, a, ret);
		account_free(&who);
		break;
	case ACCOUNT_FAILED:
		fate_set(ret, RCPT_DEFERRED, "4.3.0", "user lookup failed: "
		    "\"%s\"", log_safe(j->user));
		break;
	case ACCOUNT_NONE:
	default:
		user_unknown(j, &how, a, ret);
		break;
	}
}
