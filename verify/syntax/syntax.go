// Package syntax holds the small canonical values that all formats share:
// names, times, digests, numbers.
//
// Each has exactly one spelling. Every parser here parses, re-encodes and
// compares, so two different byte strings never mean the same value.
//
//	origin     [a-z0-9.-]+(/[A-Za-z0-9._-]+)*      at most 200 bytes
//	collector  [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?
//	type       2 to 6 collector labels joined by ".", at most 128 bytes
//	time       2026-11-24T20:00:00Z or 2026-11-24T20:00:00.512034Z (RFC 3339)
//	hex        lower case; base64: standard alphabet, padded, canonical
//	decimal    no sign, no leading zero
//
// The errors say what is wrong in a phrase; the caller adds the rule and the
// place (see package problem).
package syntax

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Zeros is the digest that stands where there is none before.
const Zeros = "0000000000000000000000000000000000000000000000000000000000000000"

var (
	originRE    = regexp.MustCompile(`^[a-z0-9.-]+(/[A-Za-z0-9._-]+)*$`)
	collectorRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	uuid7RE     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

// Origin reports why s is no origin, or nil.
func Origin(s string) error {
	if len(s) > 200 {
		return fmt.Errorf("the origin has %d bytes, at most 200 are allowed", len(s))
	}
	if !originRE.MatchString(s) {
		return fmt.Errorf("%.80q is not an origin such as ledger.example.org/evidence", s)
	}
	return nil
}

// Collector reports why s is no collector's name, or nil.
func Collector(s string) error {
	if !collectorRE.MatchString(s) {
		return fmt.Errorf("%.80q is not a name of 1 to 63 lower case letters, digits and inner hyphens", s)
	}
	return nil
}

// Type reports why s is no evidence type, or nil. Reserved types are types.
func Type(s string) error {
	labels := strings.Split(s, ".")
	if s != "bundle" && (len(labels) < 2 || len(labels) > 6) || len(s) > 128 {
		return fmt.Errorf("%.140q is not an evidence type of 2 to 6 labels joined by dots, at most 128 bytes", s)
	}
	for _, l := range labels {
		if !collectorRE.MatchString(l) {
			return fmt.Errorf("%.140q is not an evidence type: the label %.80q is not lower case letters, digits and inner hyphens", s, l)
		}
	}
	return nil
}

// TypePattern reports why s neither is an evidence type nor "x.*" with one to
// five labels before the star, or nil.
func TypePattern(s string) error {
	prefix, wild := strings.CutSuffix(s, ".*")
	if !wild {
		return Type(s)
	}
	if err := Type(prefix + ".x"); err != nil {
		return fmt.Errorf("%.140q is not an evidence type, nor a pattern such as patch.*", s)
	}
	return nil
}

// MatchType tells whether the pattern (see TypePattern) allows the type.
func MatchType(pattern, typ string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(typ, prefix)
	}
	return pattern == typ
}

// Reserved tells whether collectors in general may not use the type:
// trust.*, ledger.*, collector.* and bundle.
func Reserved(typ string) bool {
	return typ == "bundle" || strings.HasPrefix(typ, "trust.") ||
		strings.HasPrefix(typ, "ledger.") || strings.HasPrefix(typ, "collector.")
}

// UUID7 reports why s is no UUIDv7 in its canonical form (RFC 9562), or nil.
func UUID7(s string) error {
	if !uuid7RE.MatchString(s) {
		return fmt.Errorf("%.60q is not a UUIDv7 in lower case", s)
	}
	return nil
}

const (
	layoutSeconds = "2006-01-02T15:04:05Z"
	layoutMicros  = "2006-01-02T15:04:05.000000Z"
)

// Time parses a time in UTC without or with six decimals.
func Time(s string) (time.Time, error) {
	for _, layout := range []string{layoutSeconds, layoutMicros} {
		if t, err := time.Parse(layout, s); err == nil && t.Format(layout) == s {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.60q is not a time such as 2026-11-24T20:00:00Z, without or with six decimals", s)
}

// Micros parses a time that must have six decimals.
func Micros(s string) (time.Time, error) {
	t, err := time.Parse(layoutMicros, s)
	if err != nil || t.Format(layoutMicros) != s {
		return time.Time{}, fmt.Errorf("%.60q is not a time with six decimals such as 2026-11-24T20:00:00.512034Z", s)
	}
	return t, nil
}

// FormatMicros writes t in UTC with six decimals, cut off.
func FormatMicros(t time.Time) string { return t.UTC().Truncate(time.Microsecond).Format(layoutMicros) }

// FormatSeconds writes t in UTC without decimals, cut off.
func FormatSeconds(t time.Time) string { return t.UTC().Truncate(time.Second).Format(layoutSeconds) }

// Digest parses 64 lower case hex digits, a SHA-256.
func Digest(s string) (d [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return d, fmt.Errorf("%.80q is not a SHA-256 in 64 lower case hex digits", s)
	}
	return [32]byte(b), nil
}

// Base64 parses base64 in the standard alphabet, padded and canonical.
func Base64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		return nil, fmt.Errorf("%.60q is not canonical base64 (standard alphabet, padded)", s)
	}
	return b, nil
}

// Decimal parses a number without sign or leading zero, below 2^63.
func Decimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.40q is not a decimal number without sign or leading zero", s)
	}
	return n, nil
}
