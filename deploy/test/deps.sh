#!/bin/sh
# Installs what the tests need from Debian's packages. Where it cannot, it says
# so: the tests that lack their tool are then counted and named at the end.
set -u
missing=
for pair in openssl:openssl sha256sum:coreutils git:git; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# The race detector needs a C compiler.
command -v "${CC:-cc}" >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing && exit 0
fi
echo "deps: not installed, and not to be had here:$missing (as root on Debian: apt-get install$missing)" >&2
exit 0
