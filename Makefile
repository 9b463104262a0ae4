# Postern.  `make` builds into build/; see README.md.
#   make [CC=clang] [SAN=1] [V=1]    build; SAN=1: address and undefined
#   make check check-long demo install tidy fuzz cover clean

CC = gcc
PREFIX = /usr
SAN =
BUILD = build$(if $(findstring clang,$(CC)),/clang)$(if $(SAN),/san)
PACKAGES = libevent lmdb libpcre2-8 libseccomp libcap libxxhash libunbound \
	libcares libidn2 libarchive libmagic zlib openssl
# Vectorscan, or Hyperscan, which has the same interface; HS= builds without.
HS = $(shell pkg-config --exists libhs && echo libhs)
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wcast-qual -Wvla -Wswitch-enum -Wimplicit-fallthrough -Wpointer-arith \
	-Wwrite-strings -Wformat=2 -Werror
comma = ,
SANFLAGS = $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all)
OPT = $(if $(SAN),-O1 -fno-omit-frame-pointer,-O2 -D_FORTIFY_SOURCE=2)
CFLAGS = $(OPT) -g
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -I. -I$(BUILD) $(WARN) $(CFLAGS) \
	$(SANFLAGS) -fstack-protector-strong -fPIE -pthread \
	$(shell pkg-config --cflags $(PACKAGES)) $(if $(HS),-DHAVE_HS)
ALL_LDFLAGS = $(LDFLAGS) $(SANFLAGS) -pie -Wl,-z,relro,-z,now -pthread
Q = $(if $(V),,@)

# A program: its sources, its layers' archives (its privileges follow), its
# libraries.
ROLES = master gate smtpd lookup filter milter qmgr relay bounce pickup showq \
	local sts credentials tlsrpt
COMMANDS = postern postconf sendmail postdrop postqueue postsuper postcat \
	postmap postalias
master_SRC = $(wildcard proxy/master*.c) proxy/credentials_token.c
# What master runs besides roles
refresh_SRC = proxy/refresh_main.c proxy/credentials_token.c
gate_SRC = $(wildcard proxy/gate*.c)
smtpd_SRC = $(wildcard proxy/smtpd*.c)
lookup_SRC = $(wildcard proxy/lookup*.c)
relay_SRC = $(wildcard proxy/relay*.c)
sts_SRC = $(wildcard proxy/sts*.c)
credentials_SRC = $(wildcard proxy/credentials*.c)
tlsrpt_SRC = $(wildcard proxy/tlsrpt*.c) proxy/sts_dns.c proxy/sts_fetch.c
filter_SRC = $(filter-out filters/postmap% filters/milter% filters/pmilter% \
	filters/postern_milter% filters/policy%,$(wildcard filters/*.c))
milter_SRC = $(wildcard filters/milter*.c) filters/findings.c
# The filter for another mail server: built when libmilter is there.
PMILTER = $(if $(wildcard /usr/include/libmilter/mfapi.h),pmilter policy)
PMILTER_COMMAND = $(if $(PMILTER),postern-milter)
pmilter_SRC = $(wildcard filters/pmilter*.c)
policy_SRC = filters/policy_main.c
postern-milter_SRC = $(wildcard filters/postern_milter*.c) \
	filters/pmilter_start.c
pmilter_LIBS = -lmilter
qmgr_SRC = $(wildcard queue/qmgr*.c queue/sched*.c queue/spool*.c \
	queue/verify*.c) queue/history.c queue/maildrop.c queue/queue_entry.c
bounce_SRC = $(wildcard queue/bounce*.c)
pickup_SRC = $(wildcard queue/pickup*.c) queue/maildrop.c
local_SRC = $(wildcard queue/local*.c) queue/mbox.c queue/maildir.c
showq_SRC = $(wildcard queue/showq*.c queue/spool*.c queue/queue_*.c) \
	queue/history.c
QUEUE_CLIENT = $(wildcard queue/queue_*.c queue/spool*.c) queue/history.c
postqueue_SRC = $(wildcard queue/postqueue*.c) $(QUEUE_CLIENT)
postsuper_SRC = $(wildcard queue/postsuper*.c) $(QUEUE_CLIENT)
postcat_SRC = $(wildcard queue/postcat*.c) $(QUEUE_CLIENT)
# master and postern read the configuration with the same code.
CHECKED = auth config listen plan report setup tables
postern_SRC = $(wildcard proxy/postern*.c proxy/import*.c) \
	$(CHECKED:%=proxy/master_%.c) \
	proxy/relay_checks.c proxy/relay_source.c proxy/smtpd_tls_context.c \
	proxy/relay_tls_context.c proxy/relay_tls_settings.c
postconf_SRC = $(wildcard proxy/postconf*.c)
SUBMIT = queue/submit.c queue/maildrop.c queue/maildrop_file.c
postdrop_SRC = queue/postdrop.c $(SUBMIT)
sendmail_SRC = $(wildcard queue/sendmail*.c) $(SUBMIT)
# Names by which sendmail is called too
SENDMAIL_NAMES = mailq newaliases rmail
# One program, two names; -hmq walks a message as the filter does.
postmap_SRC = $(wildcard filters/postmap*.c)
postalias_SRC = $(postmap_SRC)
LIBS = -levent_core -lseccomp -lcap
# A program for each type of table behind a connection; those that need a
# client library are built when it is there.
TABLES = tcp socketmap memcache
TABLES += $(if $(shell pkg-config --exists hiredis && echo yes),redis)
TABLE_SRC = proxy/engine_main.c proxy/engine_work.c proxy/engine_conf.c \
	proxy/engine_format.c
lookup-tcp_SRC = proxy/engine_tcp.c proxy/engine_net.c proxy/engine_reply.c
lookup-socketmap_SRC = proxy/engine_socketmap.c proxy/engine_net.c \
	proxy/engine_reply.c
lookup-memcache_SRC = proxy/engine_memcache.c proxy/engine_net.c \
	proxy/engine_reply.c
lookup-redis_SRC = proxy/engine_redis.c proxy/engine_net.c
lookup-redis_LIBS = -lhiredis
# What is made of one source: flags of its own are for all of it.
all_of = $(BUILD)/$(1).o $(BUILD)/tidy/$(1).ok $(BUILD)/tidy-shallow/$(1).ok
# Tables behind a client library that may be missing: not built then.
there = $(shell pkg-config --exists $(1) && echo yes)
TABLES += $(if $(call there,ldap libsasl2),ldap)
lookup-ldap_SRC = $(wildcard proxy/engine_ldap*.c)
lookup-ldap_LIBS = -lldap -llber -lsasl2
TABLES += $(if $(call there,libmariadb),mysql)
lookup-mysql_SRC = proxy/engine_mysql.c proxy/engine_sql.c
lookup-mysql_LIBS = $(shell pkg-config --libs libmariadb 2>/dev/null)
$(call all_of,proxy/engine_mysql): ALL_CFLAGS += \
	$(shell pkg-config --cflags libmariadb 2>/dev/null)
TABLES += $(if $(call there,libpq),pgsql)
lookup-pgsql_SRC = proxy/engine_pgsql.c proxy/engine_sql.c
lookup-pgsql_LIBS = -lpq
$(call all_of,proxy/engine_pgsql): ALL_CFLAGS += \
	$(shell pkg-config --cflags libpq 2>/dev/null)
TABLES += $(if $(call there,sqlite3),sqlite)
lookup-sqlite_SRC = proxy/engine_sqlite.c proxy/engine_sql.c
lookup-sqlite_LIBS = -lsqlite3
# A program for each kind of authentication server
AUTHS = dovecot $(if $(call there,libsasl2),cyrus)
AUTH_SRC = proxy/auth_main.c
auth-cyrus_SRC = proxy/auth_cyrus.c
auth-cyrus_LIBS = -lsasl2
auth-dovecot_SRC = proxy/auth_dovecot.c proxy/auth_dovecot_wire.c
# OpenSSL: what faces clients, and what checks that it can.
smtpd_LIBS = -lssl -lcrypto
relay_LIBS = -lssl -lcrypto
postern_LIBS = -lssl -lcrypto
lookup_LIBS = -lunbound -lcares -lresolv
# HTTPS
sts_LIBS = -levent_extra -levent_openssl -lssl -lcrypto
tlsrpt_LIBS = $(sts_LIBS) -lz
filter_LIBS = -larchive -lmagic -lz
qmgr_LIBS = -lxxhash
pickup_LIBS = -lxxhash
postdrop_LIBS = -lxxhash
sendmail_LIBS = -lxxhash
showq_LIBS = -lxxhash
postqueue_LIBS = -lxxhash
postsuper_LIBS = -lxxhash
postcat_LIBS = -lxxhash
# What a program does not use of these it is not linked with.
RULES_LIBS = -lpcre2-8 -llmdb -lidn2 -Wl,--as-needed $(if $(HS),-lhs) \
	-lxxhash -Wl,--no-as-needed
$(call all_of,rules/literal_database): ALL_CFLAGS += \
	$(if $(HS),$(shell pkg-config --cflags $(HS)))

OBJ = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_A = $(BUILD)/lib.a
RULES_A = $(BUILD)/rules.a
PROGRAMS = $(ROLES:%=$(BUILD)/libexec/%) $(PMILTER:%=$(BUILD)/libexec/%) \
	$(BUILD)/libexec/refresh $(PMILTER_COMMAND:%=$(BUILD)/bin/%) \
	$(TABLES:%=$(BUILD)/libexec/lookup-%) $(AUTHS:%=$(BUILD)/libexec/auth-%) \
	$(COMMANDS:%=$(BUILD)/bin/%)

all: $(PROGRAMS) $(SENDMAIL_NAMES:%=$(BUILD)/bin/%)

# Before a compiler complains of a header
$(BUILD)/packages.ok: Makefile
	@mkdir -p $(@D)
	@pkg-config --print-errors --exists $(PACKAGES) || { \
		echo "libraries are missing, see above; on Debian, t/deps build" \
			"installs them" >&2; exit 1; }
	@touch $@

$(BUILD)/%.o: %.c | $(BUILD)/packages.ok
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC  $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(LIB_A): $(call OBJ,$(wildcard lib/*.c))
$(RULES_A): $(call OBJ,$(wildcard rules/*.c))
$(LIB_A) $(RULES_A):
	$(Q)rm -f $@ && ar rcs $@ $^

define program
$(2): $(call OBJ,$($(1)_SRC)) $(RULES_A) $(LIB_A)
	@mkdir -p $$(@D)
	$(if $(V),,@echo "  LD  $$@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) $(RULES_A) $(LIB_A) \
		$($(1)_LIBS) $(RULES_LIBS) $(LIBS)
endef
$(foreach p,$(ROLES) $(PMILTER),$(eval $(call program,$(p),$(BUILD)/libexec/$(p))))
$(eval $(call program,refresh,$(BUILD)/libexec/refresh))
$(foreach p,$(COMMANDS) $(PMILTER_COMMAND),$(eval $(call program,$(p),$(BUILD)/bin/$(p))))
$(foreach t,$(TABLES),$(eval lookup-$(t)_SRC += $(TABLE_SRC)))
$(foreach t,$(TABLES),$(eval $(call program,lookup-$(t),\
	$(BUILD)/libexec/lookup-$(t))))

$(foreach t,$(AUTHS),$(eval auth-$(t)_SRC += $(AUTH_SRC)))
$(foreach t,$(AUTHS),$(eval $(call program,auth-$(t),$(BUILD)/libexec/auth-$(t))))

$(SENDMAIL_NAMES:%=$(BUILD)/bin/%): $(BUILD)/bin/sendmail
	$(Q)ln -sf sendmail $@

-include t/tests.mk

clean:
	rm -rf build

.PHONY: all clean check check-long demo install tidy fuzz fuzz-build cover lint
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
