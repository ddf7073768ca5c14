package checkpoint_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

// read returns a file of the example log, which another implementation wrote.
func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/example", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exampleLeaves(t testing.TB) (leaves []tlog.Hash) {
	t.Helper()
	for i := range 7 {
		leaves = append(leaves, tlog.RecordHash(read(t, fmt.Sprint("entries/", i))))
	}
	return leaves
}

func exampleVerifier(t testing.TB) note.Verifier {
	t.Helper()
	id, err := checkpoint.ParseIdentity(string(read(t, "identity")))
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := checkpoint.NewVerifier(id.VKey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func open(t testing.TB, b []byte, v note.Verifier) checkpoint.Checkpoint {
	t.Helper()
	s, err := checkpoint.Open(b, v)
	if err != nil {
		t.Fatal(err)
	}
	return s.Checkpoint
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if p := problem.Of(err); p == nil || p.Code != code {
		t.Errorf("got %v, want a problem %s", err, code)
	}
}

// Everything in the example that this package can judge verifies.
func TestExample(t *testing.T) {
	v := exampleVerifier(t)
	leaves := exampleLeaves(t)
	head := open(t, read(t, "checkpoint"), v)
	if head.Size != 7 || head.Origin != "ledger.example.org/evidence" {
		t.Fatalf("the checkpoint is %+v", head)
	}

	var tree checkpoint.Tree
	roots := []tlog.Hash{tree.Root()}
	for _, leaf := range leaves {
		tree.Add(leaf)
		roots = append(roots, tree.Root())
	}
	if roots[7] != head.Root {
		t.Error("the entries do not give the root")
	}

	for _, size := range []uint64{3, 5} {
		old := open(t, read(t, fmt.Sprint("checkpoints/", size)), v)
		if old.Size != size || old.Root != roots[size] {
			t.Errorf("checkpoint %d is %+v", size, old)
		}
		b := read(t, fmt.Sprint("consistency/", size))
		proof, err := checkpoint.ParseConsistency(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.CheckConsistency(old, head, proof); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(checkpoint.FormatConsistency(proof), b) {
			t.Errorf("consistency/%d is not the same when written again", size)
		}
	}
	for i, leaf := range leaves {
		checkExampleProof(t, fmt.Sprintf("proofs/%d.tlog-proof", i), uint64(i), leaf, v)
	}
}

func checkExampleProof(t *testing.T, name string, index uint64, leaf tlog.Hash, v note.Verifier) *checkpoint.Proof {
	t.Helper()
	b := read(t, name)
	p, err := checkpoint.ParseProof(b)
	if err != nil {
		t.Fatal(err)
	}
	if p.Index != index {
		t.Errorf("%s has index %d", name, p.Index)
	}
	if err := p.Verify(open(t, p.Checkpoint, v), leaf); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if !bytes.Equal(p.Marshal(), b) {
		t.Errorf("%s is not the same when written again", name)
	}
	return p
}

// A receipt and an envelope are enough: extra is the entry's header.
func TestExampleReceipt(t *testing.T) {
	v := exampleVerifier(t)
	p, err := checkpoint.ParseProof(read(t, "receipt-3.tlog-proof"))
	if err != nil {
		t.Fatal(err)
	}
	entry := append(bytes.Clone(p.Extra), read(t, "event-3.dsse.json")...)
	if !bytes.Equal(entry, read(t, "entries/3")) {
		t.Error("extra and the envelope are not the entry")
	}
	checkExampleProof(t, "receipt-3.tlog-proof", 3, tlog.RecordHash(entry), v)
}

func TestExampleIdentity(t *testing.T) {
	line := string(read(t, "identity"))
	id, err := checkpoint.ParseIdentity(line)
	if err != nil {
		t.Fatal(err)
	}
	if id.String()+"\n" != line || id.Floor != nil || id.Origin != "ledger.example.org/evidence" {
		t.Errorf("the identity was read as %+v", id)
	}
	if tlog.Hash(id.Genesis) != exampleLeaves(t)[0] {
		t.Error("the identity does not name entry 0")
	}
}
