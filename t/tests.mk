# Tests, checks, the demo and installation; included by the Makefile.
#
# A test or fuzz target may name what it needs beyond rules.a and lib.a in its
# first line, which is a comment: "link: proxy/smtp_x.c filters".  A .c file
# adds that object; the word filters adds all of filters/ but its main().

FILTERS_A = $(BUILD)/filters.a
$(FILTERS_A): $(call OBJ,$(filter-out filters/filter_main.c filters/postmap% \
	filters/pmilter% filters/postern_milter% filters/policy%,\
	$(wildcard filters/*.c)))
	$(Q)rm -f $@ && ar rcs $@ $^

UNIT_SRC = $(wildcard t/unit/test_*.c)
FUZZ_SRC = $(wildcard t/fuzz/fuzz_*.c)
UNITS = $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZERS = $(FUZZ_SRC:%.c=$(BUILD)/%)
JAILED = $(filter-out master,$(ROLES)) $(PMILTER) lookup-tcp $(AUTHS:%=auth-%)
FORBIDDEN = $(JAILED:%=$(BUILD)/t/jail/forbidden-%)
DEMO_SINK = $(BUILD)/contrib/smtp-sink-demo
TEST_LIBS = -Wl,--as-needed -lcmocka -lunbound -lcares -lresolv -lxxhash -larchive \
	-lmagic -lz -lssl -lcrypto $(RULES_LIBS) $(LIBS)

# "t/unit/test_x.c|proxy/y.c" for each word of each link comment
LINKED := $(shell awk 'FNR == 1 && $$1 == "/*" && $$2 == "link:" { \
	for (i = 3; i <= NF && $$i != "*/"; i++) print FILENAME "|" $$i }' \
	$(UNIT_SRC) $(FUZZ_SRC) /dev/null)
linked = $(patsubst $(1)|%,%,$(filter $(1)|%,$(LINKED)))

# A test: its source, other objects (replay.o unless libFuzzer has main)
define test_program
$(BUILD)/$(1:.c=): $(call OBJ,$(1) $(filter %.c,$(call linked,$(1))) $(2)) \
	$(if $(filter filters,$(call linked,$(1))),$(FILTERS_A)) \
	$(RULES_A) $(LIB_A)
	@mkdir -p $$(@D)
	$(if $(V),,@echo "  LD  $$@")
	$(Q)$(CC) $(ALL_LDFLAGS) $(3) -o $$@ $$(filter %.o,$$^) \
		$$(filter %.a,$$^) $(TEST_LIBS)
endef
$(foreach s,$(UNIT_SRC),$(eval $(call test_program,$(s))))
$(foreach s,$(FUZZ_SRC),$(eval $(call test_program,$(s),\
	$(if $(LIBFUZZER),,t/fuzz/replay.c),\
	$(if $(LIBFUZZER),-fsanitize=fuzzer))))

# Each role with another skeleton, which tries what the role must not do
define forbidden_program
$(BUILD)/t/jail/forbidden-$(1): \
	$(call OBJ,t/jail/forbidden.c $($(1)_SRC)) $(RULES_A) $(LIB_A)
	$(if $(V),,@echo "  LD  $$@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) $(RULES_A) $(LIB_A) \
		$($(1)_LIBS) $(RULES_LIBS) $(LIBS)
endef
$(foreach r,$(JAILED),$(eval $(call forbidden_program,$(r))))

$(DEMO_SINK): $(BUILD)/contrib/sink.o
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< -levent_core

# Tables' engines without their role, for tests of the engine itself
ENGINES = $(filter ldap mysql pgsql sqlite,$(TABLES))
ENGINE_QUERY = $(ENGINES:%=$(BUILD)/t/tools/query-%)
define engine_query
$(BUILD)/t/tools/query-$(1): $(call OBJ,t/tools/engine_query.c \
	proxy/engine_conf.c proxy/engine_format.c $(filter \
	proxy/engine_$(1)% proxy/engine_sql.c,$(lookup-$(1)_SRC))) $(LIB_A)
	@mkdir -p $$(@D)
	$(if $(V),,@echo "  LD  $$@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) $(LIB_A) \
		$(lookup-$(1)_LIBS) $(LIBS)
endef
$(foreach e,$(ENGINES),$(eval $(call engine_query,$(e))))

# Fills a spool with queue files for tests and measurements
SPOOLGEN = $(BUILD)/t/tools/spoolgen
$(SPOOLGEN): $(call OBJ,t/tools/spoolgen.c queue/spool.c) $(LIB_A)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIB_A) -lxxhash \
		$(LIBS)

# Measures what rules cost
POLICYBENCH = $(BUILD)/t/tools/policybench
$(POLICYBENCH): $(call OBJ,t/tools/policybench.c) $(RULES_A) $(LIB_A)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(RULES_A) $(LIB_A) \
		$(RULES_LIBS) $(LIBS)

# An SMTP server with SCRAM and channel binding
SCRAMD = $(if $(call there,libsasl2),$(BUILD)/t/tools/scramd)
$(BUILD)/t/tools/scramd: $(call OBJ,t/tools/scramd.c)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lsasl2 -lssl -lcrypto

# The leaves of a message, for comparison
LEAFCAT = $(BUILD)/t/tools/leafcat
$(LEAFCAT): $(call OBJ,t/tools/leafcat.c) $(FILTERS_A) $(RULES_A) $(LIB_A)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(RULES_LIBS) $(LIBS)

# Measures what body rules cost
RULEBENCH = $(BUILD)/t/tools/rulebench
$(RULEBENCH): $(call OBJ,t/tools/rulebench.c) $(FILTERS_A) $(RULES_A) $(LIB_A)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(FILTERS_A) \
		$(RULES_A) $(LIB_A) $(filter_LIBS) $(RULES_LIBS) $(LIBS)

# Shows what the filter sees in a file
SCANSHOW = $(BUILD)/t/tools/scanshow
$(SCANSHOW): $(call OBJ,t/tools/scanshow.c) $(FILTERS_A) $(RULES_A) $(LIB_A)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(FILTERS_A) \
		$(RULES_A) $(LIB_A) $(filter_LIBS) $(RULES_LIBS) $(LIBS)

# Preloaded into a role, it makes system calls fail
FAULTS = $(BUILD)/t/fault/fault.so
$(FAULTS): t/fault/fault.c
	@mkdir -p $(@D)
	@echo "  LD  $@"
	$(Q)$(CC) -std=c17 -O1 -g -Wall -Wextra -fPIC -shared -o $@ $< -ldl

units: $(UNITS)
fuzzers: $(FUZZERS)
tools: $(FORBIDDEN) $(DEMO_SINK) $(SPOOLGEN) $(POLICYBENCH) $(FAULTS) \
	$(ENGINE_QUERY) $(LEAFCAT) $(RULEBENCH) $(SCANSHOW) $(SCRAMD)

# `make check` tests every build; with SAN=1 or CC=clang only that one.
# `make check-long REST=1 [SECONDS_MAX=3000]`: what `make check` leaves out,
# as far as there is time.  AGAIN=3: see --again in t/check.
ONE_BUILD = $(if $(SAN)$(filter-out gcc,$(CC)),--build "CC=$(CC) SAN=$(SAN)")
CHECK_AGAIN = $(if $(AGAIN),--again $(AGAIN))
check:
	@t/deps check
	@MAKEFLAGS= python3 t/check $(CHECK_AGAIN) $(ONE_BUILD)
check-long:
	@t/deps check-long
	@MAKEFLAGS= python3 t/check --long $(if $(REST),--rest) \
		$(if $(SECONDS_MAX),--seconds $(SECONDS_MAX)) \
		$(CHECK_AGAIN) $(ONE_BUILD)
lint:
	@python3 t/lint

# clang-tidy, again only for what was compiled again.  SHALLOW=1: its analyzer
# follows calls less far, which takes a fifth of the time.
TIDY_OK = $(BUILD)/tidy$(if $(SHALLOW),-shallow)
TIDY_FLAGS = $(if $(SHALLOW),$(patsubst %,--extra-arg=%,-Xclang \
	-analyzer-config -Xclang mode=shallow))
TIDY_SRC = $(wildcard lib/*.c rules/*.c filters/*.c queue/*.c proxy/*.c) \
	contrib/sink.c
$(TIDY_OK)/%.ok: %.c $(BUILD)/%.o .clang-tidy
	@mkdir -p $(@D)
	@echo "  TIDY  $<"
	$(Q)clang-tidy --quiet $(TIDY_FLAGS) $< -- $(filter-out -W%,$(ALL_CFLAGS)) -Wall \
		2>$@.err || { cat $@.err; exit 1; }
	@rm -f $@.err; touch $@
tidy: $(TIDY_SRC:%.c=$(TIDY_OK)/%.ok)

# make fuzz [FUZZ="smtp_command mime"] [FUZZ_TIME=60]: libFuzzer, finds go to
# build/fuzz/found/
FUZZ = $(patsubst t/fuzz/fuzz_%.c,%,$(FUZZ_SRC))
FUZZ_TIME = 60
FUZZ_MAKE = $(MAKE) CC=clang SAN=1 BUILD=build/fuzz LIBFUZZER=1 \
	CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link"
fuzz-build:
	@$(FUZZ_MAKE) $(FUZZ:%=build/fuzz/t/fuzz/fuzz_%)
fuzz:
	@t/deps check
	@$(MAKE) --no-print-directory fuzz-build
	@set -e; for f in $(FUZZ); do \
		echo "== $$f, $(FUZZ_TIME) s"; \
		mkdir -p build/fuzz/corpus/$$f build/fuzz/found; \
		build/fuzz/t/fuzz/fuzz_$$f -max_total_time=$(FUZZ_TIME) \
			-timeout=10 -max_len=65536 -print_final_stats=1 \
			-artifact_prefix=build/fuzz/found/$$f- \
			build/fuzz/corpus/$$f t/fuzz/corpus/$$f 2>&1 | \
			tee build/fuzz/$$f.log | grep -E 'stat::|ERROR|Test unit' \
			|| { tail -40 build/fuzz/$$f.log; exit 1; }; \
		! grep -q 'Test unit written' build/fuzz/$$f.log; \
	done

# Lines of the tree that unit tests and fuzz inputs reach
cover:
	@t/deps check
	@$(MAKE) BUILD=build/cover CFLAGS="-O0 -g --coverage" \
		LDFLAGS=--coverage units fuzzers
	@python3 t/cover build/cover

demo:
	@t/deps demo
	@$(MAKE) --no-print-directory all $(DEMO_SINK)
	@python3 contrib/demo

# make install [DESTDIR=] [PREFIX=/usr] [WITH_POSTFIX_NAMES=1]
#	[WITH_SETGID=postdrop]
#
# WITH_SETGID makes postdrop set-gid to that group; without it `postern
# maildrop --mode 1730` does so later.
#
# Commands that bear Postfix's names stay in libexec/postern/bin, and their
# manual pages get a prefix, so that another MTA's are not overwritten.
DAEMONS = $(DESTDIR)$(PREFIX)/libexec/postern
SBIN = $(DESTDIR)$(PREFIX)/sbin
SHARE = $(DESTDIR)$(PREFIX)/share
POSTFIX_NAMES = $(filter-out postern,$(COMMANDS))
# The programs behind ldap:, redis: and so on: what a plain gateway has not.
install-tables: all
	install -d $(DAEMONS)
	install -m 755 $(TABLES:%=$(BUILD)/libexec/lookup-%) $(DAEMONS)
.PHONY: install-tables
install: all
	install -d $(DAEMONS)/bin $(SBIN) $(SHARE)/postern/stock
	install -m 755 $(ROLES:%=$(BUILD)/libexec/%) $(BUILD)/libexec/refresh \
		$(PMILTER:%=$(BUILD)/libexec/%) \
		$(AUTHS:%=$(BUILD)/libexec/auth-%) $(DAEMONS)
	install -m 755 $(BUILD)/bin/postern $(PMILTER_COMMAND:%=$(BUILD)/bin/%) \
		$(SBIN)
	install -m 755 $(POSTFIX_NAMES:%=$(BUILD)/bin/%) $(DAEMONS)/bin
	install -m 755 contrib/install/postern-install $(DAEMONS)/install
	install -d $(SHARE)/postern/boot
	install -m 644 contrib/boot/postern.service contrib/boot/postern.rc \
		$(SHARE)/postern/boot
	for n in $(SENDMAIL_NAMES); do ln -sf sendmail $(DAEMONS)/bin/$$n; done
	$(if $(WITH_SETGID),chgrp $(WITH_SETGID) $(DAEMONS)/bin/postdrop && \
		chmod 2755 $(DAEMONS)/bin/postdrop)
	$(if $(WITH_POSTFIX_NAMES),cd $(SBIN) && \
		for c in $(POSTFIX_NAMES) $(SENDMAIL_NAMES); do \
			ln -sf ../libexec/postern/bin/$$c $$c; done)
	for f in $(wildcard rules/stock/*); do \
		install -m 644 $$f $(SHARE)/postern/stock; done
	for f in $(wildcard man/*.[1-8]); do \
		n=$${f#man/}; d=$(SHARE)/man/man$${n##*.}; install -d $$d; \
		case "$(WITH_POSTFIX_NAMES)$$n" in \
		postern*|1*) ;; *) n=postern-$$n ;; esac; \
		install -m 644 $$f $$d/$$n; done

.PHONY: units fuzzers tools
