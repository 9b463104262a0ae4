#include "lib/sasl.h"

bool
sasl_mechanism_good(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((v.p[i] < 'A' || v.p[i] > 'Z') &&
		    (v.p[i] < '0' || v.p[i] > '9') && v.p[i] != '-' &&
		    v.p[i] != '_')
			return false;
	return v.n > 0 && v.n <= SASL_MECHANISM_MAX;
}

static bool
is_base64(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || c == '+' || c == '/';
}

bool
sasl_base64_good(struct view v)
{
	size_t n = v.n;

	if (n % 4 != 0)
		return false;
	if (n > 0 && v.p[n - 1] == '=')
		n -= v.p[n - 2] == '=' ? 2 : 1;
	while (n > 0)
		if (!is_base64(v.p[--n]))
			return false;
	return true;
}

bool
sasl_login_good(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f)
			return false;
	return v.n > 0 && v.n <= SASL_LOGIN_MAX;
}

bool
sasl_permitted(uint32_t options, uint32_t properties)
{
	static const struct {
		uint32_t option, property;
		bool needed;
	} rules[] = {
		{ SASL_NO_PLAINTEXT, SASL_PLAINTEXT, false },
		{ SASL_NO_ACTIVE, SASL_ACTIVE, false },
		{ SASL_NO_DICTIONARY, SASL_DICTIONARY, false },
		{ SASL_NO_ANONYMOUS, SASL_ANONYMOUS, false },
		{ SASL_NEED_FORWARD_SECRECY, SASL_FORWARD_SECRECY, true },
		{ SASL_NEED_MUTUAL, SASL_MUTUAL, true },
	};
	size_t i;

	if ((properties & SASL_PRIVATE) != 0)
		return false;
	for (i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if ((options & rules[i].option) != 0 &&
		    ((properties & rules[i].property) != 0) !=
		    rules[i].needed)
			return false;
	return true;
}
