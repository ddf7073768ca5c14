package verify_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"evidence-ledger/verify/problem"
)

var update = flag.Bool("update", false, "write testdata/vectors anew before they are run")

// vectorFile is one file below testdata/vectors; FORMAT.md documents it.
type vectorFile struct {
	Kind    string              `json:"kind"`
	About   string              `json:"about"`
	Logs    map[string]*logCase `json:"logs,omitzero"`
	Vectors []*vector           `json:"vectors"`
}

// vector is one input and the rule that it breaks.
type vector struct {
	Name string `json:"name"`
	// Rule is the number in FORMAT.md, empty in a good vector; Expect is its
	// code.
	Rule   string `json:"rule,omitzero"`
	Expect string `json:"expect"`
	// Where is the place that the problem must name.
	Where string `json:"where,omitzero"`
	Why   string `json:"why"`
	// In is the input, by kind.
	In jsontext.Value `json:"in"`
	// Problems and Verdict are what a log must give; Where is empty then.
	Problems []logProblem `json:"problems,omitzero"`
	Verdict  string       `json:"verdict,omitzero"`
}

// data are bytes in a vector: a string, or a list of parts that are joined:
// strings, {"base64":"..."}, {"repeat":"...","count":N}.
type data []byte

type dataPart struct {
	Base64 string `json:"base64,omitzero"`
	Repeat string `json:"repeat,omitzero"`
	Count  int    `json:"count,omitzero"`
}

func (d *data) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		*d = data(s)
		return nil
	}
	var parts []jsontext.Value
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	*d = data{}
	for _, p := range parts {
		if p.Kind() == jsontext.KindString {
			if err := json.Unmarshal(p, &s); err != nil {
				return err
			}
			*d = append(*d, s...)
			continue
		}
		var part dataPart
		if err := json.Unmarshal(p, &part, json.RejectUnknownMembers(true)); err != nil {
			return err
		}
		b, err := base64.StdEncoding.DecodeString(part.Base64)
		if err != nil {
			return err
		}
		*d = append(*d, b...)
		*d = append(*d, strings.Repeat(part.Repeat, part.Count)...)
	}
	return nil
}

// MarshalJSON shortens long runs of up to four repeated bytes.
func (d data) MarshalJSON() ([]byte, error) {
	var parts []any
	plain := func(b []byte) {
		switch {
		case len(b) == 0:
		case utf8.Valid(b):
			parts = append(parts, string(b))
		default:
			parts = append(parts, dataPart{Base64: base64.StdEncoding.EncodeToString(b)})
		}
	}
	begin := 0
	for i := 0; i < len(d); i++ {
		period, count := runAt(d[i:])
		if count == 0 {
			continue
		}
		plain(d[begin:i])
		parts = append(parts, dataPart{Repeat: string(d[i : i+period]), Count: count})
		begin = i + period*count
		i = begin - 1
	}
	plain(d[begin:])
	switch {
	case len(parts) == 0:
		return []byte(`""`), nil
	case len(parts) == 1:
		if s, ok := parts[0].(string); ok {
			return json.Marshal(s)
		}
	}
	return json.Marshal(parts)
}

// runAt finds 500 or more bytes at the beginning of b that repeat with a
// period of at most 4.
func runAt(b []byte) (period, count int) {
	for p := 1; p <= 4 && p < len(b); p++ {
		n := p
		for n < len(b) && b[n] == b[n-p] {
			n++
		}
		if n >= 500 && utf8.Valid(b[:p]) {
			return p, n / p
		}
	}
	return 0, 0
}

// TestVectors runs every committed vector: the good ones give no problem, each
// bad one the code and the place that it names.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	failed := false
	for _, f := range readVectors(t) {
		t.Run(f.name, func(t *testing.T) {
			for _, v := range f.Vectors {
				if err := f.run(v); err != nil {
					failed = true
					t.Errorf("%s (%s): %v", v.Name, v.Why, err)
				}
			}
		})
		if failed && os.Getenv(mutantVariable) != "" {
			return // one is enough to see that the check is needed
		}
	}
}

// mutantVariable names the check that is off; see TestEveryCheckIsNeeded.
const mutantVariable = "EVIDENCE_LEDGER_MUTANT"

type namedFile struct {
	vectorFile
	name string
}

func readVectors(t *testing.T) []*namedFile {
	t.Helper()
	names, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var out []*namedFile
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := &namedFile{name: strings.TrimSuffix(filepath.Base(name), ".json")}
		if err := json.Unmarshal(b, &f.vectorFile, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, f)
	}
	// The cheap ones first: a check that is off shows sooner.
	slices.SortStableFunc(out, func(a, b *namedFile) int { return len(a.Logs) - len(b.Logs) })
	return out
}

// run gives what is wrong with the outcome, nil where it is as expected.
func (f *namedFile) run(v *vector) error {
	if f.Kind == "log" {
		return runLog(f.Logs, v)
	}
	run, ok := kinds[f.Kind]
	if !ok {
		return fmt.Errorf("the kind %q is unknown", f.Kind)
	}
	err := run(v.In)
	if err == nil {
		if v.Expect != "" {
			return fmt.Errorf("no problem, expected %s", v.Expect)
		}
		return nil
	}
	p := problem.Of(err)
	if p == nil {
		return fmt.Errorf("no rule was named, but: %w", err)
	}
	if p.Code != v.Expect || p.Where != v.Where {
		return fmt.Errorf("expected %q at %q, got: %w", v.Expect, v.Where, err)
	}
	return nil
}

// read gives the input of a vector; unknown members are mistakes.
func read[T any](in jsontext.Value) (out T) {
	if err := json.Unmarshal(in, &out, json.RejectUnknownMembers(true)); err != nil {
		panic(fmt.Sprintf("the vector cannot be read: %v", err))
	}
	return out
}

func clone(b []byte) []byte { return bytes.Clone(b) }
