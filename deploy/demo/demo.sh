#!/bin/sh
# The whole path on this machine: its own patch history becomes a ledger, which
# is verified with our program, and one entry with sha256sum and openssl alone.
# Then one byte of a copy is changed. Needs coreutils and openssl.
#
# usage: demo.sh BIN [DIR]   with DIR everything stays there, else in a new
#                            folder below the one for temporary files
set -eu
bin=$(cd "$1" && pwd)
if [ -n "${2:-}" ]; then
	mkdir -p "$2"
	dir=$(cd "$2" && pwd)
	if [ -e "$dir/ledger-data" ]; then
		echo "demo: $dir has a ledger already; give a new folder, or remove that one" >&2
		exit 2
	fi
else
	dir=$(mktemp -d "${TMPDIR:-/tmp}/evidence-demo.XXXXXX")
fi
PATH=$bin:$PATH
export XDG_STATE_HOME="$dir/state"
cd "$dir"

node=
stop() {
	[ -z "$node" ] || { kill "$node" 2>/dev/null && wait "$node" || true; }
	node=
}
trap stop EXIT
trap 'exit 130' INT TERM

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n== %s\n' "$*"; }
run() { # show a command as one would type it, then run it
	printf '$'
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=@%+,-]* | '') printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	printf '\n'
	"$@"
}
say() { printf '$ %s\n' "$*"; }
fail() {
	echo "demo: $*" >&2
	[ ! -f node.log ] || { echo "the node's log:" >&2; tail -n 20 node.log >&2; }
	exit 1
}

step '1. A new ledger. Its identity line is what an auditor gets beforehand, on another way.'
say "ledger init --origin ledger.example.org/demo --organisation 'Demo Organisation' > identity"
ledger init --origin ledger.example.org/demo --organisation 'Demo Organisation' > identity
cat identity

step '2. The node: checks, appends, signs, answers with receipts.'
say 'ledger serve &'
ledger serve --nats 127.0.0.1:0 --http 127.0.0.1:0 2> node.log &
node=$!
tries=0
until ledger status > status.txt 2>/dev/null; do
	kill -0 "$node" 2>/dev/null || fail 'the node did not start'
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || fail 'the node is not ready after 10 s'
	sleep 0.1
done
cat status.txt
nats=$(ledger status --nats)

step '3. A collector on this machine makes its keys; an admin enrols it in the log.'
run collector init web-1 --ledger identity --node "$nats" --type 'patch.*' -o web-1.request.json
run ledger collector enrol web-1.request.json

step '4. It collects what apt and dpkg did here, signs each run, and waits for receipts that it verifies.'
collected=yes
if ! ls /var/log/apt/history.log* /var/log/dpkg.log* >/dev/null 2>&1; then
	echo 'This machine has no apt history and no dpkg log: the ledger goes on with what there is.'
	collected=no
else
	run collector once patch.run.completed --wait 40s
	run collector status
fi

step '5. Verify, while the node runs: every byte hashed again, every signature, every key.'
run ledger verify --identity identity

run ledger log -n 5
last=$(ledger log -n 1 | tail -n 1 | tr -s ' ' | cut -d' ' -f2)

step "6. Entry $last by hand, with none of our software but to write its bytes down."
run ledger show "$last"
ledger show "$last" --raw > entry
ledger show "$last" --proof > entry.tlog-proof
prior=$((last - 1))
say "{ printf '\\0'; ledger show $prior --raw; } | sha256sum   # the hash of entry $prior ..."
hash=$({ printf '\0'; ledger show "$prior" --raw; } | sha256sum | cut -d' ' -f1)
echo "$hash"
say "head -n 4 entry | tail -n 1                      # ... is what entry $last says of it"
named=$(head -n 4 entry | tail -n 1 | cut -d' ' -f2)
echo "previous $named"
[ "$hash" = "$named" ] || fail 'the hash is not the one that the next entry names'
if [ "$collected" = yes ]; then
	ledger collector list --keys | tail -n 1 | tr -s ' ' '\n' | tail -n 1 | base64 -d > key.der
else # the enrolment, which the admin signed
	openssl pkey -in ledger-admin.pem -pubout -outform DER -out key.der
fi
tail -n +7 entry | cut -d'"' -f8 | base64 -d > payload
tail -n +7 entry | cut -d'"' -f18 | base64 -d > signature
{ printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < payload)"; cat payload; } > signed-bytes
run openssl pkeyutl -verify -pubin -inkey key.der -keyform DER -rawin -in signed-bytes -sigfile signature

step '7. Somebody with access to the disk changes one byte of a copy.'
stop
cp -r ledger-data tampered
file=$(ls -S tampered/store/*.blob tampered/store/*.sst 2>/dev/null | head -n 1)
size=$(wc -c < "$file")
at=$((size / 2))
old=$(od -An -tu1 -j "$at" -N 1 "$file" | tr -d ' ')
printf "\\$(printf %03o $(((old + 1) % 256)))" | dd of="$file" bs=1 seek="$at" conv=notrunc status=none
echo "byte $at of $file: $old is now $(((old + 1) % 256))"
code=0
run ledger verify tampered --identity identity || code=$?
[ "$code" = 1 ] || fail "the verifier should have found something (exit 1), it said $code"
echo "exit $code: found, and named."

step 'Go on by hand'
cat <<TXT
cd '$dir'
export PATH='$bin':\$PATH XDG_STATE_HOME='$dir/state'
ledger serve --nats ${nats#nats://} 2> node.log &
collector run 2> collector.log &     # collects every five minutes
ledger log
ledger show $last
ledger verify --identity identity
TXT
