package syntax_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"time"

	"evidence-ledger/verify/syntax"
)

// check runs one parser over what it must take and what it must refuse.
func check(t *testing.T, name string, parse func(string) error, good, bad []string) {
	t.Helper()
	for _, s := range good {
		if err := parse(s); err != nil {
			t.Errorf("%s %q: %v", name, s, err)
		}
	}
	for _, s := range bad {
		if parse(s) == nil {
			t.Errorf("%s %q is taken", name, s)
		}
	}
}

func TestNames(t *testing.T) {
	x := strings.Repeat
	check(t, "origin", syntax.Origin,
		[]string{"a", "ledger.example.org/evidence", "a/B._-", x("a", 200)},
		[]string{"", "A", "a/", "/a", "a//b", "a b", "a+b", "a\n", "é", x("a", 201)})
	check(t, "collector", syntax.Collector,
		[]string{"a", "1", "web-1", "a--b", x("a", 63)},
		[]string{"", "-a", "a-", "A", "a.b", "a_b", "a\n", x("a", 64)})
	check(t, "type", syntax.Type,
		[]string{"a.b", "patch.run.completed", "a.b.c.d.e.f", "bundle", "trust.genesis", x("a", 63) + "." + x("b", 60) + ".cd" + "e"},
		[]string{"", "a", "a.", ".a", "a..b", "a.B", "a.-b", "a.b.c.d.e.f.g", "a.*", "a.b\n", x("a", 63) + "." + x("b", 63) + ".c"})
	check(t, "pattern", syntax.TypePattern,
		[]string{"a.*", "patch.*", "patch.run.*", "a.b.c.d.e.*", "a.b"},
		[]string{"", "*", ".*", "a*", "a.b*", "a.*.b", "a.*.*", "a.b.c.d.e.f.*", "A.*", "a.>"})
	check(t, "UUIDv7", syntax.UUID7,
		[]string{"019cabcd-0000-7000-8000-000000000102", "019cabcd-0000-7fff-bfff-ffffffffffff"},
		[]string{"", "019cabcd-0000-4000-8000-000000000102", "019cabcd-0000-7000-c000-000000000102",
			"019CABCD-0000-7000-8000-000000000102", "019cabcd00007000800000000000102", "{019cabcd-0000-7000-8000-000000000102}"})
}

func TestMatchType(t *testing.T) {
	for _, c := range []struct {
		pattern, typ string
		want         bool
	}{
		{"patch.*", "patch.run.completed", true}, {"patch.*", "patch.run", true},
		{"patch.*", "patches.run", false}, {"patch.*", "patch", false},
		{"patch.run.completed", "patch.run.completed", true}, {"patch.run", "patch.run.completed", false},
	} {
		if got := syntax.MatchType(c.pattern, c.typ); got != c.want {
			t.Errorf("%s allows %s: %t", c.pattern, c.typ, got)
		}
	}
}

func TestReserved(t *testing.T) {
	for typ, want := range map[string]bool{
		"bundle": true, "trust.genesis": true, "ledger.sealed": true, "collector.void": true,
		"patch.run": false, "trusted.x": false, "bundle.x": false, "a.trust.x": false,
	} {
		if got := syntax.Reserved(typ); got != want {
			t.Errorf("%s: %t", typ, got)
		}
	}
}

func TestTimes(t *testing.T) {
	bad := []string{"", "2026-11-24T20:00:00", "2026-11-24 20:00:00Z", "2026-11-24t20:00:00z", "2026-11-24T20:00:00+00:00",
		"2026-11-24T20:00:00.5Z", "2026-11-24T20:00:00.5120345Z", "2026-11-24T20:00:00,512034Z", "2026-11-24T24:00:00Z",
		"2026-11-24T20:00:60Z", "2026-02-29T20:00:00Z", "26-11-24T20:00:00Z", "2026-11-24T20:00:00Z\n", "2026-1-24T20:00:00Z"}
	check(t, "time", func(s string) error { _, err := syntax.Time(s); return err },
		[]string{"2026-11-24T20:00:00Z", "2026-11-24T20:00:00.512034Z", "2028-02-29T00:00:00.000000Z"}, bad)
	check(t, "micros", func(s string) error { _, err := syntax.Micros(s); return err },
		[]string{"2026-11-24T20:00:00.512034Z", "2026-11-24T20:00:00.000000Z"}, append(bad, "2026-11-24T20:00:00Z"))

	at := time.Date(2026, 11, 24, 21, 0, 0, 512_034_999, time.FixedZone("CET", 3600))
	if got := syntax.FormatMicros(at); got != "2026-11-24T20:00:00.512034Z" {
		t.Error(got)
	}
	if got := syntax.FormatSeconds(at); got != "2026-11-24T20:00:00Z" {
		t.Error(got)
	}
}

func TestValues(t *testing.T) {
	check(t, "digest", func(s string) error { _, err := syntax.Digest(s); return err },
		[]string{syntax.Zeros, strings.Repeat("0f", 32)},
		[]string{"", "00", strings.Repeat("0F", 32), strings.Repeat("0g", 32), strings.Repeat("0", 63), strings.Repeat("0", 66)})
	check(t, "base64", func(s string) error { _, err := syntax.Base64(s); return err },
		[]string{"", "AA==", "AAA=", "AAAA", "+/+/"},
		[]string{"A", "AA", "AB==", "AAB=", "AA=", "-_-_", "AA==\n", "A A=", "AA==AA=="})
	check(t, "decimal", func(s string) error { _, err := syntax.Decimal(s); return err },
		[]string{"0", "1", "10", "9223372036854775807"},
		[]string{"", "00", "01", "+1", "-1", "-0", " 1", "1\n", "1_0", "0x1", "1.0", "1e1", "9223372036854775808", "١"})
}

// FuzzValues: what a parser takes is the one spelling of its value.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "0", "AA==", syntax.Zeros, "2026-11-24T20:00:00Z", "2026-11-24T20:00:00.512034Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := syntax.Decimal(s); err == nil && strconv.FormatUint(n, 10) != s {
			t.Errorf("decimal %q", s)
		}
		if b, err := syntax.Base64(s); err == nil && base64.StdEncoding.EncodeToString(b) != s {
			t.Errorf("base64 %q", s)
		}
		if d, err := syntax.Digest(s); err == nil && hex.EncodeToString(d[:]) != s {
			t.Errorf("digest %q", s)
		}
		if at, err := syntax.Micros(s); err == nil && syntax.FormatMicros(at) != s {
			t.Errorf("micros %q", s)
		}
		if at, err := syntax.Time(s); err == nil && syntax.FormatMicros(at) != s && syntax.FormatSeconds(at) != s {
			t.Errorf("time %q", s)
		}
		if syntax.Type(s) == nil && bytes.ContainsAny([]byte(s), "*> \n/") {
			t.Errorf("type %q", s)
		}
	})
}
