# Everything is done from here; `make help` lists it.
# An older go fetches this toolchain by itself, as a module.
export GOTOOLCHAIN := go1.27.3+auto
export CGO_ENABLED ?= 1

BIN      := bin
DEMO_DIR ?=
FUZZTIME ?= 60s

.PHONY: help build deps test check demo bench fuzz clean

help:
	@echo 'make build            the programs, into bin/'
	@echo 'make test             all tests, with the race detector'
	@echo 'make demo             evidence of this machine becomes a ledger that you verify (DEMO_DIR=... keeps it)'
	@echo 'make bench            benchmarks'
	@echo 'make fuzz             every fuzz target, FUZZTIME (60s) each'
	@echo 'make check            formatting, vet, module files'
	@echo 'make deps             what the tests need from Debian'
	@echo 'make clean'

# Static, without paths of the machine that builds.
build:
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./cmd/...

deps:
	@sh deploy/test/deps.sh

test: deps
	@sh deploy/test/test.sh

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'hint: gofmt -w .'; exit 1; }
	go vet ./...
	go mod verify

demo: build
	@sh deploy/demo/demo.sh $(BIN) "$(DEMO_DIR)"

bench:
	go test -run '^$$' -bench . -benchmem ./...

fuzz:
	@sh deploy/test/fuzz.sh $(FUZZTIME)

clean:
	rm -rf $(BIN)
