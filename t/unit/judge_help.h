/*
 * A message through the engine, with settings of its own: for tests of what
 * becomes of it.
 */
#ifndef T_UNIT_JUDGE_HELP_H
#define T_UNIT_JUDGE_HELP_H

#include "filters/engine.h"

static inline void
judge_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("%s", text);
}

struct judge {
	struct conf *conf;
	struct engine *engine;
	struct arena *arena;
	struct judgement j;	/* of the last message */
};

static inline void
judge_open(struct judge *g, const char *settings)
{
	g->conf = conf_parse(view_of(settings), "main.cf", judge_report,
	    NULL);
	assert_non_null(g->conf);
	g->engine = engine_open(g->conf, judge_report, NULL);
	assert_non_null(g->engine);
	g->arena = arena_new(1u << 20);
}

static inline void
judge_close(struct judge *g)
{
	engine_free(&g->engine);
	conf_free(&g->conf);
	arena_free(&g->arena);
}

static inline enum action
judge_text(struct judge *g, struct view text)
{
	struct recipient rcpts[] = { { .addr = view_of("r@example.com") } };
	struct envelope e = { .sender = view_of("a@b.org"),
		.client_name = view_of("mx.b.org"),
		.client_addr = view_of("192.0.2.1"),
		.helo = view_of("mx.b"), .proto = view_of("ESMTP"),
		.nrcpts = 1, .rcpts = rcpts };
	struct queue_id id = { 0x1234 };

	arena_reset(g->arena);
	engine_judge(g->engine, text, &e, id, &g->j, g->arena);
	return g->j.verdict.action;
}

/* base64 with lines of 76 characters */
static inline void
judge_base64(struct buf *to, struct view v)
{
	static const char a[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
	    "rstuvwxyz0123456789+/";
	uint32_t w;
	size_t n = 0;

	for (; v.n > 0; v = view_from(v, 3)) {
		w = (uint32_t)(unsigned char)v.p[0] << 16;
		w |= v.n > 1 ? (uint32_t)(unsigned char)v.p[1] << 8 : 0;
		w |= v.n > 2 ? (unsigned char)v.p[2] : 0;
		buf_putc(to, a[w >> 18]);
		buf_putc(to, a[w >> 12 & 63]);
		buf_putc(to, v.n > 1 ? a[w >> 6 & 63] : '=');
		buf_putc(to, v.n > 2 ? a[w & 63] : '=');
		if (++n % 19 == 0)
			buf_puts(to, "\r\n");
	}
	buf_puts(to, "\r\n");
}

#endif
