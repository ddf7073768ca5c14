//go:build !race

package recheck_test

const thin = 1
