//go:build race

package ledger_test

// thin: what takes a minute becomes ten with the race detector, which looks for
// races and not for what each case shows.
const thin = 8
