#!/bin/sh
# Runs all tests with the race detector; the summary names the skipped ones and
# why. With CI=true a skipped test is a failure: a missing tool never passes
# silently.
set -u
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
go tool gotestsum --format pkgname --jsonfile "$log" -- -race -timeout 10m ./...
code=$?
skipped=$(grep -c '"Action":"skip","Package":"[^"]*","Test"' "$log")
if [ "$skipped" -gt 0 ]; then
	echo "$skipped tests did not run; they are named above, with what they lack (make deps)"
	[ "${CI:-}" != true ] || { echo 'with CI=true every test must run'; exit 1; }
fi
exit $code
