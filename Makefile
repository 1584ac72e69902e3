# SPDX-License-Identifier: GPL-3.0-or-later
#
#   make              build banishd and banishctl (release)
#   make install      DESTDIR= and PREFIX= as usual; PREFIX is /usr because the bus, polkit and systemd look there
#   make uninstall    lifts all bans where it is live; keeps /etc/banish and the ledger
#   make test         everything that must hold; as root also the tests that need it, a really booted machine among them
#   make demo         (root) an attack on a throwaway machine, to look at; HOLD=1 leaves the machine up
#   make bench        (root) the benchmarks, and one table of what they measured; half an hour
#   make fuzz         hostile bytes for whatever reads them, FUZZ_SECONDS (60) for each target
#   make audit        security advisories of the dependencies (online)
#
# test, demo, bench and fuzz install the Debian packages and crates they need, and say so.

SHELL = /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build
.PHONY: build install uninstall test demo bench fuzz audit

DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc
CARGO_FLAGS ?= --locked
export CARGO_TARGET_DIR ?= $(CURDIR)/target

cargo := scripts/cargo
built := $(CARGO_TARGET_DIR)/release
sbindir := $(PREFIX)/sbin
bindir := $(PREFIX)/bin
libdir := $(PREFIX)/lib
datadir := $(PREFIX)/share
# Where banishd looks for it, whatever PREFIX is.
shipped := /usr/lib/banish
configuration := $(patsubst etc/%,%,$(wildcard etc/*.toml etc/*.d/*.toml))
man_pages := man/banishd.8 man/banishctl.1 man/banish.toml.5
# What `install` puts where, but for configuration: SOURCE:TARGET:MODE. The shipped configuration is the lowest layer;
# /etc/banish is the administrator's and stays empty.
files := \
  $(built)/banishd:$(sbindir)/banishd:755 \
  $(built)/banishctl:$(bindir)/banishctl:755 \
  units/banishd.service:$(libdir)/systemd/system/banishd.service:644 \
  units/banish-restore.service:$(libdir)/systemd/system/banish-restore.service:644 \
  units/banish.sysusers:$(libdir)/sysusers.d/banish.conf:644 \
  units/banish.tmpfiles:$(libdir)/tmpfiles.d/banish.conf:644 \
  units/banish.catalog:$(libdir)/systemd/catalog/banish.catalog:644 \
  dbus/org.banish1.conf:$(datadir)/dbus-1/system.d/org.banish1.conf:644 \
  dbus/org.banish1.policy:$(datadir)/polkit-1/actions/org.banish1.policy:644 \
  $(foreach f,$(wildcard dbus/*.xml),$(f):$(datadir)/dbus-1/interfaces/$(notdir $(f)):644) \
  $(foreach f,$(man_pages),$(f):$(datadir)/man/man$(subst .,,$(suffix $(f)))/$(notdir $(f)):644) \
  $(built)/completions/banishctl.bash:$(datadir)/bash-completion/completions/banishctl:644 \
  $(built)/completions/banishctl.zsh:$(datadir)/zsh/vendor-completions/_banishctl:644 \
  $(built)/completions/banishctl.fish:$(datadir)/fish/vendor_completions.d/banishctl.fish:644 \
  README.md:$(datadir)/doc/banish/README.md:644 \
  CHANGELOG.md:$(datadir)/doc/banish/CHANGELOG.md:644 \
  $(foreach f,$(wildcard docs/*.md),$(f):$(datadir)/doc/banish/$(notdir $(f)):644)
# What an older version installed. By this file any local user could start a daemon that the administrator had stopped.
outdated := $(DESTDIR)$(datadir)/dbus-1/system-services/org.banish1.service
# A directory that other packages bring would be missing from a machine that has none of them.
live := $(if $(DESTDIR),,$(wildcard /run/systemd/system))

build:
	@scripts/need build
	$(cargo) build --release $(CARGO_FLAGS) --bins
	@mkdir -p $(built)/completions && for shell in bash zsh fish; do \
	  $(built)/banishctl completions $$shell >$(built)/completions/banishctl.$$shell || exit 1; done

# Builds where nothing has been built; `make && sudo make install` builds as the user and only copies as root.
install: $(if $(wildcard $(built)/banishctl $(built)/banishd),,build)
	@set -e; for f in $(files); do IFS=: read -r from to mode <<<"$$f"; \
	  install -D -m $$mode "$$from" "$(DESTDIR)$$to"; done
ifneq ($(PREFIX),/usr)
	@set -e; for f in systemd/system/banishd.service systemd/system/banish-restore.service; do \
	  sed -i 's|/usr/sbin/|$(sbindir)/|; s|/usr/bin/|$(bindir)/|' "$(DESTDIR)$(libdir)/$$f"; done
endif
	@rm -f -- $(outdated)
	@set -e; for f in $(configuration); do install -D -m 644 "etc/$$f" "$(DESTDIR)$(shipped)/$$f"; done; \
	  for d in banish.toml.d jail.d filter.d; do install -d "$(DESTDIR)$(SYSCONFDIR)/banish/$$d"; done
ifneq ($(live),)
	@scripts/activate
	@if systemctl is-active --quiet banishd.service; then \
	  echo "installed. The banishd that runs is still the former program. Go on with: systemctl restart banishd"; \
	  echo "(bans stay in force meanwhile, and what is logged meanwhile is counted)"; \
	else echo "installed. Start it with: systemctl enable --now banishd"; fi
endif

uninstall:
ifneq ($(live),)
	@for unit in banishd.service banish-restore.service; do systemctl disable --now $$unit 2>/dev/null; done; \
	  ! [ -x "$(DESTDIR)$(bindir)/banishctl" ] || "$(DESTDIR)$(bindir)/banishctl" disarm || true
endif
	@for f in $(files); do IFS=: read -r from to mode <<<"$$f"; rm -f -- "$(DESTDIR)$$to"; done
	@rm -f -- $(outdated)
	@for f in $(configuration); do rm -f -- "$(DESTDIR)$(shipped)/$$f"; done
	@for d in $(SYSCONFDIR)/banish $(shipped) $(datadir)/doc/banish; do \
	  [ ! -d "$(DESTDIR)$$d" ] || find "$(DESTDIR)$$d" -depth -type d -empty -delete; done
ifneq ($(live),)
	@systemctl daemon-reload && journalctl --update-catalog
	@echo "removed. The ledger stays in /var/lib/banish, your configuration in $(SYSCONFDIR)/banish"
endif

test:
	@tests/run

demo:
	@tests/machine/demo

bench:
	@scripts/need build machine bench
	@benches/run

fuzz:
	@scripts/need build fuzz
	@scripts/fuzz

audit:
	@scripts/cargo-deny check advisories
