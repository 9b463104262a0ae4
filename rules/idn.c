#include <ctype.h>
#include <idn2.h>

#include "rules/idn.h"

#define NAME_MAX_UTF8	1020u	/* 255 characters of four bytes */

bool
idn_is_ascii(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] > 127)
			return false;
	return true;
}

bool
idn_to_ascii(struct view name, char *ret, size_t size)
{
	char utf8[NAME_MAX_UTF8 + 1];
	uint8_t *ascii = NULL;
	size_t i, n;

	if (name.n == 0 || name.n > NAME_MAX_UTF8 ||
	    memchr(name.p, '\0', name.n) != NULL)
		return false;
	memcpy(utf8, name.p, name.n);
	utf8[name.n] = '\0';
	if (idn_is_ascii(name)) {
		n = name.n;
	} else {
		if (idn2_lookup_u8((const uint8_t *)utf8, &ascii,
		    IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
			return false;
		n = strlen((char *)ascii);
	}
	if (n < size) {
		for (i = 0; i < n; i++)
			ret[i] = (char)tolower(ascii != NULL ? ascii[i] :
			    (unsigned char)utf8[i]);
		ret[n] = '\0';
	}
	idn2_free(ascii);
	return n < size;
}
