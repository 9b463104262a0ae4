/* The way of probes, where it is not that of mail. */
#include "rules/route.h"

bool
router_conf_probes(const struct conf *cf, struct conf *ret)
{
	const struct {
		const char *probes, **mail;
	} ways[] = {
		{ cf->address_verify_local_transport, &ret->local_transport },
		{ cf->address_verify_relay_transport, &ret->relay_transport },
		{ cf->address_verify_virtual_transport,
		    &ret->virtual_transport },
		{ cf->address_verify_default_transport,
		    &ret->default_transport },
		{ cf->address_verify_relayhost, &ret->relayhost },
		{ cf->address_verify_sender_dependent_relayhost_maps,
		    &ret->sender_dependent_relayhost_maps },
		{ cf->address_verify_sender_dependent_default_transport_maps,
		    &ret->sender_dependent_default_transport_maps },
		{ cf->address_verify_transport_maps, &ret->transport_maps },
	};
	bool differ = false;
	size_t i;

	*ret = *cf;
	for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		differ |= strcmp(*ways[i].mail, ways[i].probes) != 0;
		*ways[i].mail = ways[i].probes;
	}
	return differ;
}
