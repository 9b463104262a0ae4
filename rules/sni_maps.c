#include <stdlib.h>

#include "rules/sni_maps.h"

/* Returns false. */
static bool
sni_refuse(struct view word, table_report *report, void *arg)
{
	char *text = mem_printf("tls_server_sni_maps: %.*s: only texthash:, "
	    "inline: and indexed tables with their text can be used here",
	    VIEW_ARGS(view_head(word, 200)));

	report(true, text, arg);
	free(text);
	return false;
}

/* The table with its rows in memory; NULL after a report. */
static struct table *
sni_table(const struct conf *cf, struct view word, table_report *report,
    void *arg)
{
	static const char *const indexed[] = { "hash:", "btree:", "lmdb:",
		"dbm:", "cdb:", "sdbm:" };
	struct table *t;
	char *spec;
	size_t i;

	if (view_starts_nocase(word, "texthash:") ||
	    view_starts_nocase(word, "inline:"))
		return table_open(word, cf->config_directory, report, arg);
	for (i = 0; i < sizeof indexed / sizeof indexed[0]; i++)
		if (view_starts_nocase(word, indexed[i]))
			break;
	if (i == sizeof indexed / sizeof indexed[0]) {
		(void)sni_refuse(word, report, arg);
		return NULL;
	}
	spec = mem_printf("texthash%.*s", VIEW_ARGS(view_from(word,
	    view_find(word, ':'))));
	t = table_open(view_of(spec), cf->config_directory, report, arg);
	free(spec);
	return t;
}

bool
sni_maps_each(const struct conf *cf,
    void (*fn)(struct view name, struct view files, void *arg), void *fn_arg,
    table_report *report, void *arg)
{
	struct view rest = view_of(cf->tls_server_sni_maps), word;
	struct table *t;

	while ((word = conf_word(&rest)).n > 0) {
		t = sni_table(cf, word, report, arg);
		if (t == NULL)
			return false;
		table_entries(t, fn, fn_arg);
		table_free(&t);
	}
	return true;
}
