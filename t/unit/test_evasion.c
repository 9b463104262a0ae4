/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/engine.h"
#include "lib/log.h"

/*
 * The shipped rules against messages that try to get past them: what mail
 * programs show their users although it is not written as RFC 2045 says.
 * The "programs" are a few letters of text.
 */
static struct {
	struct conf *conf;
	struct engine *engine;
	struct arena *arena;
} gateway;

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("%s", text);
}

/* type: the table type that reads the rules; more: settings */
static void
open_stock(const char *type, const char *more)
{
	char *dir = getcwd(NULL, 0);
	struct buf b;

	assert_non_null(dir);
	buf_init(&b, 65536);
	buf_printf(&b, "config_directory = %s/rules/stock\n"
	    "header_checks = %s:header_checks\n"
	    "body_checks = %s:body_checks\n%s", dir, type, type, more);
	free(dir);
	gateway.conf = conf_parse(buf_view(&b), "main.cf", report, NULL);
	assert_non_null(gateway.conf);
	buf_free(&b);
	assert_true(engine_check(gateway.conf, report, NULL));
	gateway.engine = engine_open(gateway.conf, report, NULL);
	assert_non_null(gateway.engine);
	gateway.arena = arena_new(1u << 20);
}

static void
close_stock(void)
{
	engine_free(&gateway.engine);
	conf_free(&gateway.conf);
	arena_free(&gateway.arena);
}

static bool
refused(struct view text)
{
	struct recipient rcpts[] = { { .addr = view_of("r@example.com") } };
	struct envelope e = { .sender = view_of("a@b.org"),
		.client_name = view_of("mx.b.org"),
		.client_addr = view_of("192.0.2.1"),
		.helo = view_of("mx.b"), .proto = view_of("ESMTP"),
		.nrcpts = 1, .rcpts = rcpts };
	struct queue_id id = { 0x1234 };
	struct judgement j;

	arena_reset(gateway.arena);
	engine_judge(gateway.engine, text, &e, id, &j, gateway.arena);
	return j.verdict.action == ACTION_REJECT;
}

#define PRIMARY	"Subject: x\r\nMIME-Version: 1.0\r\n"
#define MULTI(type) PRIMARY "Content-Type: " type "\r\n\r\n"
#define FIRST	"Content-Type: text/plain\r\n\r\nhello\r\n"
#define PARTS	MULTI("multipart/mixed; boundary=\"=_b\"")		\
	"--=_b\r\n" FIRST "--=_b\r\n"
#define END	"\r\n\r\nTVqQ\r\n--=_b--\r\n"
#define NAMED	"Content-Type: x/y; name=a.txt\r\n"			\
	"Content-Disposition: attachment;\r\n filename=\"invoice.pdf.exe\""
#define CODED(fields, body) PARTS "Content-Type: text/plain\r\n" fields	     \
	"\r\n" body "\r\n--=_b--\r\n"
#define CTE	"Content-Transfer-Encoding"
#define B64(body) CODED(CTE ": base64\r\n", body)
#define DISPOSITION(s)	PARTS "Content-Disposition: attachment; " s END

static const char *const evasions[] = {
	/* the header block */
	PARTS "cOnTeNt-dIsPoSiTiOn: attachment;\r\n\tFILENAME=Invoice.EXE" END,
	PARTS "Content-Disposition \t: attachment; filename=invoice.exe" END,
	PARTS "Content-Disposition:attachment;filename=invoice.exe" END,
	PARTS "Content-Disposition:\r\n attachment\r\n ;\r\n filename\r\n =\r\n"
	" \"invoice.pdf\r\n .exe\"" END,
	PARTS "Content-Type: text/plain\r\nContent-Type: x/y; name=a.exe" END,
	PARTS "Content-Type: x/y; name=a.txt; name=a.exe" END,
	PARTS "no header\r\n" NAMED END,
	PARTS " folded nothing\r\n" NAMED END,
	PARTS "From someone\r\n" NAMED END,
	/* how the name is written */
	DISPOSITION("filename=\"invoice.exe"),
	DISPOSITION("filename=invoice.exe (a comment)"),
	DISPOSITION("filename (a comment) = \"setup.msi\""),
	DISPOSITION("filename=setup.msi(a comment)"),
	DISPOSITION("filename\t=\t\"setup.msi\t\""),
	DISPOSITION("filename=\"invoice.e\\xe\""),
	DISPOSITION("filename=\"invoice\\.exe\""),
	DISPOSITION("filename=\"\\s\\e\\t\\u\\p.m\\s\\i\""),
	DISPOSITION("filename='setup.msi'"),
	DISPOSITION("filename=\"r\xc3\xa9sum\xe9.exe\""),
	DISPOSITION("filename=\"setup.msi. .\""),
	DISPOSITION("filename=\"a.{3050F4D8-98B5-11CF-BB82-00AA00BDCE0B}\""),
	/* RFC 2231 */
	DISPOSITION("filename*=utf-8''invoice.exe"),
	DISPOSITION("filename*=utf-8''setup%2Emsi"),
	DISPOSITION("filename*=utf-8''setup.m%73i"),
	DISPOSITION("filename*=utf-8''setup%2e%6D%73%69"),
	DISPOSITION("filename*=utf-8''setup.msi%20%2E"),
	DISPOSITION("filename*0=invoice; filename*1=\".exe\""),
	DISPOSITION("filename*0*=utf-8''set; filename*1*=up%2Emsi"),
	/* RFC 2047, which is not for this place but is decoded there */
	DISPOSITION("filename=\"=?utf-8?q?setup=2Emsi?=\""),
	DISPOSITION("filename==?utf-8?q?setup.m=73i?="),
	DISPOSITION("filename=\"=?utf-8?q?setup.msi_?=\""),
	/* the message is the attachment */
	PRIMARY "Content-Type: x/y; name=a.exe\r\n\r\nTVqQ\r\n",
	PRIMARY "Content-Disposition: inline; filename=a.exe\r\n\r\nTVqQ\r\n",
	"Content-Disposition: attachment; filename=a.exe\r\n",
	/* boundaries */
	MULTI("multipart/mixed; boundary=a") "--a  \t\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a") "--abc\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=\"a b:()=?'\\\"c\"")
	"--a b:()=?'\"c\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a; boundary=b") "--b\r\n" NAMED END,
	MULTI("multipart/mixed; boundary*0=a; boundary*1=b") "--ab\r\n" NAMED
	END,
	MULTI("multipart/mixed boundary=a") "--a\r\n" NAMED END,
	MULTI("multipart; boundary=a") "--a\r\n" NAMED END,
	MULTI("(c) multipart(c)/(c)mixed (c); (c) boundary (c) = (c) a (c)")
	"--a\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=\"\"") "--\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a") "--a--\r\n--a\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a") "--a\r\n" NAMED,
	"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" NAMED END,
	"Content-Type: text/plain\r\nContent-Type: multipart/mixed;\r\n"
	" boundary=a\r\n\r\n--a\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a") "--a\r\n"
	"Content-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n" NAMED END,
	MULTI("multipart/mixed; boundary=a") "--a\r\n"
	"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" NAMED END,
	/* attached messages */
	PARTS "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n" NAMED END,
	PARTS "Content-Type: message/news\r\n\r\nSubject: y\r\n" NAMED END,
	PARTS "Content-Type: message/rfc822\r\n\r\n>From a@b Mon\r\n" NAMED END,
	PARTS "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n"
	"Content-Type: multipart/mixed; boundary=z\r\n\r\n--z\r\n" NAMED END,
	PARTS "Content-Type: message/rfc822\r\n\r\n>From a@b Mon\r\n"
	"Content-Type: multipart/mixed; boundary=z\r\n\r\n--z\r\n" NAMED END,
	PRIMARY "Content-Type: message/rfc822\r\n\r\n" NAMED "\r\n\r\nx\r\n",
	MULTI("multipart/digest; boundary=z") "--z\r\n\r\n" NAMED END,
	PARTS "Content-Type: message/rfc822\r\n\r\nSubject: ILOVEYOU" END,
	/* a message in pieces: nobody sees the name's end */
	PRIMARY "Content-Type: message/partial; number=2; total=3; id=a\r\n"
	"\r\nTVqQ\r\n",
	/* not MIME */
	PRIMARY "\r\nbegin 644 invoice.exe\r\n#0V%T\r\n`\r\nend\r\n",
	PRIMARY "\r\nbegin 0755 my setup.msi \r\n#0V%T\r\n`\r\nend\r\n",
	PRIMARY "\r\nbegin-base64 644 invoice.exe\r\nTVqQ\r\n====\r\n",
	PARTS "Content-Type: text/plain\r\n\r\nbegin 666 a.vbs\r\n#0V%T" END,
	/* LoveLetter */
	"Subject: ILOVEYOU\r\n\r\n",
	"sUBJECT \t:\tFwd: ILoveYou\r\n\r\n",
	"Subject:\r\n \r\n\tILOVEYOU\r\n\r\n",
	"Subject: lunch\r\nSubject: ILOVEYOU\r\n\r\n",
	"Subject: =?us-ascii?Q?ILOVEYOU?=\r\n\r\n",
};

/* Good mail that looks a little like it. */
static const char *const innocent[] = {
	DISPOSITION("filename=\"invoice.pdf\""),
	DISPOSITION("filename*=utf-8''r%C3%A9sum%C3%A9%20v1.2.pdf"),
	DISPOSITION("filename=\"=?utf-8?q?r=C3=A9sum=C3=A9_v1.2=2Epdf?=\""),
	DISPOSITION("filename=\"\\\\server\\share\\report.pdf\""),
	DISPOSITION("filename*0=\"a long report of the year.p\"; "
	"filename*1=df"),
	PARTS "Content-Type: multipart/related; name=x; type=\"text/html\";\r\n"
	" boundary=\"----=_NextPart.1a=3b=41\"\r\n\r\n",
	PRIMARY "\r\nbegin 644 invoice.pdf\r\n#0V%T\r\n`\r\nend\r\n",
	PRIMARY "\r\nbegin 2024 with setup.exe and more\r\n",
	PRIMARY "\r\nSee https://www.example.org/?name=example.com\r\n",
	"Subject: I love you, too\r\n\r\nSubject: ILOVEYOU\r\n",
	CODED("", "hello"), B64("aGVsbG8="),
	CODED(CTE ": quoted-printable\r\n", "hel=\r\nlo=3D"),
	B64("aGVsbG8=\r\n______________________________\r\nclub mailing list\r\n"
	"club@example.org\r\nhttp://example.org/mailman/listinfo/club"),
	MULTI("multipart/mixed; boundary=\"b\"") "--b\r\n" FIRST "--b--\r\n",
};

/*
 * What tells receivers and filters apart, as published: the test file of
 * antivirus programs, or a name that is refused, where some mail program finds
 * it.  With what `postern init` writes all of it is refused: by a rule, or
 * because the message can be read in two ways.
 */
#define MARK	"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-"  \
	"FILE!$H+H*"
#define MARK64	"WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFO"   \
	"VElWSVJVUy1URVNULUZJTEUhJEgrSCo="
#define MARKED	"Content-Type: text/plain\r\n\r\n" MARK "\r\n"

static const char *const readings[] = {
	/* as everybody sees it */
	CODED("", MARK),
	B64(MARK64),
	/* the transfer encoding */
	CODED(CTE ": base64\r\n" CTE ": 7bit\r\n", MARK64),
	CODED(CTE ": 7bit\r\n" CTE ": base64\r\n", MARK64),
	CODED(CTE ": quoted-printable\r\n" CTE ": base64\r\n", MARK64),
	CODED(CTE ": BaSe64\r\n", MARK64),
	CODED(CTE ":base64\r\n", MARK64),
	CODED(CTE " : base64\r\n", MARK64),
	CODED(CTE ":\r\n base64\r\n", MARK64),
	CODED(CTE ": base64 \r\n", MARK64),
	CODED(CTE ": \"base64\"\r\n", MARK64),
	CODED(CTE ": base64;\r\n", MARK64),
	CODED(CTE ": base64; x=y\r\n", MARK64),
	CODED(CTE ": base64 7bit\r\n", MARK64),
	CODED(CTE ": 7bit, base64\r\n", MARK64),
	CODED(CTE ": (7bit) base64\r\n", MARK64),
	CODED(CTE ": base64 (7bit)\r\n", MARK64),
	CODED(CTE ": x-base64\r\n", MARK64),
	CODED(CTE ": =?utf-8?q?base64?=\r\n", MARK64),
	CODED(CTE ": =?utf-8?b?YmFzZTY0?=\r\n", MARK64),
	CODED(CTE ":\r\n \r\n base64\r\n", MARK64),
	CODED("Content-\x01Transfer-Encoding: base64\r\n", MARK64),
	CODED(CTE "\x01: base64\r\n", MARK64),
	/* base64 */
	B64("W DVPIVAlQE\r\nFQWzRcUFpYNTQoUF4pN0NDKTd9JEV\tJQ0FSLVNUQU5EQVJELU"
	"FOVElWSVJVUy1URVNULUZJTEUhJEgrSCo="),
	B64("!W*D#V%P-I_VAlQEFQWzRcUFpYNTQoUF4pN0ND.KTd9JEVJQ0FSLVNUQU5EQVJELU"
	"FOVElWSVJVUy1URVNULUZJTEUhJEgrSCo="),
	B64("\x80W\xff" "DVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJE"
	"LUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo="),
	/* in pieces, each with padding */
	B64("WDVPIQ==UCVAQQ==\r\nUFs0XFBaWDU0KFBeKTdDQyk3fSRFSUNBUi1TVA==\r\n"
	"QU5EQVJELUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo="),
	/* and as the footer of a list */
	B64("WDVPIQ==\r\nU.C_V-A.Q,A [UFs0] X-F-B-a-W-D-U-0 KFBeK Tc(DQy)k3 fS"
	"RFS U-N-B-U i1TVA-E-5EQVJELUFO VElWSVJV Uy1-URVN\r\n"),
	B64("eA==\r\nW-D VPIVA lQEFQ WzRcUFpYNTQoUF4pN0 NDKTd9JEVJQ0FSL\r\n- "
	"VNUQU5EQ -VJELUFOV ElWSVJVUy1UR\r\n"),
	/* padding that some leave out, and others end with */
	B64("WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0ND=KTd9JEVJQ0FSLVNUQU5EQVJELUFOVElW"
	"SVJVUy1URVNULUZJTEUhJEgrSCo="),
	B64("====" MARK64),
	/* not complete */
	B64("WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJ"
	"VUy1URVNULUZJTEUhJEgrSC"),
	/* quoted-printable */
	CODED(CTE ": quoted-printable\r\n", "X5O!P%@AP[4\\PZX54(P^)7CC)7}$E=\r\n"
	"ICAR-STA=  \r\nNDARD-ANTIVIRUS-TEST-FILE!$H+H*"),
	CODED(CTE ": quoted-printable\r\n", "=58=35=4f!P%@AP[4=5CPZX54(P^)7CC)7}$"
	"E=49CAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"),
	/* character sets */
	PARTS "Content-Type: text/plain; charset=utf-7\r\n\r\nX5O+ACE-P%@AP[4+AF"
	"w-PZX54(P^)7CC)7}+ACQ-EICAR+AC0-STANDARD-ANTIVIRUS" END,
	PARTS "Content-Type: text/plain; charset=UTF-16LE\r\n" CTE ": base64\r\n"
	"\r\nRQBJAEMAQQBSAC0AUwBUAEEATgBEAEEAUgBEAC0AQQBOAFQASQBWAEkAUgBVAFMA"
	END,
	PARTS "Content-Type: text/html\r\n\r\n<p>EIC<b></b>AR&#45;STAN&shy;DARD-<!"
	"-- x -->ANTI<i>VIRUS</i>" END,
	/* two types */
	PARTS "Content-Type: image/png\r\n" MARKED "--=_b--\r\n",
	PARTS "Content-Type: text/plain\r\nContent-Type: image/png\r\n\r\n"
	MARK "\r\n--=_b--\r\n",
	/* boundaries */
	PRIMARY "Content-Type: multipart/mixed; boundary=a\r\n"
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b; boundary=a") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=a; boundary=b") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=a; boundary*=us-ascii''%62")
	"--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary*0=a; boundary*1=b") "--ab\r\n" MARKED,
	MULTI("multipart/mixed; boundary=\"b") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b\"c") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary='b'") "--'b'\r\n" MARKED,
	MULTI("multipart/mixed; boundary='b'") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b c") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b c") "--b c\r\n" MARKED,
	MULTI("multipart/mixed; boundary=\"=?utf-8?q?b?=\"") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b\x01c") "--b\r\n" MARKED,
	MULTI("multipart/mixed;\r\n \r\n boundary=b") "--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=\"b\r\n c\"") "--b c\r\n" MARKED,
	MULTI("multipart/mixed; boundary=(c)b") "--b\r\n" MARKED,
	MULTI("multipart/mixed; BOUNDARY = \"b\"") "--b\r\n" MARKED,
	MULTI("multipart/mixed; xboundary=a; boundary=b") "--b\r\n" MARKED,
	MULTI("multipart/mixed; x=\"; boundary=a\"; boundary=b")
	"--b\r\n" MARKED,
	MULTI("multipart/mixed") "--b\r\n" MARKED "--b--\r\n",
	MULTI("=?utf-8?q?multipart/mixed?=; boundary=b") "--b\r\n" MARKED,
	MULTI("multipart/mixed, text/plain; boundary=b") "--b\r\n" MARKED,
	MULTI("multipart/\r\n mixed; boundary=b") "--b\r\n" MARKED,
	PRIMARY "Content-Type\t: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
	MARKED,
	PRIMARY "Content-\x01Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
	MARKED,
	/* in front of the first part, behind the last, and again */
	MULTI("multipart/mixed; boundary=b") MARKED "--b\r\n" FIRST
	"--b--\r\n",
	MULTI("multipart/mixed; boundary=b") "--b\r\n" FIRST "--b--\r\n"
	MARKED,
	MULTI("multipart/mixed; boundary=b") "--b\r\n" FIRST "--b--\r\n"
	"--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b") "--b\r\n"
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b") "--b--\r\n--b\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b") "--b \t\r\n" MARKED,
	MULTI("multipart/mixed; boundary=b") "--b--x\r\n" MARKED,
	MULTI("multipart/mixed; boundary=\"\"") "--\r\n" MARKED,
	/* CR and LF that end no line */
	MULTI("multipart/mixed; boundary=b") "--b\rContent-Type: text/plain\r\n"
	"\r\n" MARK "\r\n",
	PRIMARY "X: y\rContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
	"Content-Type: text/plain\r\n" CTE ": base64\r\n\r\n" MARK64 "\r\n",
	PRIMARY "X: y\nContent-Transfer-Encoding: base64\r\n\r\n" MARK64 "\r\n",
	/* encoded as a whole */
	PRIMARY "Content-Type: message/rfc822\r\n" CTE ": base64\r\n\r\n"
	"DQpYNU8hUCVAQVBbNFxQWlg1NChQXik3Q0MpN30kRUlDQVItU1RBTkRBUkQtQU5USVZJ"
	"UlVTLVRFU1QtRklMRSEkSCtIKg==\r\n",
	MULTI("multipart/mixed; boundary=b\r\n" CTE ": base64")
	"LS1iDQoNCg==\r\n",
	MULTI("multipart/mixed; boundary=b\r\n" CTE ": quoted-printable")
	"=2D-b\r\nContent-Type: text/plain\r\n\r\nX5O!P%@AP[4\\PZX54(P^)7CC)7}"
	"$EICAR-STA=4EDARD-ANTIVIRUS-TEST-FILE!$H+H*\r\n",
	/* names */
	DISPOSITION("filename=\"a.txt\"; filename*=utf-8''a.exe"),
	DISPOSITION("filename*=utf-8''a.exe%00.txt"),
	PARTS "Content-Type: x/y; name=a.txt\r\nContent-Disposition: attachment;"
	" filename=a.exe" END,
	/* not MIME */
	PRIMARY "\r\nbegin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\n",
	PRIMARY "\r\n=ybegin line=128 size=3 name=a.txt\r\nk\r\n",
	B64("eJ8+IgAA"),
	PRIMARY "Content-Type: message/partial; number=1; total=2; id=a\r\n\r\n",
};


/*
 * What research on the ambiguity of MIME found in mail programs (2024): a
 * program is in the part for those who read it so.  PROGRAM is the begin of
 * one that does nothing.
 */
#define PROGRAM "TVqQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"  \
	"AAAAAQAAAAFBFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
#define PROGRAM_QP "=4D=5A=90=00=00=00=00=00=\r\n=00=00=00=00=00=00=00=00=\r\n"
#define FILE_TYPE "Content-Type: application/octet-stream; name=a.txt\r\n"
#define FILE_PART(fields, body) PARTS FILE_TYPE fields "\r\n" body	      \
	"--=_b--\r\n"
#define PLAIN_PART(body) PARTS "\r\n" body "--=_b--\r\n"

static const char *const programs[] = {
	/* as everybody sees it */
	FILE_PART(CTE ": base64\r\n", PROGRAM),
	FILE_PART(CTE ": quoted-printable\r\n", PROGRAM_QP),
	/* a field that only some see */
	FILE_PART("X: y\r\n " CTE ": base64\r\n", PROGRAM),
	FILE_PART("X: y\r\n\t" CTE ":base64\r\n", PROGRAM),
	FILE_PART(CTE "\r\n :base64\r\n", PROGRAM),
	FILE_PART(CTE "(: )base64\r\n", PROGRAM),
	FILE_PART("Content-Transfe(r-Encoding: base64\r\n", PROGRAM),
	FILE_PART(CTE ": bas\r\n e64\r\n", PROGRAM),
	FILE_PART(CTE ": bas(c\r\n c)e64\r\n", PROGRAM),
	FILE_PART(CTE ": bas(c)e64\r\n", PROGRAM),
	FILE_PART(CTE ": quot(c)ed-printable\r\n", PROGRAM_QP),
	FILE_PART(CTE ": x\r\n", PROGRAM),
	FILE_PART(CTE ": x\r\n", PROGRAM_QP),
	"Subject: x\r\n Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	"--b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	MULTI("Content-Type:multipart/mixed; boundary=b")
	"--b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	MULTI("application/octet-stream, multipart/mixed; boundary=b")
	"--b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	/* where the header block ends */
	PLAIN_PART(FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM),
	PLAIN_PART(FILE_TYPE CTE ": quoted-printable\r\n\r\n" PROGRAM_QP),
	FILE_PART("\r\n" CTE ": base64\r\n", PROGRAM),
	FILE_PART("\r\n " CTE ": base64\r\n", PROGRAM),
	FILE_PART("\r\nA sentence.\r\n" CTE ": base64\r\n", PROGRAM),
	FILE_PART("\r\nA sentence.\r\n" CTE ": base64\r\nAnother.\r\n",
	PROGRAM),
	PARTS FILE_TYPE CTE ": base64\r\n" PROGRAM "--=_b--\r\n",
	PARTS FILE_TYPE CTE ": base64\r\n)\r\n" PROGRAM "--=_b--\r\n",
	PARTS FILE_TYPE CTE ": quoted-printable\r\n" PROGRAM_QP "--=_b--\r\n",
	FILE_PART(CTE ": quoted-printable\r\n\r\n", PROGRAM_QP),
	/* a boundary that only some see */
	PARTS FIRST " --=_b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	PARTS FIRST "\t--=_b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	PARTS FIRST "x\r--=_b\r\n" FILE_TYPE CTE ": base64\r\n\r\n" PROGRAM,
	PARTS "\r\n--c\r\n" FIRST "--c\r\n" FILE_TYPE CTE ": base64\r\n\r\n"
	PROGRAM,
	/* no field at all */
	FILE_PART("", PROGRAM),
	FILE_PART("", PROGRAM_QP),
	FILE_PART("", "A sentence.\r\n" PROGRAM),
	"Subject: x\r\n\r\n" PROGRAM,
	/* what some decoders do */
	FILE_PART(CTE ": quoted-printable\r\n",
	"\t=4D=5A=90=00=00=00=00=\r\n\t=00=00=00=00=00=00=\r\n"),
	FILE_PART(CTE ": quoted-printable\r\n",
	"=4D=\t=5A=90=00=00=00=00=\r\n=00=\t=00=00=00=00=00=\r\n"),
	FILE_PART(CTE ": quoted-printable\r\n",
	"=4D=5a=90=0=00=00=00=00=\r\n=00=0=00=00=00=00=00=\r\n"),
	/* names: parameters and fields that few programs know */
	PARTS "Content-Type: x/y; filename=a.exe" END,
	PARTS "Content-Name: a.exe\r\nContent-Type: x/y" END,
	PARTS "X-Sun-Data-Name: a.exe\r\nContent-Type: x/y" END,
	DISPOSITION("filename=\"a.e?xe\""),
	PARTS "Content-Disposition: =?utf-8?q?attachment=3b_filename=3d=22a=2e"
	"exe=22?=" END,
	DISPOSITION("filename=\"a.exe/\""),
	DISPOSITION("filename=\"a.exe\\\\.\""),
	PLAIN_PART("Content-Disposition: attachment; filename=a.js\r\n\r\nx"
	"\r\n"),
};

/* Text about such things, and what careless programs send. */
static const char *const spoken_of[] = {
	PLAIN_PART("Content-Type: text/html\r\n\r\n<p>too early\r\n"),
	"Subject: x\r\n\r\nThe field\r\nContent-Type: multipart/mixed; "
	"boundary=b\r\nis missing.\r\n--b\r\n\r\n",
	"DKIM-Signature: v=1; h=From:\r\n Content-Type:Content-Transfer-"
	"Encoding:\r\n Content-Disposition; b=YQ==\r\nSubject: x\r\n\r\n",
	PARTS "Content-Type: application/pdf; name=\"a.pdf\";\r\n\tx-apple-part-"
	"url=\"4F@yahoo.com\"" END,
	PARTS "Content-Type: application/pdf; name=booking.com.pdf" END,
	PARTS "Content-Type: application/json; name=conf.json" END,
	FILE_PART(CTE ": utf-8\r\n", "Text in no encoding = 7bit.\r\n"),
	FILE_PART(CTE ": quoted-printable\r\n", "100% = all =zz\r\n"),
	FILE_PART("", "TVlDSVRZSVNIRVJFQU5EVEhJU0lTVEVYVA==\r\n"),
	"Subject: x\r\n\r\n-----BEGIN CERTIFICATE-----\r\nMIIBszCCAVmgAwIBAgI"
	"UQ2l0eQ0KY2VydGlmaWNhdGUwCgYIKoZI\r\n-----END CERTIFICATE-----\r\n",
};

#define EACH(i, list)	for (i = 0; i < sizeof list / sizeof list[0]; i++)

static void
stock_rules(const char *type)
{
	size_t i;

	open_stock(type, "");
	EACH(i, evasions)
		if (!refused(view_of(evasions[i])))
			fail_msg("%s: gets past:\n%s", type, evasions[i]);
	EACH(i, innocent)
		if (refused(view_of(innocent[i])))
			fail_msg("%s: refused:\n%s", type, innocent[i]);
	close_stock();
}

static void
with_defaults(void **state)
{
	size_t i, past = 0;

	(void)state;
	/* `postern init`, and a rule for the test file */
	open_stock("regexp", "mime_ambiguity = reject\n"
	    "mime_ambiguity_checks = tnef reject, uuencode reject, "
	    "yenc reject\n"
	    "decoded_body_checks = pcre:{ {/EICAR-STANDARD-ANTIVIRUS/ "
	    "REJECT} }\n");
	EACH(i, readings)
		if (!refused(view_of(readings[i]))) {
			print_error("gets past:\n%s\n", readings[i]);
			past++;
		}
	EACH(i, evasions)
		if (!refused(view_of(evasions[i]))) {
			print_error("gets past:\n%s\n", evasions[i]);
			past++;
		}
	assert_int_equal(past, 0);
	EACH(i, innocent)
		if (refused(view_of(innocent[i])) !=
		    (strstr(innocent[i], "begin 644") != NULL))
			fail_msg("innocent:\n%s", innocent[i]);
	close_stock();
}

/* What `postern init` writes, with the rules for attachments. */
static void
with_attachments(void **state)
{
	size_t i, past = 0;

	(void)state;
	open_stock("pcre", "mime_ambiguity = reject\n"
	    "mime_ambiguity_checks = tnef reject, uuencode reject, "
	    "yenc reject\nattachment_checks = pcre:attachment_checks\n");
	EACH(i, programs)
		if (!refused(view_of(programs[i]))) {
			print_error("gets past:\n%s\n", programs[i]);
			past++;
		}
	assert_int_equal(past, 0);
	EACH(i, spoken_of)
		if (refused(view_of(spoken_of[i])))
			fail_msg("refused:\n%s", spoken_of[i]);
	close_stock();
}

static void
with_pcre(void **state)
{
	(void)state;
	stock_rules("pcre");
}

static void
with_regexp(void **state)
{
	(void)state;
	stock_rules("regexp");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_defaults),
		cmocka_unit_test(with_attachments),
		cmocka_unit_test(with_pcre),
		cmocka_unit_test(with_regexp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
