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
bad_so := $(patsubst $(srcdir)/%.c,build/%.so,$(call sources,tests/plugins))
plugin_so := $(PLUGINS:%=build/plugins/%.so)
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
$$($(1)_test_obj:build/obj/%.o=build/%): build/%: build/obj/%.o $$(core_obj) $$($(1)_OBJ)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)$$(link) $$($(1)_LIBS)
unit_obj += $$($(1)_test_obj)
unit_bin += $$($(1)_test_obj:build/obj/%.o=build/%)
endef
$(foreach p,$(PLUGINS),$(eval $(call plugin_rules,$(p))))

# --- tests: each C program is linked with the whole core; tests/plugins/*.c are small plugins, most of them bad ones
test_obj := $(call objects,tests/unit tests/integration)
$(test_obj): build/obj/%.o: $(srcdir)/%.c build/flags build/config.h
	@mkdir -p $(@D)
	$(call say,CC,$@)$(call compile,-I$(srcdir)/tests/lib $(core_inc))
$(test_obj:build/obj/%.o=build/%): build/%: build/obj/%.o $(core_obj) build/objects
	@mkdir -p $(@D)
	$(call say,LD,$@)$(link)
$(bad_so): build/tests/plugins/%.so: $(srcdir)/tests/plugins/%.c build/flags
	@mkdir -p $(@D)
	$(call say,SO,$@)$(CC) $(public_inc) $(cflags) -MMD -MP -fPIC $(ldflags) -shared -o $@ $<

programs_in = $(sort $(foreach dir,$(1),$(wildcard $(srcdir)/tests/$(dir)/test_*.sh $(srcdir)/tests/$(dir)/test_*.py)))
tap = DEPOT_SRC=$(srcdir) DEPOT_BUILD=$(CURDIR)/build sh $(srcdir)/tests/run.sh -o build/results/$@

check-unit: $(unit_bin) ## programs that need no server; UNIT=test_conf runs one
	@$(tap) $(if $(UNIT),$(filter %/$(UNIT),$(unit_bin)),$(unit_bin))

clean: ## remove what make built
	rm -rf $(filter-out $(wildcard build/config.*),$(wildcard build/*))
distclean: ## remove what make and configure wrote
	rm -rf build
	$(if $(filter $(srcdir),$(CURDIR)),,rm -f Makefile)
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(srcdir)/Makefile

-include $(patsubst %.o,%.d,$(core_obj) $(main_obj) $(ctl_obj) $(test_obj) $(foreach p,$(PLUGINS),$($(p)_OBJ) $($(p)_test_obj)))
-include $(bad_so:.so=.d)
FORCE:
.PHONY: FORCE all clean distclean help check-unit
