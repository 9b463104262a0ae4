/*
 * main.cf: reading never crashes, and what master hands to a role means the
 * same as what it read.
 */
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
same_values(const struct conf *a, const struct conf *b)
{
	struct view name;
	size_t i;

	for (i = 0; i < conf_params_count; i++) {
		name = view_of(conf_params[i].name);
		if (strcmp(conf_text(a, name), conf_text(b, name)) != 0)
			return false;
	}
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Set, so that no interface or name is looked up. */
	static const char fixed[] = "mynetworks = 127.0.0.0/8\n"
	    "myhostname = h.example.com\n";
	struct conf *cf, *again;
	struct buf in, one, two;
	char *text;

	buf_init(&in, CONF_FILE_MAX);
	buf_init(&one, CONF_FILE_MAX);
	buf_init(&two, CONF_FILE_MAX);
	if (size > 65536 || !buf_puts(&in, fixed) ||
	    !buf_put(&in, data, size))
		return 0;
	cf = conf_parse(buf_view(&in), "main.cf", NULL, NULL);
	if (cf != NULL) {
		ensure(conf_snapshot(cf, NULL, 0, &one));
		again = conf_parse(buf_view(&one), "again", NULL, NULL);
		ensure(again != NULL);
		ensure(same_values(cf, again));
		ensure(conf_snapshot(again, NULL, 0, &two));
		ensure(view_eq(buf_view(&one), buf_view(&two)));
		conf_free(&again);
		text = mem_copy(view_make(data, size < 512 ? size : 512));
		(void)conf_expand(cf, text);
		free(text);
		conf_free(&cf);
	}
	buf_free(&in);
	buf_free(&one);
	buf_free(&two);
	return 0;
}
