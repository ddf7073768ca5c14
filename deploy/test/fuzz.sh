#!/bin/sh
# Runs every fuzz target for the given time each. Minimizing is bounded: with
# go's default one find can use up all of the time.
set -eu
time=$1
for file in $(git ls-files '*_test.go'); do
	for target in $(grep -o '^func Fuzz[A-Za-z0-9]*' "$file" | cut -d' ' -f2); do
		echo "$(dirname "$file") $target"
		go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x
	done
done
