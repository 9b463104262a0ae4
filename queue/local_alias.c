/*
 * What a name of this host stands for.  The table is asked as root, since it
 * was opened before; what it says is read, opened and run as the owner of the
 * table, or as default_privs if that is root.
 */
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/local_expand.h"

#define VALUE_MAX	(1u << 20)

struct alias_table {
	struct table_list list;	/* of one */
	uid_t uid;		/* who its commands run as */
	gid_t gid;
};

struct alias {
	const struct alias_table *table;
	struct view value;
	struct view owner;	/* what owner-NAME says; empty: there is none */
	struct view name;	/* by which it was found */
};

/* -- loading ---------------------------------------------------------------- */

static void
alias_owner(struct alias_table *t)
{
	const char *file = table_file(t->list.list[0]);
	char *index = NULL;
	struct passwd *pw;
	struct stat st;

	t->uid = local.nobody_uid;
	t->gid = local.nobody_gid;
	if (file == NULL)
		return;
	index = mem_printf("%s%s", file, TABLE_INDEX_SUFFIX);
	if ((stat(index, &st) == 0 || stat(file, &st) == 0) &&
	    st.st_uid != 0 && (pw = getpwuid(st.st_uid)) != NULL &&
	    pw->pw_gid != 0) {
		t->uid = st.st_uid;
		t->gid = pw->pw_gid;
	}
	free(index);
}

static bool
alias_table_load(struct view spec)
{
	struct alias_table t = { 0 };
	char *word = mem_copy(spec);
	bool ok = local_tables("alias_maps", word, &t.list) &&
	    t.list.n == 1;

	free(word);
	if (!ok)
		return false;
	alias_owner(&t);
	local.aliases = mem_resize(local.aliases, local.n_aliases + 1,
	    sizeof *local.aliases);
	local.aliases[local.n_aliases++] = t;
	return true;
}

void
alias_load(void)
{
	struct view rest = view_of(local.cf->alias_maps), word;
	struct account a = { 0 };

	if (!local.root) {
		local.nobody_uid = geteuid();
		local.nobody_gid = getegid();
	} else if (account_find(view_of(local.cf->default_privs), &a) !=
	    ACCOUNT_FOUND || a.uid == 0 || a.gid == 0) {
		fatal("default_privs = %s: no such account, or a privileged "
		    "one", local.cf->default_privs);
	} else {
		local.nobody_uid = a.uid;
		local.nobody_gid = a.gid;
	}
	account_free(&a);
	while ((word = conf_word(&rest)).n > 0)
		if (!alias_table_load(word)) {
			/* Nobody's mail may go where an alias would not
			 * have sent it. */
			log_error("alias_maps: mail of local names is "
			    "deferred until %.*s can be used",
			    VIEW_ARGS(word));
			local.aliases_failed = true;
		}
}

/* -- asking ----------------------------------------------------------------- */

static enum table_answer
alias_find(struct view name, struct arena *a, const struct alias_table **ret,
    struct view *ret_value)
{
	enum table_answer answer = TABLE_NOT_FOUND;
	struct addr_found found;
	struct buf value;
	size_t i;

	buf_init(&value, VALUE_MAX);
	for (i = 0; i < local.n_aliases; i++) {
		answer = addr_find_key(&local.aliases[i].list, name, true,
		    &value, &found);
		if (answer == TABLE_NOT_FOUND)
			continue;
		*ret = &local.aliases[i];
		if (answer == TABLE_FOUND)
			*ret_value = arena_copy(a, buf_view(&value));
		break;
	}
	buf_free(&value);
	return answer;
}

/* Is there somebody to whom what cannot be delivered goes? */
static enum table_answer
alias_find_owner(struct arena *a, struct alias *al)
{
	const struct alias_table *t;
	struct buf name;
	enum table_answer answer = TABLE_NOT_FOUND;

	if (view_starts_nocase(al->name, "owner-"))
		return answer;
	buf_init(&name, 2 * ADDRESS_MAX);
	if (buf_puts(&name, "owner-") && buf_putv(&name, al->name))
		answer = alias_find(buf_view(&name), a, &t, &al->owner);
	buf_free(&name);
	return answer;
}

static enum table_answer
alias_of(const struct job *j, struct arena *a, struct alias *ret)
{
	enum table_answer answer = TABLE_NOT_FOUND;

	if (j->extension.n > 0) {
		/* user, delimiter and extension lie side by side */
		ret->name = view_make(j->user.p, j->user.n + 1 +
		    j->extension.n);
		answer = alias_find(ret->name, a, &ret->table, &ret->value);
	}
	if (answer == TABLE_NOT_FOUND) {
		ret->name = j->user;
		answer = alias_find(ret->name, a, &ret->table, &ret->value);
	}
	if (answer == TABLE_FOUND &&
	    alias_find_owner(a, ret) == TABLE_FAILED)
		answer = TABLE_FAILED;
	return answer;
}

/* -- as its owner ----------------------------------------------------------- */

static bool
alias_first(enum list_kind kind, struct view text, void *arg)
{
	struct buf *b = arg;

	if (kind == LIST_ADDRESS || kind == LIST_DIRECT)
		(void)buf_putv(b, text);
	return false;
}

/* The sender of a list is its owner, unless it has none that could hear. */
static void
alias_sender(const struct job *j, const struct alias *al, struct arena *a,
    struct fate *ret)
{
	struct view domain = address_domain(j->rcpt->addr), bad;
	struct buf b;

	if (al->owner.n == 0 || j->order->env.sender.n == 0)
		return;
	buf_init(&b, 2 * ADDRESS_MAX);
	if (local.cf->expand_owner_alias)
		(void)list_parse(al->owner, alias_first, &b, &bad);
	if (b.n == 0)
		(void)buf_printf(&b, "owner-%.*s", VIEW_ARGS(al->name));
	if (view_find(buf_view(&b), '@') == b.n)
		(void)buf_printf(&b, "@%.*s", VIEW_ARGS(domain.n > 0 ?
		    domain : view_of(local.cf->myorigin)));
	ret->has_sender = true;
	ret->sender = arena_copy(a, view_head(buf_view(&b), ADDRESS_MAX));
	buf_free(&b);
}

static void
alias_as_owner(const struct job *j, void *arg, struct arena *a,
    struct fate *ret)
{
	const struct alias *al = arg;
	struct expansion x;

	if (!account_become(al->table->uid, al->table->gid, ret) ||
	    expansion_loop(j, ret))
		return;
	expansion_begin(&x, j, NULL, "alias", al->table->uid, a);
	(void)expansion_add(&x, al->value);
	expansion_end(&x, ret);
	ret->self = x.self;
	alias_sender(j, al, a, ret);
}

/* -- all of it -------------------------------------------------------------- */

static void
alias_user(const struct job *j, void *arg, struct arena *a, struct fate *ret)
{
	(void)arg;
	user_deliver(j, a, ret);
}

/* A list that names the user himself, too. */
static void
alias_and_user(const struct job *j, struct arena *a, struct fate *ret)
{
	struct fate user = { 0 };
	struct view *both;

	agent_as(alias_user, j, NULL, a, &user);
	if (user.status == RCPT_DEFERRED) {
		*ret = user;
		return;
	}
	if (user.n > 0 && (user.route.n == 0 || user.also)) {
		both = arena_alloc(a, (ret->n + user.n) * sizeof *both);
		if (ret->n > 0)
			memcpy(both, ret->addresses,
			    ret->n * sizeof *both);
		memcpy(both + ret->n, user.addresses,
		    user.n * sizeof *both);
		ret->addresses = both;
		ret->n += user.n;
	}
	if (user.route.n > 0)
		fate_pass(ret, user.route, j->rcpt->addr, a);
	if (ret->status == RCPT_EXPANDED || user.status == RCPT_BOUNCED) {
		ret->status = user.status;
		(void)memcpy(ret->dsn, user.dsn, sizeof ret->dsn);
		(void)memcpy(ret->text, user.text, sizeof ret->text);
	}
}

void
alias_deliver(const struct job *j, struct arena *a, struct fate *ret)
{
	struct alias al = { 0 };
	enum table_answer answer = local.aliases_failed ? TABLE_FAILED :
	    alias_of(j, a, &al);

	switch (answer) {
	case TABLE_FOUND:
		agent_as(alias_as_owner, j, &al, a, ret);
		if (ret->self && ret->status != RCPT_DEFERRED)
			alias_and_user(j, a, ret);
		break;
	case TABLE_FAILED:
		fate_set(ret, RCPT_DEFERRED, "4.3.0", "alias database "
		    "unavailable");
		break;
	case TABLE_NOT_FOUND:
	default:
		user_deliver(j, a, ret);
		break;
	}
}
