/* link: queue/local_text.c queue/local_list.c queue/local_fate.c queue/local_pipe_service.c */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/mem.h"
#include "queue/local_fate.h"
#include "queue/local_list.h"
#include "queue/local_pipe.h"
#include "queue/local_text.h"

static struct buf out;

static int
setup(void **state)
{
	(void)state;
	buf_init(&out, 1u << 20);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	buf_free(&out);
	return 0;
}

/* -- text ------------------------------------------------------------------- */

static bool
take(struct view v, void *arg)
{
	(void)arg;
	return buf_putv(&out, v);
}

static int
file_of(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static void
sends(const char *text, unsigned flags, const char *eol, const char *want)
{
	struct local_text t = { .fd = file_of(text), .size = strlen(text) };

	buf_clear(&out);
	assert_int_equal(local_text_send(&t, flags, eol, take, NULL),
	    TEXT_DONE);
	assert_string_equal(buf_cstr(&out), want);
	close(t.fd);
}

static void
test_text(void **state)
{
	(void)state;
	sends("", 0, NULL, "");
	sends("a\r\nb\r\n", 0, NULL, "a\nb\n");
	sends("a\r\nb", 0, NULL, "a\nb\n");
	sends("a\rb\r\r\n\r\n\nx\r", 0, NULL, "a\rb\r\n\n\nx\r\n");
	sends("a\r\nb", 0, "\r\n", "a\r\nb\r\n");
	sends("a\r\n", TEXT_BLANK, NULL, "a\n\n");
	sends("a", TEXT_BLANK, "|", "a||");
	sends("From x\r\nFrom\r\nFro\r\nF\r\nFFrom x\r\nfrom x\r\n>From x\r\n"
	    "From ", TEXT_QUOTE_FROM, NULL, ">From x\nFrom\nFro\nF\n"
	    "FFrom x\nfrom x\n>From x\n>From \n");
	sends("Frof\r\nFrom", TEXT_QUOTE_FROM, NULL, "Frof\nFrom\n");
	sends(".\r\n..\r\na.\r\n", TEXT_DOT, NULL, "..\n...\na.\n");
	sends(".From \r\nFrom .\r\n", TEXT_DOT | TEXT_QUOTE_FROM, NULL,
	    "..From \n>From .\n");
}

/* However it is cut, by edits and by the size of what is read at once. */
static void
test_text_cut(void **state)
{
	static const char text[] = "Fxrom a\r\n\r\nb";
	struct edit list[2] = { { 1, 1, view_of("") },
		{ 8, 0, view_of("\r\nFro") } };
	struct local_text t = { .fd = file_of(text),
		.size = sizeof text - 1, .edits = { list, 2 } };
	size_t i;

	(void)state;
	buf_clear(&out);
	assert_int_equal(local_text_send(&t, TEXT_QUOTE_FROM, NULL, take,
	    NULL), TEXT_DONE);
	/* the LF of what was a CRLF is a line end of its own */
	assert_string_equal(buf_cstr(&out), ">From a\r\nFro\n\nb\n");
	close(t.fd);
	t = (struct local_text){ .fd = memfd_create("x", 0) };
	for (i = 0; i < 65534; i++)
		assert_int_equal(write(t.fd, "x", 1), 1);
	assert_int_equal(write(t.fd, "\r\nFrom y\r\n", 10), 10);
	t.size = 65544;
	buf_clear(&out);
	assert_int_equal(local_text_send(&t, TEXT_QUOTE_FROM, NULL, take,
	    NULL), TEXT_DONE);
	assert_string_equal(buf_cstr(&out) + 65534, "\n>From y\n");
	/* shorter than it was */
	t.size++;
	assert_int_equal(local_text_send(&t, 0, NULL, take, NULL),
	    TEXT_UNREADABLE);
	close(t.fd);
}

static int
delivered(const char *text, const char *addr)
{
	struct local_text t = { .fd = file_of(text), .size = strlen(text) };
	int found = local_text_delivered_to(&t, view_of(addr));

	close(t.fd);
	return found;
}

static void
test_delivered_to(void **state)
{
	static const char text[] = "A: b\r\ndelivered-TO: \tX@y.example \r\n"
	    "Delivered-To: z@y.example\r\n\r\nDelivered-To: body@y\r\n";

	(void)state;
	assert_int_equal(delivered(text, "x@Y.example"), 1);
	assert_int_equal(delivered(text, "z@y.example"), 1);
	assert_int_equal(delivered(text, "y.example"), 0);
	assert_int_equal(delivered(text, "body@y"), 0);
	assert_int_equal(delivered("", "a"), 0);
	assert_int_equal(delivered("Delivered-To: a", "a"), 1);
}

/* -- lists ------------------------------------------------------------------ */

static bool
item(enum list_kind kind, struct view text, void *arg)
{
	static const char letters[] = " AD|/:";

	(void)arg;
	return buf_printf(&out, "%c%.*s;", letters[kind], VIEW_ARGS(text));
}

static void
lists(const char *text, const char *want)
{
	struct view bad = view_of("");
	bool ok;

	buf_clear(&out);
	ok = list_parse(view_of(text), item, NULL, &bad);
	if (!ok)
		(void)buf_printf(&out, "!%.*s", VIEW_ARGS(bad));
	assert_string_equal(buf_cstr(&out), want);
}

static void
test_list(void **state)
{
	(void)state;
	lists("", "");
	lists(" ,,\n\t\n# x, y\n  # z\n", "");
	lists("a, b@c.example\n d", "Aa;Ab@c.example;Ad;");
	lists("Me <a@b>, \"Last, First\" <c@d>, (x, y) e", "Aa@b;Ac@d;Ae;");
	lists("\\a, \\b@c", "Da;Db@c;");
	lists("\"|cmd a, b\", |cmd c\n|cmd d #x", "|cmd a, b;|cmd c;|cmd d #x;");
	lists("\"|say \\\"hi\\\" \\\\\"", "|say \"hi\" \\;");
	lists("/a/b, \"/c d/\", /x=1/@gate.example",
	    "//a/b;//c d/;A/x=1/@gate.example;");
	lists(":include:/a/b, \":Include:/c d\"", ":/a/b;:/c d;");
	lists("\"a b\"@c.example", "Aa b@c.example;");
	lists("|, a", "!|");
	lists(":include:", "!:include:");
	lists("a, <>", "Aa;!<>");
	/* no end of a quote: up to the end of the line */
	lists("\"|x y\nb", "!\"|x y");
}

/* -- what an agent says ----------------------------------------------------- */

static bool
reads(struct view v, struct fate *ret)
{
	struct arena *a = arena_new(1u << 20);
	struct cursor c = cursor_of(v);
	bool ok = fate_get(&c, a, ret) && cursor_done(&c);

	arena_free(&a);
	return ok;
}

static void
test_fate(void **state)
{
	struct view addr[2] = { view_of("a@b"), view_of("c") };
	struct fate f = { .has_sender = true, .self = true,
		.sender = view_of("s"), .n = 2, .addresses = addr }, g;
	size_t i;

	(void)state;
	fate_set(&f, RCPT_BOUNCED, "5.1.1", "a\nb\x7f");
	buf_clear(&out);
	assert_true(fate_put(&out, &f));
	assert_true(reads(buf_view(&out), &g));
	assert_int_equal(g.status, RCPT_BOUNCED);
	assert_string_equal(g.text, "a b ");
	assert_true(g.has_sender && g.self && g.n == 2);
	for (i = 0; i < out.n; i++)
		assert_false(reads(view_make(out.p, i), &g));
	/* a status that is not its class, or none */
	fate_set(&f, RCPT_DEFERRED, "5.1.1", "x");
	buf_clear(&out);
	assert_true(fate_put(&out, &f));
	assert_false(reads(buf_view(&out), &g));
	fate_set(&f, 0, "2.0.0", "x");
	buf_clear(&out);
	assert_true(fate_put(&out, &f));
	assert_false(reads(buf_view(&out), &g));
	fate_set(&f, RCPT_SENT, "2.0", "x");
	buf_clear(&out);
	assert_true(fate_put(&out, &f));
	assert_false(reads(buf_view(&out), &g));
}

/* -- pipe ------------------------------------------------------------------- */

static const char *
pipe_read(const char *text, struct pipe_service *ret)
{
	static struct service_table *t;
	char *line = mem_printf("x unix - n n - - pipe %s\n", text);

	master_cf_free(&t);
	t = master_cf_parse(view_of(line), "master.cf", NULL, NULL);
	free(line);
	assert_non_null(t);
	return pipe_service_read(&t->list[0], ret);
}

static void
test_pipe(void **state)
{
	static const char *const wrong[] = { "", "user=a", "argv=x",
	    "user= argv=x", "user=a argv=", "user=a flags=A argv=x",
	    "user=a size=-1 argv=x", "user=a what=1 argv=x",
	    "user=a b argv=x", "user=a chroot=/ argv=x" };
	struct pipe_service p;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_non_null(pipe_read(wrong[i], &p));
	assert_null(pipe_read("flags=Fqhu.> user=a:b size=10 eol=\\r\\n\\101 "
	    "directory=/d null_sender=x argv=c { d e } user=z", &p));
	assert_int_equal(p.flags, PIPE_FROM | PIPE_QUOTE | PIPE_LOWER_DOMAIN |
	    PIPE_LOWER_LOCAL | PIPE_DOT | PIPE_QUOTE_FROM);
	assert_string_equal(p.user, "a");
	assert_string_equal(p.group, "b");
	assert_int_equal(p.size, 10);
	assert_string_equal(p.eol, "\r\nA");
	assert_string_equal(p.directory, "/d");
	assert_string_equal(p.null_sender, "x");
	assert_int_equal(p.argc, 3);
	assert_string_equal(p.argv[0], "argv=c");
	assert_string_equal(p.argv[1], "d e");
	pipe_service_free(&p);
	(void)pipe_read("", &p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_cut),
		cmocka_unit_test(test_delivered_to),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_fate),
		cmocka_unit_test(test_pipe),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
