package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
)

// example is testdata/example: a bundle, unpacked, with the receipt of one
// event and the identity line beside it. A second implementation, in another
// language, made it from the same specification.
type example struct {
	identity *checkpoint.Identity
	line     string
	head     *checkpoint.Signed
	log      *logCase
}

func exampleFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/example", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exampleFiles(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata/example/data", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], "testdata/example/")
	}
	return names
}

func readExample(t testing.TB) *example {
	t.Helper()
	line := strings.TrimSuffix(string(exampleFile(t, "identity")), "\n")
	id, err := checkpoint.ParseIdentity(line)
	if err != nil {
		t.Fatal(err)
	}
	e := &example{identity: id, line: line, log: &logCase{Identity: &line, Now: "2026-03-07T00:00:00Z", Entries: make([]item, 7), Artifacts: map[string]item{}}}
	for _, name := range append(exampleFiles(t, "trust/*"), exampleFiles(t, "entries/*/*")...) {
		e.log.Entries[numberOf(t, name)] = item{data: exampleFile(t, name)}
	}
	for _, name := range exampleFiles(t, "artifacts/*") {
		e.log.Artifacts[filepath.Base(name)] = item{data: exampleFile(t, name)}
	}
	for _, name := range append(exampleFiles(t, "checkpoints/*"), "data/checkpoint") {
		note := exampleFile(t, name)
		e.head = openExample(t, id, note)
		e.log.Checkpoints = append(e.log.Checkpoints, row{Size: e.head.Size, Note: note})
	}
	return e
}

func numberOf(t testing.TB, name string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".tlog-proof"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openExample(t testing.TB, id *checkpoint.Identity, note []byte) *checkpoint.Signed {
	t.Helper()
	v, _, err := checkpoint.NewVerifier(id.VKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(note, v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestExample verifies each part of the example by itself, and its seven
// entries as a log.
func TestExample(t *testing.T) {
	e := readExample(t)
	for _, name := range exampleFiles(t, "proofs/*") {
		p, err := checkpoint.ParseProof(exampleFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := entry.Parse(e.log.Entries[p.Index].data)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(e.head.Checkpoint, parsed.Leaf()); err != nil || p.Index != numberOf(t, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range exampleFiles(t, "consistency/*") {
		old := openExample(t, e.identity, exampleFile(t, "data/checkpoints/"+filepath.Base(name)))
		proof, err := checkpoint.ParseConsistency(exampleFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.CheckConsistency(old.Checkpoint, e.head.Checkpoint, proof); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, a := range e.log.Artifacts {
		if sum := sha256.Sum256(a.data); hex.EncodeToString(sum[:]) != name {
			t.Errorf("artifact %s is another", name)
		}
	}
	if inside := exampleFile(t, "data/identity"); string(bytes.TrimSuffix(inside, []byte("\n"))) != e.line {
		t.Error("the bundle has another identity")
	}
	ev, err := event.Parse(exampleFile(t, "event-3.dsse.json"), event.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Receipt(exampleFile(t, "receipt-3.tlog-proof"), ev, e.identity)
	if err != nil || r.Index != 3 {
		t.Errorf("%+v %v", r, err)
	}

	report, err := e.log.verify()
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != verify.Verified || report.Size != 7 || report.Root != e.head.Root.String() || report.Artifacts != 4 || report.Checkpoints != 3 {
		t.Errorf("%+v", report)
	}
}

// TestExampleManifest: the example is the bundle as it was made.
func TestExampleManifest(t *testing.T) {
	for _, manifest := range []string{"manifest-sha256.txt", "tagmanifest-sha256.txt"} {
		for line := range strings.Lines(string(exampleFile(t, manifest))) {
			sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
			if got := sha256.Sum256(exampleFile(t, name)); hex.EncodeToString(got[:]) != sum {
				t.Errorf("%s is another file", name)
			}
		}
	}
}

// TestEveryByteCounts changes the bytes of every entry of the example, one at
// a time (every seventh byte, to be quick), and cuts and lengthens each entry:
// there is always a problem, one of them at that entry, and none before it.
func TestEveryByteCounts(t *testing.T) {
	e := readExample(t)
	step := 7
	if testing.Short() {
		step = 101
	}
	for i, it := range e.log.Entries {
		try := func(what string, changed []byte) {
			c := *e.log
			c.Entries = append([]item(nil), e.log.Entries...)
			c.Entries[i] = item{data: changed}
			r, err := c.verify()
			if err != nil {
				t.Fatalf("entry %d, %s: %v", i, what, err)
			}
			if r.Verdict != verify.Problems || !namesEntry(r, i) {
				t.Fatalf("entry %d, %s: %s %v", i, what, r.Verdict, found(r))
			}
		}
		for at := 0; at < len(it.data); at += step {
			changed := clone(it.data)
			changed[at] ^= 1 << (at % 7)
			try(fmt.Sprintf("byte %d", at), changed)
		}
		try("one byte less", cut(it.data, 1))
		try("one byte more", append(clone(it.data), '}'))
		try("nothing", nil)
	}
}

// namesEntry tells whether the problems of one changed entry name it, and no
// entry before it.
func namesEntry(r *verify.Report, changed int) bool {
	named := false
	for _, p := range r.Problems {
		if p.Index >= 0 && p.Index < int64(changed) {
			return false
		}
		named = named || p.Index == int64(changed)
	}
	return named
}
