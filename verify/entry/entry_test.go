package entry_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// example reads the entries of a log that another implementation wrote.
func example(t testing.TB) (raw [][]byte) {
	t.Helper()
	for i := range 7 {
		b, err := os.ReadFile(filepath.Join("testdata/example/entries", fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b)
	}
	return raw
}

func parse(t testing.TB, raw []byte) *entry.Entry {
	t.Helper()
	e, err := entry.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if p := problem.Of(err); p == nil || p.Code != code {
		t.Errorf("got %v, want a problem %s", err, code)
	}
}

func TestExample(t *testing.T) {
	c := entry.NewChain()
	for i, raw := range example(t) {
		e := parse(t, raw)
		if got := append(e.Header.Bytes(), e.Envelope...); !bytes.Equal(got, raw) {
			t.Errorf("entry %d is not the same when written again", i)
		}
		next := c.Next(e.Stream, e.Time)
		if next != e.Header {
			t.Errorf("entry %d: Next = %+v, the example has %+v", i, next, e.Header)
		}
		if err := c.Add(e); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		if c.Last() != e.Leaf() || c.Time() != e.Time || c.Size() != uint64(i)+1 {
			t.Errorf("entry %d: the chain did not advance", i)
		}
	}
	want := map[string]uint64{"trust": 2, "patch.run.completed": 4, "ledger.sealed": 1}
	streams := c.Streams()
	for name, n := range want {
		if streams[name].Count != n || c.Stream(name) != streams[name] {
			t.Errorf("stream %s = %+v, want %d entries", name, streams[name], n)
		}
	}
	if len(streams) != len(want) {
		t.Errorf("streams: %v", streams)
	}
}

func TestExampleEnvelope(t *testing.T) {
	envelope, err := os.ReadFile("testdata/example/event-3.dsse.json")
	if err != nil {
		t.Fatal(err)
	}
	old := parse(t, example(t)[3])
	e, err := entry.New(old.Header, envelope)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Raw, old.Raw) || e.Leaf() != old.Leaf() {
		t.Error("New does not make the example's entry 3")
	}
}

// The link of the chain is what coreutils print.
func TestLeafHashBySha256sum(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("lacks sha256sum")
	}
	raw := example(t)
	for i := range raw[:6] {
		path := filepath.Join("testdata/example/entries", fmt.Sprint(i))
		out, err := exec.Command("sh", "-c", `{ printf '\0'; cat "$1"; } | sha256sum`, "sh", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, _, _ := strings.Cut(string(out), " ")
		leaf := parse(t, raw[i]).Leaf()
		if got != hex.EncodeToString(leaf[:]) {
			t.Errorf("entry %d: sha256sum prints %s, Leaf is %x", i, got, leaf)
		}
		if next := parse(t, raw[i+1]); got != hex.EncodeToString(next.Previous[:]) {
			t.Errorf("entry %d: previous is not what sha256sum prints for the entry before", i+1)
		}
	}
}

const (
	digest = "fd188e159760cfb1a92c37cb4050ed529c9c4bb5d59df14c6f7312a30a94523c"
	good   = "evidence-ledger/entry@v1\n" +
		"index 3\n" +
		"time 2026-03-04T08:00:00.250004Z\n" +
		"previous " + digest + "\n" +
		"stream patch.run.completed 1 " + digest + "\n" +
		"\n{}"
)

func TestRefusedHeaders(t *testing.T) {
	if e := parse(t, []byte(good)); e.Index != 3 || e.Number != 1 || string(e.Envelope) != "{}" {
		t.Fatalf("the good entry was read as %+v", e)
	}
	upper := strings.ToUpper(digest)
	for _, c := range []struct{ name, old, new, code, where string }{
		{"other version", "@v1", "@v2", "entry.header", "header"},
		{"no empty line", "\n\n", "\n", "entry.header", "header"},
		{"carriage returns", "\n", "\r\n", "entry.header", "header"},
		{"carriage return in a line", "index 3\n", "index 3\r\n", "entry.header", "index"},
		{"a line more", "\n\n", "\nextra\n\n", "entry.header", "header"},
		{"a line less", "index 3\n", "", "entry.header", "header"},
		{"empty line at the start", "evidence", "\nevidence", "entry.header", "header"},
		{"header too long", "patch.run", strings.Repeat("a", 400), "entry.header", "header"},
		{"lines in another order", "index 3\ntime 2026-03-04T08:00:00.250004Z\n", "time 2026-03-04T08:00:00.250004Z\nindex 3\n", "entry.header", "index"},
		{"index with a zero", "index 3", "index 03", "entry.header", "index"},
		{"index with a sign", "index 3", "index +3", "entry.header", "index"},
		{"index too large", "index 3", "index 9223372036854775808", "entry.header", "index"},
		{"index with two spaces", "index 3", "index  3", "entry.header", "index"},
		{"index with a space at the end", "index 3", "index 3 ", "entry.header", "index"},
		{"time without decimals", ".250004Z", "Z", "entry.header", "time"},
		{"time with a zone", ".250004Z", ".250004+00:00", "entry.header", "time"},
		{"time that is none", "03-04", "02-30", "entry.header", "time"},
		{"time by another name", "time", "date", "entry.header", "time"},
		{"previous in capitals", "previous " + digest, "previous " + upper, "entry.header", "previous"},
		{"previous too short", "previous fd", "previous ", "entry.header", "previous"},
		{"previous zero beyond index 0", "previous " + digest, "previous " + syntax.Zeros, "entry.zeros", "previous"},
		{"previous at index 0", "index 3", "index 0", "entry.zeros", "previous"},
		{"stream without a hash", "completed 1 " + digest, "completed 1", "entry.header", "stream"},
		{"stream with a field more", "completed 1", "completed 1 1", "entry.header", "stream"},
		{"stream by another name", "stream", "strand", "entry.header", "stream"},
		{"stream of one label", "patch.run.completed", "patch", "entry.stream", "stream"},
		{"stream in capitals", "patch.run", "Patch.run", "entry.stream", "stream"},
		{"a trust type", "patch.run.completed", "trust.genesis", "entry.stream", "stream"},
		{"the bundle type", "patch.run.completed", "bundle", "entry.stream", "stream"},
		{"number with a zero", "completed 1", "completed 01", "entry.header", "stream"},
		{"stream's hash in capitals", "completed 1 " + digest, "completed 1 " + upper, "entry.header", "stream"},
		{"stream's hash zero beyond number 0", "completed 1 " + digest, "completed 1 " + syntax.Zeros, "entry.zeros", "stream"},
		{"stream's hash at number 0", "completed 1", "completed 0", "entry.zeros", "stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.ReplaceAll(good, c.old, c.new)
			if bad == good {
				t.Fatal("nothing was changed")
			}
			_, err := entry.Parse([]byte(bad))
			wantCode(t, err, c.code)
			if p := problem.Of(err); p != nil && p.Where != c.where {
				t.Errorf("the problem is at %q, want %q: %v", p.Where, c.where, err)
			}
		})
	}
}

func TestEntrySize(t *testing.T) {
	h := parse(t, []byte(good)).Header
	room := entry.MaxEntry - len(h.Bytes())
	if _, err := entry.New(h, make([]byte, room)); err != nil {
		t.Errorf("an entry of the largest size: %v", err)
	}
	_, err := entry.New(h, make([]byte, room+1))
	wantCode(t, err, "entry.size")
}

func TestStreamOf(t *testing.T) {
	for typ, want := range map[string]string{
		"trust.genesis": "trust", "trust.collector-enrolled": "trust",
		"ledger.sealed": "ledger.sealed", "patch.run.completed": "patch.run.completed", "trusty.thing": "trusty.thing",
	} {
		if got := entry.StreamOf(typ); got != want {
			t.Errorf("StreamOf(%s) = %s, want %s", typ, got, want)
		}
	}
}

// Each rule of the chain, broken alone, names itself and changes nothing.
func TestRefusedByChain(t *testing.T) {
	c := entry.NewChain()
	raw := example(t)
	for _, r := range raw[:4] {
		if err := c.Add(parse(t, r)); err != nil {
			t.Fatal(err)
		}
	}
	for code, change := range map[string]func(h *entry.Header){
		"entry.index":           func(h *entry.Header) { h.Index++ },
		"entry.time":            func(h *entry.Header) { h.Time = c.Time().Add(-time.Microsecond) },
		"entry.previous":        func(h *entry.Header) { h.Previous[31] ^= 1 },
		"entry.stream-number":   func(h *entry.Header) { h.Number++ },
		"entry.stream-previous": func(h *entry.Header) { h.StreamPrevious[0] ^= 1 },
	} {
		h := parse(t, raw[4]).Header
		change(&h)
		e, err := entry.New(h, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		before := c.Clone()
		wantCode(t, c.Add(e), code)
		if !equal(c, before) {
			t.Errorf("%s: the chain changed although the entry was refused", code)
		}
		after := c.Clone()
		after.Skip(e)
		if equal(after, before) || after.Last() != e.Leaf() {
			t.Errorf("%s: Skip did not advance", code)
		}
	}
	if err := c.Add(parse(t, raw[4])); err != nil {
		t.Errorf("the good entry after the bad ones: %v", err)
	}
}

func equal(a, b *entry.Chain) bool {
	return a.Size() == b.Size() && a.Last() == b.Last() && a.Time().Equal(b.Time()) && fmt.Sprint(a.Streams()) == fmt.Sprint(b.Streams())
}

// After a skipped entry, or a missing one, the rest of the log is not refused.
func TestSkipNamesNoMoreThanIsWrong(t *testing.T) {
	c := entry.NewChain()
	var codes []string
	for i, raw := range example(t) {
		if i == 3 {
			continue
		}
		e := parse(t, raw)
		if err := c.Add(e); err != nil {
			codes = append(codes, fmt.Sprintf("%d %s", i, problem.Of(err).Code))
			c.Skip(e)
		}
	}
	if got := strings.Join(codes, ", "); got != "4 entry.index" {
		t.Errorf("problems after entry 3 was dropped: %s", got)
	}
}

func TestNextRepeatsTheLastTime(t *testing.T) {
	last := time.Date(2026, 3, 4, 8, 0, 0, 250_004_000, time.UTC)
	c := entry.Restore(1, [32]byte{1}, last, map[string]entry.Head{"trust": {Count: 1, Last: [32]byte{1}}})
	if h := c.Next("trust", last.Add(-time.Second)); !h.Time.Equal(last) || h.Number != 1 {
		t.Errorf("Next = %+v", h)
	}
	cut := last.Add(999 * time.Nanosecond).In(time.FixedZone("", 3600))
	if h := c.Next("a.b", cut); !h.Time.Equal(last) || h.Number != 0 {
		t.Errorf("Next = %+v", h)
	}
}

func TestCopiesAreIndependent(t *testing.T) {
	c := entry.NewChain()
	clone, streams := c.Clone(), c.Streams()
	if err := c.Add(parse(t, example(t)[0])); err != nil {
		t.Fatal(err)
	}
	if clone.Size() != 0 || len(clone.Streams()) != 0 || len(streams) != 0 {
		t.Error("a copy changed with the chain")
	}
}

// Any chain made with Next is accepted; one changed bit anywhere is not.
func TestChainProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		streams := []string{"trust", "a.b", "patch.run.completed", "ledger.sealed"}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		c := entry.NewChain()
		var raw [][]byte
		for range rapid.IntRange(2, 12).Draw(t, "n") {
			at = at.Add(time.Duration(rapid.Int64Range(-1e6, 1e9).Draw(t, "step")))
			h := c.Next(rapid.SampledFrom(streams).Draw(t, "stream"), at)
			e, err := entry.New(h, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "envelope"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Add(e); err != nil {
				t.Fatal(err)
			}
			raw = append(raw, e.Raw)
		}
		i := rapid.IntRange(0, len(raw)-2).Draw(t, "entry")
		raw[i] = bytes.Clone(raw[i])
		raw[i][rapid.IntRange(0, len(raw[i])-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if accepted(raw) {
			t.Fatal("a changed log was accepted")
		}
	})
}

func accepted(log [][]byte) bool {
	c := entry.NewChain()
	for _, raw := range log {
		e, err := entry.Parse(raw)
		if err != nil || c.Add(e) != nil {
			return false
		}
	}
	return true
}

func FuzzParseEntry(f *testing.F) {
	for _, raw := range example(f) {
		f.Add(raw)
	}
	f.Add([]byte(good))
	f.Add([]byte(strings.ReplaceAll(good, "\n", "\r\n")))
	f.Add([]byte("evidence-ledger/entry@v1\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := entry.Parse(raw)
		if err != nil {
			if problem.Of(err) == nil {
				t.Fatalf("refused without a problem: %v", err)
			}
			return
		}
		if got := append(e.Header.Bytes(), e.Envelope...); !bytes.Equal(got, raw) {
			t.Fatalf("not the same when written again: %q", got)
		}
	})
}
