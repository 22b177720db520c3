# depotd - GNU make, not recursive. `make` configures itself when ./configure has not been run.
# A folder plugins/NAME/ is a plugin: its *.c become build/plugins/NAME.so, compiled against core/include alone.
# plugins/NAME/plugin.mk may set NAME_CFLAGS, NAME_LIBS and, for generated code, NAME_OBJ with the rules for it.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

srcdir := $(patsubst %/,%,$(dir $(realpath $(firstword $(MAKEFILE_LIST)))))
goals := $(or $(MAKECMDGOALS),all)
unconfigured := help deps clean distclean dist check-style
DEPS ?= yes
V ?= 0
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2);)

# --- configuration: made when missing, made again with the recorded arguments when configure or VERSION are newer or
# plugins/ got a new folder. An equal result keeps its time stamp, so nothing is rebuilt.
ifneq ($(filter-out $(unconfigured),$(goals)),)
include build/config.mk
build/config.mk build/config.h: build/config.stamp ;
build/config.stamp: $(srcdir)/configure $(srcdir)/VERSION $(wildcard $(srcdir)/plugins) $(if $(VERSION),,FORCE)
	$(if $(wildcard $@),,$(if $(filter demo check bench,$(goals)),DEPS=$(DEPS) sh $(srcdir)/tools/deps.sh build))
	$(srcdir)/configure $(CONFIGURE_ARGS)
endif

# --- flags and files
core_dirs := $(filter-out core/include core/main core/ctl,$(patsubst $(srcdir)/%/,%,$(wildcard $(srcdir)/core/*/)))
lib_cflags = $(LIBPQ_CFLAGS) $(LUA_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS) $(CURL_CFLAGS) $(SSL_CFLAGS) $(INIH_CFLAGS)
core_libs = $(LIBPQ_LIBS) $(LUA_LIBS) $(UV_LIBS) $(JANSSON_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(INIH_LIBS) \
	-ldl -lpthread -lrt -lm
std := -std=gnu11 -D_GNU_SOURCE -fvisibility=hidden
public_inc := -I$(srcdir)/core/include
core_inc = $(public_inc) -I$(srcdir)/core -Ibuild $(lib_cflags)
cflags = $(std) $(CPPFLAGS) $(CFLAGS_AUTO) $(CFLAGS)
ldflags = $(LDFLAGS_AUTO) $(LDFLAGS)
compile = $(CC) $(1) $(cflags) -MMD -MP -c -o $@ $<
link = $(CC) $(CFLAGS_AUTO) $(CFLAGS) $(ldflags) -rdynamic -o $@ $(filter %.o,$^) $(core_libs)

sources = $(sort $(wildcard $(foreach dir,$(1),$(srcdir)/$(dir)/*.c)))
objects = $(patsubst $(srcdir)/%.c,build/obj/%.o,$(call sources,$(1)))
core_obj := $(call objects,$(core_dirs))
main_obj := $(call objects,core/main)
ctl_obj := $(call objects,core/ctl)
unit_obj := $(call objects,tests/unit)
integration_obj := $(call objects,tests/integration)
unit_bin := $(unit_obj:build/obj/%.o=build/%)
integration_bin := $(integration_obj:build/obj/%.o=build/%)
helper_bin := $(patsubst build/obj/%.o,build/%,$(call objects,tests/lib))
bad_so := $(patsubst $(srcdir)/%.c,build/%.so,$(call sources,tests/plugins))
plugin_so := $(PLUGINS:%=build/plugins/%.so)
fuzz_bin := $(patsubst %.c,build/fuzz/%,$(notdir $(call sources,tests/fuzz)))
fuzz_core := $(core_obj:build/obj/%=build/fuzz/obj/%)
, := ,
programs := $(if $(main_obj),build/depotd) $(if $(ctl_obj),build/depotctl)

all: $(core_obj) $(programs) $(plugin_so) build/tree ## build the daemon, depotctl and the plugins

# Files that stand for what no time stamp shows: compiler and flags, the list of objects, the place of the source.
# They are compared each time and written only when different.
keep = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
build/flags: FORCE
	$(call keep,$(CC) $(cflags) $(ldflags) $(core_inc) $(core_libs))
build/objects: FORCE
	$(call keep,$(core_obj) $(main_obj) $(ctl_obj) $(foreach p,$(PLUGINS),$($(p)_OBJ)))
build/tree: FORCE
	$(call keep,$(srcdir))

# --- the daemon and its control program: linked from objects, as an archive would leave out what only plugins call
build/depotd: $(core_obj) $(main_obj) build/objects
	$(call say,LD,$@)$(link)
build/depotctl: $(core_obj) $(ctl_obj) build/objects
	$(call say,LD,$@)$(link)
build/obj/core/%.o: $(srcdir)/core/%.c build/flags build/config.h
	@mkdir -p $(@D)
	$(call say,CC,$@)$(call compile,$(core_inc))

# --- plugins
so = $(CC) $(CFLAGS_AUTO) $(CFLAGS) $(ldflags) -shared -o $@ $(filter %.o,$^)
define plugin_rules
$(1)_OBJ := $(call objects,plugins/$(1))
-include $(srcdir)/plugins/$(1)/plugin.mk
build/obj/plugins/$(1)/%.o: $(srcdir)/plugins/$(1)/%.c build/flags $(wildcard $(srcdir)/plugins/$(1)/plugin.mk)
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)$$(call compile,$(public_inc) $$($(1)_CFLAGS) -fPIC)
build/plugins/$(1).so: $$($(1)_OBJ) build/objects
	@mkdir -p $$(@D)
	$$(call say,SO,$$@)$$(so) $$($(1)_LIBS)
# tests/unit/NAME/test_*.c see the plugin's own headers and are linked with its objects
$(1)_test_obj := $(call objects,tests/unit/$(1))
$$($(1)_test_obj): build/obj/%.o: $(srcdir)/%.c build/flags build/config.h
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)$$(call compile,-I$(srcdir)/tests/lib -I$(srcdir)/plugins/$(1) $$(core_inc) $$($(1)_CFLAGS))
$$($(1)_test_obj:build/obj/%.o=build/%): build/%: build/obj/%.o $$($(1)_OBJ) build/core.a
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(test_link) $$($(1)_LIBS)
unit_obj += $$($(1)_test_obj)
unit_bin += $$($(1)_test_obj:build/obj/%.o=build/%)
endef
$(foreach p,$(PLUGINS),$(eval $(call plugin_rules,$(p))))

# --- tests: a C program is linked with what it needs of the core, or with all of it when it loads plugins, which may call
# anything; tests/plugins/*.c are small plugins, most of them bad ones; tests/lib/*.c are programs that scripts call
test_link = $(CC) $(CFLAGS_AUTO) $(CFLAGS) $(ldflags) -rdynamic -o $@ $(filter %.o,$^) \
	$(if $(filter $@,$(loaders)),-Wl$(,)--whole-archive build/core.a -Wl$(,)--no-whole-archive,build/core.a) $(core_libs)
loaders := $(patsubst $(srcdir)/%.c,build/%,$(shell grep -lE 'host_load|dlopen' /dev/null $(call sources,tests/unit tests/integration)))
build/core.a: $(core_obj) build/objects
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $(core_obj)
test_obj := $(call objects,tests/unit tests/integration tests/lib)
$(test_obj): build/obj/%.o: $(srcdir)/%.c build/flags build/config.h
	@mkdir -p $(@D)
	$(call say,CC,$@)$(call compile,-I$(srcdir)/tests/lib $(core_inc))
$(test_obj:build/obj/%.o=build/%): build/%: build/obj/%.o build/core.a
	@mkdir -p $(@D)
	$(call say,LD,$@)$(test_link)
$(bad_so): build/tests/plugins/%.so: $(srcdir)/tests/plugins/%.c build/flags
	@mkdir -p $(@D)
	$(call say,SO,$@)$(CC) $(public_inc) $(cflags) -MMD -MP -fPIC $(ldflags) -shared -o $@ $<

FUZZ_CC ?= clang
SECONDS ?= 60

# --- checks: every one runs TAP programs through tests/run.sh and ends with "N passed, N failed, N skipped"
JOBS ?= $(shell nproc)
TEST_JOBS ?= 3
slow := $(if $(SANITIZE),3,1)
tap = TAP_SECONDS=$$((60 * $(slow))) DEPOT_SRC=$(srcdir) DEPOT_BUILD=$(CURDIR)/build \
	sh $(srcdir)/tests/run.sh -o build/results/$@ -j $(TEST_JOBS) -s $(slow)
scripts = $(sort $(wildcard $(srcdir)/tests/$(1)/test_*.sh $(srcdir)/tests/$(1)/test_*.py))
only = $(if $(1),$(foreach name,$(1),$(or $(filter %/$(name) %/$(name).sh %/$(name).py,$(2)),$(error no test is called $(name)))),$(2))
stages := style unit plugins golden lint plain install asan fuzz tsan
# All integration tests run once in `make check`, under AddressSanitizer, but for those that say "test-asan: no"; a build as it is
# shipped runs those that say "test-plain: yes": what depends on time, memory or the build itself.
saying = $(basename $(notdir $(shell grep -ls '$(1)' /dev/null $(call sources,tests/integration) $(call scripts,integration))))
integration_all := $(basename $(notdir $(call sources,tests/integration) $(call scripts,integration)))
# what the ThreadSanitizer build runs: unit tests, but for those of Lua states, which have one thread and count processor time, and
# the integration tests that ask for it by a line "test-tsan: yes"
TSAN_UNIT ?= $(filter-out test_lua_match test_lua_range test_lua_sandbox test_lua_script test_lua_vm,$(notdir $(unit_bin)))
TSAN_INTEGRATION ?= $(call saying,test-tsan: yes)

check: deps ## everything; quick parts first; the last line is the total
	+@MAKE='$(MAKE)' sh $(srcdir)/tests/check.sh build/results '$(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))' $(stages)
check-style: ## layers, banned calls, sizes; needs no build
	@$(tap) $(call scripts,style)
check-unit: $(unit_bin) ## C programs that need no server; UNIT="test_conf test_x" runs only these
	@$(tap) -t 120 $(call only,$(UNIT),$(unit_bin))
check-plugins: all $(helper_bin) $(bad_so) ## symbols of the plugins, and plugins that must be refused
	@$(tap) $(call scripts,plugins)
check-golden: all $(helper_bin) ## expected texts
	@$(tap) $(call scripts,golden)
check-integration: all $(helper_bin) $(integration_bin) $(bad_so) ## against real servers; INTEGRATION=test_x runs only that
	@$(tap) -t 300 $(call only,$(INTEGRATION),$(integration_bin) $(call scripts,integration))
check-plain: ## of the integration tests those that need a build as it is shipped
	+@$(MAKE) --no-print-directory check-integration INTEGRATION='$(call saying,test-plain: yes)'
check-faults: all $(helper_bin) ## kill -9 at KILLS=50 random moments of the demo's jobs; SEED=N repeats a run; not part of check
	@$(tap) -t 900 $(srcdir)/tests/faults/kill50.py; rc=$$?; grep -h '^# seed .*:' build/results/$@/*.tap; exit $$rc
check-kills: all $(helper_bin) $(bad_so) ## JOBS=100000 with 8 workers and kill -9 of everything for MINUTES=10; SEED=N; not part of check
	@$(tap) -t 3600 $(srcdir)/tests/faults/kill_many.py; rc=$$?; \
	grep -hE '^# (SEED|[0-9]+ kills|attempts|effects)' build/results/$@/*.tap; exit $$rc
check-model: all $(helper_bin) ## the queue against a model for STEPS=20000; SEED=N repeats a run; not part of check
	@export STEPS=$(or $(STEPS),20000); $(tap) -t 3600 $(srcdir)/tests/integration/test_queue_model.py
check-install: all ## build outside the tree, install below DESTDIR, a plugin built against what was installed
	@$(tap) -t 900 $(call scripts,install)
check-fuzz: $(if $(shell command -v $(FUZZ_CC)),$(fuzz_bin)) ## every fuzzer for 5 s
	@FUZZ_CC='$(FUZZ_CC)' $(tap) -t 1800 $(call scripts,fuzz)

# A build of its own below build/: same options, plus these.
sub_build = mkdir -p build/$(1) && cd build/$(1) && { $(srcdir)/configure $(CONFIGURE_ARGS) $(2) > configure.out 2>&1 || \
	{ cat configure.out; exit 1; }; }
each = rc=0; for target in $(1); do $(MAKE) -k $$target || rc=1; done; exit $$rc
check-asan: ## unit, plugins and integration under AddressSanitizer and UndefinedBehaviorSanitizer, in build/asan
	+@$(call sub_build,asan,--enable-werror --enable-sanitize=address$(,)undefined) && \
	export INTEGRATION='$(or $(INTEGRATION),$(filter-out $(call saying,test-asan: no),$(integration_all)))' && \
	$(call each,check-unit check-plugins check-integration)
check-tsan: ## the threaded parts under ThreadSanitizer, in build/tsan
	+@$(call sub_build,tsan,--enable-werror --enable-sanitize=thread) && \
	if setarch -R true; then export RUN_WRAP='setarch -R'; fi && \
	export UNIT='$(TSAN_UNIT)' INTEGRATION='$(TSAN_INTEGRATION)' && \
	$(call each,check-unit $(if $(TSAN_INTEGRATION),check-integration))
coverage: deps-coverage ## line and branch coverage of unit and integration, in build/coverage/index.html
	+@$(call sub_build,coverage,--enable-coverage) && find . -name '*.gcda' -delete && \
	{ $(MAKE) -k check-unit; $(MAKE) -k check-integration; true; } && \
	gcovr -r $(srcdir) -f '$(srcdir)/(core|plugins)/' --print-summary --html-details index.html build/obj/core build/obj/plugins | tail -n 8

# clang-tidy, a process per file (several files in one call give false reports); redone when the object was
tidy_txt := $(patsubst build/obj/%.o,build/tidy/%.txt,$(core_obj) $(main_obj) $(ctl_obj) $(foreach p,$(PLUGINS),$(call objects,plugins/$(p))))
build/tidy/%.txt: build/obj/%.o $(srcdir)/.clang-tidy $(srcdir)/tools/analyzer.h
	@mkdir -p $(@D)
	$(call say,TIDY,$*.c)clang-tidy --quiet $(srcdir)/$*.c -- $(std) $(CPPFLAGS) \
		$(if $(filter core/base/err,$*),,-include $(srcdir)/tools/analyzer.h) \
		$(if $(filter core/%,$*),$(core_inc),$(public_inc) $($(word 2,$(subst /, ,$*))_CFLAGS)) > $@ 2>&1; echo "status $$?" >> $@
lint: all $(tidy_txt) ## check-style, clang-tidy, cppcheck, shellcheck, luacheck, codespell
	@$(tap) -t 900 $(if $(DEPOT_TALLY),,$(call scripts,style)) $(call scripts,lint)

# --- fuzzers: clang, the whole core again with libFuzzer's instrumentation, in build/fuzz
fuzz_cflags := $(std) -O1 -g -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wformat=2 -Wundef -Wwrite-strings -Wcast-qual -Wpointer-arith -Wvla -Wimplicit-fallthrough \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fmacro-prefix-map=$(srcdir)/=
build/fuzz/obj/%.o: $(srcdir)/%.c build/config.h build/config.mk
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)$(FUZZ_CC) $(core_inc) -I$(srcdir)/plugins $(fuzz_cflags) -MMD -MP -c -o $@ $<
build/fuzz/core.a: $(fuzz_core) build/objects
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $(fuzz_core)
$(fuzz_bin): build/fuzz/%: build/fuzz/obj/tests/fuzz/%.o build/fuzz/core.a
	$(call say,LD,$@)$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(core_libs) $(foreach l,$(LIBRARIES),$($(l)_LIBS))
fuzz-%: build/fuzz/fuzz_% ## tests/fuzz/fuzz_NAME.c for SECONDS=60
	@sh $(srcdir)/tests/fuzz/run.sh $< $(SECONDS)

# --- use
deps: ## install what is missing from Debian's packages; DEPS=no only names it
	@DEPS=$(DEPS) sh $(srcdir)/tools/deps.sh
deps-run deps-coverage deps-bench: deps-build
deps-%:
	@DEPS=$(DEPS) sh $(srcdir)/tools/deps.sh $*
demo: deps-run all ## the main job on real files, DEMO_INPUT=DIR for yours
	@cd $(srcdir) && BUILD=$(CURDIR)/build sh tools/demo.sh
run: all ## the daemon in the foreground on ./conf.d and ./var
	@echo 'run: the log below names the addresses; the token of the first administrator is in ./var/admin.token;'
	@echo 'run: build/depotctl status, in a second terminal, needs none'
	@exec build/depotd --foreground
bench: deps-bench all $(helper_bin) $(bad_so) ## every tests/bench/*.sh
	@for script in $(srcdir)/tests/bench/*.sh; do DEPOT_SRC=$(srcdir) DEPOT_BUILD=$(CURDIR)/build sh $$script || exit; done
bench-%: deps-bench all $(helper_bin) $(bad_so) ## tests/bench/NAME.sh alone
	@DEPOT_SRC=$(srcdir) DEPOT_BUILD=$(CURDIR)/build sh $(srcdir)/tests/bench/$*.sh
docs: all ## write docs/reference and lua/types from the tables of core and plugins
	cd $(srcdir) && $(CURDIR)/build/depotctl docs all --output docs/reference
	@mkdir -p $(srcdir)/lua/types
	cd $(srcdir) && $(CURDIR)/build/depotctl docs types > $(CURDIR)/build/types.lua && mv $(CURDIR)/build/types.lua lua/types/depot.lua

# --- installation; each directory is what configure was told, DESTDIR stands before all of them
to = $(DESTDIR)$(1)
plugindir = $(libdir)/depotd/plugins
confdir = $(sysconfdir)/depotd/conf.d
completions = $(datadir)/bash-completion/completions
headers := $(wildcard $(srcdir)/core/include/depot/*)
shared := $(shell cd $(srcdir) && find lua sql -type f ! -name '.*' 2>/dev/null | sort)
define pc
prefix=$(prefix)
exec_prefix=$(exec_prefix)
libdir=$(libdir)
includedir=$(includedir)
plugindir=$(plugindir)
confdir=$(confdir)
datadir=$(datadir)/depotd

Name: depotd
Description: runtime for plugins that serve PostgreSQL operators and an asset depot
Version: $(VERSION)
Cflags: -I$${includedir}
endef
install: all ## honours DESTDIR; a configuration file that exists is kept
	install -d $(foreach dir,$(bindir) $(plugindir) $(confdir) $(includedir)/depot $(libdir)/pkgconfig $(completions),$(call to,$(dir)))
	$(if $(programs),install -m 755 $(programs) $(call to,$(bindir)))
	$(if $(plugin_so),install -m 644 $(plugin_so) $(call to,$(plugindir)))
	install -m 644 $(headers) $(call to,$(includedir)/depot)
	@for file in $(wildcard $(srcdir)/conf.d/*.ini); do \
		[ -e "$(call to,$(confdir))/$${file##*/}" ] || [ -e "$(call to,$(confdir))/$${file##*/}.disabled" ] || \
		install -v -m 644 "$$file" $(call to,$(confdir)) || exit; done
	@for file in $(shared); do install -D -m 644 "$(srcdir)/$$file" "$(call to,$(datadir)/depotd)/$$file" || exit; done
	$(file >build/depotd.pc,$(pc))
	install -m 644 build/depotd.pc $(call to,$(libdir)/pkgconfig)
	@if (cd $(srcdir) && $(CURDIR)/build/depotctl completion bash) > build/completion 2>/dev/null; then \
		install -m 644 build/completion $(call to,$(completions))/depotctl; fi

uninstall: ## remove what install put there; a configuration file that was changed is kept
	rm -f $(foreach file,$(notdir $(programs)),$(call to,$(bindir)/$(file))) \
		$(foreach file,$(notdir $(plugin_so)),$(call to,$(plugindir)/$(file))) \
		$(foreach file,$(notdir $(headers)),$(call to,$(includedir)/depot/$(file))) \
		$(foreach file,$(shared),$(call to,$(datadir)/depotd/$(file))) \
		$(call to,$(libdir)/pkgconfig/depotd.pc) $(call to,$(completions)/depotctl)
	@for file in $(wildcard $(srcdir)/conf.d/*.ini); do \
		installed="$(call to,$(confdir))/$${file##*/}"; \
		if cmp -s "$$file" "$$installed"; then rm -f "$$installed"; fi; done
	@for dir in $(confdir) $(datadir)/depotd $(libdir)/depotd $(includedir)/depot; do \
		[ ! -d "$(DESTDIR)$$dir" ] || find "$(DESTDIR)$$dir" -depth -type d -empty -delete; done
	@for dir in $(confdir) $(dir $(confdir)); do [ ! -d "$(DESTDIR)$$dir" ] || echo "kept (changed here): $(DESTDIR)$$dir"; done

dist: ## depotd-VERSION.tar.gz of the committed tree
	@mkdir -p build
	version=$$(cat $(srcdir)/VERSION) && git -C $(srcdir) archive --format=tar --prefix=depotd-$$version/ HEAD | \
		gzip -9n > build/depotd-$$version.tar.gz
clean: ## remove what make built
	rm -rf $(filter-out $(wildcard build/config.*),$(wildcard build/*))
distclean: ## remove what make and configure wrote
	rm -rf build
	$(if $(filter $(srcdir),$(CURDIR)),,rm -f Makefile)
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z%-]*:.*## / { sub(/-%/, "-NAME", $$1); printf "  %-18s %s\n", $$1, $$2 }' $(srcdir)/Makefile

-include $(patsubst %.o,%.d,$(core_obj) $(main_obj) $(ctl_obj) $(test_obj) $(fuzz_core) $(fuzz_bin:build/fuzz/%=build/fuzz/obj/tests/fuzz/%.o) \
	$(foreach p,$(PLUGINS),$($(p)_OBJ) $($(p)_test_obj))) $(bad_so:.so=.d)
FORCE:
.PHONY: FORCE all check $(stages:%=check-%) check-integration check-faults check-kills check-model coverage lint deps demo run bench docs install uninstall dist \
	clean distclean help
.SECONDARY:
