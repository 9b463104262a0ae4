#include <magic.h>
#include <stdio.h>
#include <stdlib.h>

#include "filters/file_kind.h"
#include "lib/mem.h"

#define ANY_DISK	(GROUP_ARCHIVE | GROUP_DISK)

struct signature {
	size_t at, n;
	const char *bytes;
	const char *name;
	unsigned groups;
};

#define SIG(at, bytes, name, groups)					\
	{ at, sizeof bytes - 1, bytes, name, groups }

static const struct signature signatures[] = {
	SIG(0, "\177ELF", "elf", GROUP_EXECUTABLE),
	SIG(0, "\xfe\xed\xfa\xce", "mach-o", GROUP_EXECUTABLE),
	SIG(0, "\xfe\xed\xfa\xcf", "mach-o", GROUP_EXECUTABLE),
	SIG(0, "\xce\xfa\xed\xfe", "mach-o", GROUP_EXECUTABLE),
	SIG(0, "\xcf\xfa\xed\xfe", "mach-o", GROUP_EXECUTABLE),
	SIG(0, "\xca\xfe\xba\xbe", "java-class", GROUP_EXECUTABLE),
	SIG(0, "\xca\xfe\xba\xbf", "mach-o", GROUP_EXECUTABLE),
	SIG(0, "xar!\0\x1c", "xar", GROUP_EXECUTABLE),
	SIG(0, "dex\n03", "dex", GROUP_EXECUTABLE),
	SIG(0, "\0asm\1\0\0\0", "wasm", GROUP_EXECUTABLE),
	SIG(0, "PK\3\4", "zip", GROUP_ZIP),
	SIG(0, "PK\5\6", "zip", GROUP_ZIP),
	SIG(0, "PK\7\10", "zip", GROUP_ZIP),
	SIG(0, "PK00PK\3\4", "zip", GROUP_ZIP),
	SIG(0, "Rar!\x1a\x07", "rar", GROUP_ARCHIVE),
	SIG(0, "7z\xbc\xaf\x27\x1c", "7z", GROUP_ARCHIVE),
	SIG(0, "\x1f\x8b", "gzip", GROUP_ARCHIVE),
	SIG(0, "\x1f\x9d", "compress", GROUP_ARCHIVE),
	SIG(0, "BZh", "bzip2", GROUP_ARCHIVE),
	SIG(0, "\xfd" "7zXZ\0", "xz", GROUP_ARCHIVE),
	SIG(0, "LZIP\1", "lzip", GROUP_ARCHIVE),
	SIG(0, "\x28\xb5\x2f\xfd", "zstd", GROUP_ARCHIVE),
	SIG(0, "\x04\x22\x4d\x18", "lz4", GROUP_ARCHIVE),
	SIG(0, "MSCF\0\0\0\0", "cab", GROUP_ARCHIVE),
	SIG(0, "!<arch>\n", "ar", GROUP_ARCHIVE),
	SIG(257, "ustar", "tar", GROUP_ARCHIVE),
	SIG(0, "070701", "cpio", GROUP_ARCHIVE),
	SIG(0, "070702", "cpio", GROUP_ARCHIVE),
	SIG(0, "070707", "cpio", GROUP_ARCHIVE),
	SIG(0, "**ACE**", "ace", GROUP_OTHER),
	SIG(7, "**ACE**", "ace", GROUP_OTHER),
	SIG(0, "MSWIM\0\0\0", "wim", GROUP_DISK),
	SIG(0, "vhdxfile", "vhdx", GROUP_DISK),
	SIG(0, "conectix", "vhd", GROUP_DISK),
	SIG(0, "KDMV", "vmdk", GROUP_DISK),
	SIG(0, "QFI\xfb", "qcow", GROUP_DISK),
	SIG(512, "EFI PART", "disk", GROUP_DISK),
	SIG(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole", GROUP_OLE),
	SIG(0, "L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", "lnk",
	    GROUP_SHORTCUT),
	SIG(0, "ITSF", "chm", GROUP_EXECUTABLE),
	SIG(0, "?_\3\0", "hlp", GROUP_EXECUTABLE),
	SIG(0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29"
	    "\x96\xd3", "onenote", GROUP_DOCUMENT | GROUP_NOTEBOOK),
	SIG(0, "\x0e\x11\xfc\x0d\xd0\xcf\x11\xe0", "ole", GROUP_OLE),
	SIG(0, "ActiveMime", "activemime", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "\x09\0\4\0", "biff", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "\x09\2\6\0", "biff", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "\x09\4\6\0", "biff", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "\x09\x08\x08\0\0\5", "biff", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "\x09\x08\x10\0\0\6", "biff", GROUP_DOCUMENT | GROUP_WORDS),
	SIG(0, "{\\rt", "rtf", GROUP_RTF | GROUP_DOCUMENT),
	SIG(0, "#!", "script", GROUP_SCRIPT | GROUP_TEXT),
	SIG(0, "#@~^", "encoded-script", GROUP_SCRIPT),
	SIG(0, "\x89PNG\r\n", "png", GROUP_DOCUMENT),
	SIG(0, "\xff\xd8\xff", "jpeg", GROUP_DOCUMENT),
	SIG(0, "GIF8", "gif", GROUP_DOCUMENT),
	SIG(0, "ID3", "mp3", GROUP_DOCUMENT),
	SIG(0, "BEGIN:VCALENDAR", "calendar", GROUP_DOCUMENT | GROUP_TEXT),
};

static bool
at(struct view v, size_t where, const char *bytes, size_t n)
{
	return v.n >= where + n && memcmp(v.p + where, bytes, n) == 0;
}

static uint32_t
le32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 |
	    (uint32_t)u[3] << 24;
}

/*
 * "MZ" is also how a letter may begin.  A program says where its new header
 * is, or has the sizes that DOS needs.
 */
static bool
is_mz(struct view v)
{
	uint32_t new;

	if (v.n < 2 || (memcmp(v.p, "MZ", 2) != 0 && memcmp(v.p, "ZM", 2) != 0))
		return false;
	if (v.n >= 64) {
		new = le32(v.p + 60);
		if (new < v.n - 2 && (memcmp(v.p + new, "PE", 2) == 0 ||
		    memcmp(v.p + new, "NE", 2) == 0 ||
		    memcmp(v.p + new, "LE", 2) == 0))
			return true;
	}
	/* Text has no zero bytes so early. */
	return v.n >= 4 && memchr(v.p, '\0', v.n < 64 ? v.n : 64) != NULL;
}

static bool
is_pdf(struct view v)
{
	/* Readers look for it in the first kilobyte. */
	return v.n > 0 &&
	    memmem(v.p, v.n < 1024 ? v.n : 1024, "%PDF-", 5) != NULL;
}

static bool
is_text(struct view v)
{
	size_t i;

	for (i = 0; i < v.n && i < 512; i++)
		if ((unsigned char)v.p[i] < ' ' && !view_space(v.p[i]) &&
		    v.p[i] != '\f' && v.p[i] != 27)
			return false;
	return true;
}

/*
 * A file of tar from before there was "ustar": where its checksum stands is
 * the sum of the others.
 */
static bool
is_tar(struct view v)
{
	uint32_t sum = 8 * ' ', said = 0;
	size_t i;

	if (v.n < 512 || v.p[0] == '\0')
		return false;
	for (i = 148; i < 156; i++)
		if (v.p[i] >= '0' && v.p[i] <= '7')
			said = said * 8 + (uint32_t)(v.p[i] - '0');
		else if (v.p[i] != ' ' && v.p[i] != '\0')
			return false;
	for (i = 0; i < 512; i++)
		sum += i < 148 || i >= 156 ? (unsigned char)v.p[i] : 0;
	return said == sum;
}

/* Its signature is of two bytes; what follows must fit. */
static bool
is_arj(struct view v)
{
	uint32_t n = v.n < 32 ? 0 : (uint32_t)((unsigned char)v.p[2] |
	    (unsigned char)v.p[3] << 8);

	return n >= 30 && n <= 2600 && at(v, 0, "\x60\xea", 2) &&
	    (unsigned char)v.p[4] >= 30 && (unsigned char)v.p[4] <= n &&
	    v.p[10] == 2;
}

/* "-lh5-" */
static bool
is_lha(struct view v)
{
	return v.n > 20 && (at(v, 2, "-lh", 3) || at(v, 2, "-lz", 3)) &&
	    v.p[6] == '-';
}

/* The first sector of a disk, with a file system that Windows mounts. */
static bool
is_boot_sector(struct view v)
{
	return at(v, 510, "\x55\xaa", 2) && (at(v, 3, "NTFS", 4) ||
	    at(v, 3, "EXFAT", 5) || at(v, 54, "FAT", 3) ||
	    at(v, 82, "FAT32", 5));
}

/* Skip a byte order mark and white space. */
static struct view
text_begin(struct view v)
{
	if (at(v, 0, "\xef\xbb\xbf", 3))
		v = view_from(v, 3);
	while (v.n > 0 && view_space(v.p[0]))
		v = view_from(v, 1);
	return v;
}

static struct file_kind
kind_of_text(struct view v)
{
	static const struct {
		const char *begin, *name;
		unsigned groups;
	} begins[] = {
		{ "<!doctype html", "html", GROUP_HTML },
		{ "<html", "html", GROUP_HTML },
		{ "<head", "html", GROUP_HTML },
		{ "<hta:", "hta", GROUP_SCRIPT },
		{ "<script", "html", GROUP_HTML },
		{ "<job", "wsf", GROUP_SCRIPT },
		{ "<package", "wsf", GROUP_SCRIPT },
		{ "@echo off", "batch", GROUP_SCRIPT },
		{ "windows registry editor", "reg", GROUP_SCRIPT },
		{ "regedit4", "reg", GROUP_SCRIPT },
		{ "[internetshortcut]", "url", GROUP_SHORTCUT },
		{ "[{000214a0-0000-0000-c000-000000000046}]", "url",
		    GROUP_SHORTCUT },
		{ "<svg", "svg", GROUP_HTML },
		{ "id;p", "sylk", GROUP_WORDS },
		{ "on error resume next", "vbs", GROUP_SCRIPT },
		{ "rem  barok -loveletter", "vbs", GROUP_SCRIPT },
	};
	struct view b = text_begin(v);
	size_t i;

	for (i = 0; i < sizeof begins / sizeof begins[0]; i++)
		if (view_starts_nocase(b, begins[i].begin))
			return (struct file_kind){ begins[i].name,
				begins[i].groups | GROUP_TEXT };
	if (!view_starts_nocase(b, "<?xml"))
		return (struct file_kind){ "text", GROUP_TEXT };
	b = view_head(b, 2048);
	if (memmem(b.p, b.n, "<svg", 4) != NULL)
		return (struct file_kind){ "svg", GROUP_HTML | GROUP_TEXT };
	if (memmem(b.p, b.n, "<html", 5) != NULL)
		return (struct file_kind){ "html", GROUP_HTML | GROUP_TEXT };
	if (memmem(b.p, b.n, "<scriptlet", 10) != NULL ||
	    memmem(b.p, b.n, "<job", 4) != NULL)
		return (struct file_kind){ "wsf", GROUP_SCRIPT | GROUP_TEXT };
	/* As Word writes it all in one; the parts of a zip are not so. */
	if (memmem(b.p, b.n, "mso-application", 15) != NULL ||
	    memmem(b.p, b.n, "word/2003/wordml", 16) != NULL ||
	    memmem(b.p, b.n, "2006/xmlPackage", 15) != NULL)
		return (struct file_kind){ "office-xml",
			GROUP_WORDS | GROUP_TEXT | GROUP_DOCUMENT };
	return (struct file_kind){ "xml", GROUP_TEXT };
}

/* Text in UTF-16, with a byte order mark or with ASCII to see it by: its
 * begin, narrowed. */
static struct view
narrow(struct view v, char *to, size_t max)
{
	size_t i, n = 0, low = at(v, 0, "\xfe\xff", 2) ? 1 : 0;

	if (v.n < 8)
		return view_make("", 0);
	if (!at(v, 0, "\xff\xfe", 2) && low == 0) {
		low = v.p[0] == '\0' ? 1 : 0;
		if (v.p[low] != '<' || v.p[1 - low] != '\0' ||
		    v.p[low + 2] == '\0' || v.p[3 - low] != '\0')
			return view_make("", 0);
	} else
		v = view_from(v, 2);
	for (i = 0; i + 1 < v.n && n < max; i += 2)
		to[n++] = v.p[i + 1 - low] == '\0' ? v.p[i + low] : '?';
	return view_make(to, n);
}

struct file_kind
file_kind_quick(struct view v)
{
	const struct signature *s;
	char text[FILE_KIND_LOOK / 2];
	struct view wide;
	size_t i;

	if (v.n == 0)
		return (struct file_kind){ "empty", GROUP_OTHER };
	/* Some take blanks and empty lines off a part's begin. */
	if (is_mz(v) || (view_space(v.p[0]) && is_mz(text_begin(v))))
		return (struct file_kind){ "exe", GROUP_EXECUTABLE };
	for (i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
		s = &signatures[i];
		if (at(v, s->at, s->bytes, s->n))
			return (struct file_kind){ s->name, s->groups };
	}
	if (is_lha(v))
		return (struct file_kind){ "lha", GROUP_ARCHIVE };
	if (is_pdf(v))
		return (struct file_kind){ "pdf", GROUP_PDF | GROUP_DOCUMENT };
	if (is_text(v))
		return kind_of_text(v);
	if (is_tar(v))
		return (struct file_kind){ "tar", GROUP_ARCHIVE };
	if (is_arj(v))
		return (struct file_kind){ "arj", GROUP_OTHER };
	if (is_boot_sector(v))
		return (struct file_kind){ "disk", GROUP_DISK };
	wide = narrow(v, text, sizeof text);
	if (wide.n > 0 && is_text(wide))
		return kind_of_text(wide);
	return (struct file_kind){ NULL, GROUP_OTHER };
}

/* -- libmagic -------------------------------------------------------------- */

struct file_magic {
	magic_t cookie;
	char name[80];
};

struct file_magic *
file_magic_open(const char **ret_error)
{
	static const int flags = MAGIC_MIME_TYPE | MAGIC_NO_CHECK_COMPRESS |
	    MAGIC_NO_CHECK_TAR | MAGIC_NO_CHECK_CDF | MAGIC_NO_CHECK_ELF |
	    MAGIC_NO_CHECK_TOKENS | MAGIC_NO_CHECK_JSON | MAGIC_NO_CHECK_CSV |
	    MAGIC_NO_CHECK_ENCODING;
	magic_t c = magic_open(flags);
	struct file_magic *m;

	if (c == NULL || magic_load(c, NULL) != 0) {
		*ret_error = "the database of libmagic cannot be read";
		if (c != NULL)
			magic_close(c);
		return NULL;
	}
	m = mem_alloc(sizeof *m);
	m->cookie = c;
	return m;
}

void
file_magic_free(struct file_magic **m)
{
	if (*m == NULL)
		return;
	magic_close((*m)->cookie);
	free(*m);
	*m = NULL;
}

static unsigned
groups_of(const char *mime)
{
	static const struct {
		const char *begin;
		unsigned groups;
	} known[] = {
		{ "application/x-dosexec", GROUP_EXECUTABLE },
		{ "application/vnd.microsoft.portable-executable",
		    GROUP_EXECUTABLE },
		{ "application/x-executable", GROUP_EXECUTABLE },
		{ "application/x-sharedlib", GROUP_EXECUTABLE },
		{ "application/x-mach-binary", GROUP_EXECUTABLE },
		{ "text/x-msdos-batch", GROUP_SCRIPT },
		{ "text/x-shellscript", GROUP_SCRIPT },
		{ "application/x-iso9660-image", ANY_DISK },
		{ "application/x-lzma", GROUP_ARCHIVE },
		{ "image/", GROUP_DOCUMENT }, { "audio/", GROUP_DOCUMENT },
		{ "video/", GROUP_DOCUMENT },
	};
	size_t i;

	for (i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strncmp(mime, known[i].begin, strlen(known[i].begin)) == 0)
			return known[i].groups;
	return GROUP_OTHER;
}

struct file_kind
file_kind(struct file_magic *m, struct view head)
{
	struct file_kind k = file_kind_quick(head);
	const char *mime;

	if (k.name != NULL)
		return k;
	mime = magic_buffer(m->cookie, head.p, head.n < FILE_KIND_LOOK ?
	    head.n : FILE_KIND_LOOK);
	(void)snprintf(m->name, sizeof m->name, "%s",
	    mime != NULL ? mime : "unknown");
	k.name = m->name;
	k.groups |= groups_of(m->name);
	return k;
}
