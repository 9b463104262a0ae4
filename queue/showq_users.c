/*
 * authorized_mailq_users and the like: "static:anyone", user names, "!name",
 * "/file/name" with such words in it, "type:table" (found: a member).  A word
 * that begins with ! takes out; the first word that matches decides.
 *
 * Inside the jail nobody can ask for the name of a user id, so names are taken
 * from the password database before, all of them, and only if a list needs
 * them.  showq does not live long when nobody asks, so a new user is known
 * soon.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "queue/showq.h"
#include "rules/table.h"

#define WORDS_MAX	1000u
#define USERS_MAX	100000u
#define FILE_LINE	1024u

struct user_word {
	bool out;		/* ! */
	struct table *table;	/* or */
	char *name;
};

struct user_list {
	const char *param;
	struct user_word *words;
	size_t n;
};

static struct user_name {
	uid_t uid;
	char *name;
} *names;
static size_t n_names;
static bool names_wanted;

static void users_add(struct user_list *l, struct view word,
    const char *config_dir, bool from_file);

static void
users_file(struct user_list *l, const char *path, bool out,
    const char *config_dir)
{
	char line[FILE_LINE], *word;
	struct view rest, w;
	FILE *f = fopen(path, "re");

	if (f == NULL)
		fatal("%s: %s: %m", l->param, path);
	while (fgets(line, sizeof line, f) != NULL) {
		rest = view_trim(view_of(line));
		if (rest.n == 0 || rest.p[0] == '#')
			continue;
		while ((w = conf_word(&rest)).n > 0) {
			/* Twice not is so again. */
			if (out && w.p[0] == '!')
				word = mem_copy(view_from(w, 1));
			else
				word = mem_printf("%s%.*s", out ? "!" : "",
				    VIEW_ARGS(w));
			users_add(l, view_of(word), config_dir, true);
			free(word);
		}
	}
	fclose(f);
}

static void
users_add(struct user_list *l, struct view word, const char *config_dir,
    bool from_file)
{
	struct user_word *u;
	bool out = false;
	char *path;

	while (word.n > 0 && word.p[0] == '!') {
		out = !out;
		word = view_from(word, 1);
	}
	if (word.n > 0 && word.p[0] == '/' && !from_file) {
		path = mem_copy(word);
		users_file(l, path, out, config_dir);
		free(path);
		return;
	}
	if (l->n == WORDS_MAX)
		fatal("%s: more than %u words", l->param, WORDS_MAX);
	l->words = mem_resize(l->words, l->n + 1, sizeof *l->words);
	u = &l->words[l->n++];
	*u = (struct user_word){ .out = out };
	if (view_find(word, ':') < word.n) {
		u->table = table_open(word, config_dir, log_report_errors,
		    NULL);
		if (u->table == NULL)
			fatal("%s: cannot open %.*s", l->param,
			    VIEW_ARGS(word));
		if (!view_starts_nocase(word, "static:"))
			names_wanted = true;
	} else {
		u->name = mem_copy(word);
		names_wanted = true;
	}
}

struct user_list *
users_load(const char *param, const char *value, const char *config_dir)
{
	struct user_list *l = mem_alloc(sizeof *l);
	struct view rest = view_of(value), word;

	l->param = param;
	while ((word = conf_word(&rest)).n > 0)
		users_add(l, word, config_dir, false);
	return l;
}

static int
name_order(const void *a, const void *b)
{
	const struct user_name *x = a, *y = b;

	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

void
users_end_load(void)
{
	struct passwd *pw;

	if (!names_wanted)
		return;
	setpwent();
	while (n_names < USERS_MAX && (pw = getpwent()) != NULL) {
		names = mem_resize(names, n_names + 1, sizeof *names);
		names[n_names++] = (struct user_name){ pw->pw_uid,
			mem_strdup(pw->pw_name) };
	}
	endpwent();
	if (n_names > 1)
		qsort(names, n_names, sizeof *names, name_order);
}

bool
users_allow(const struct user_list *l, uid_t uid)
{
	struct user_name key = { .uid = uid }, *found = NULL;
	const char *name = "unknown";
	struct buf value;
	bool hit;
	size_t i;

	if (n_names > 0)
		found = bsearch(&key, names, n_names, sizeof *names,
		    name_order);
	if (found != NULL)
		name = found->name;
	for (i = 0; i < l->n; i++) {
		if (l->words[i].table != NULL) {
			buf_init(&value, 65536);
			hit = table_find(l->words[i].table, view_of(name),
			    &value, &(unsigned){ 0 }) == TABLE_FOUND;
			buf_free(&value);
		} else {
			hit = strcmp(l->words[i].name, name) == 0;
		}
		if (hit)
			return !l->words[i].out;
	}
	return false;
}
