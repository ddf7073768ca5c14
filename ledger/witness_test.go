package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

// TestEveryCollectorAWitness: a node that was put back to an older copy stops as
// soon as a collector shows what it has seen, and stays stopped over a restart
// until the newer copy is back. A note by nobody's key stops nothing.
func TestEveryCollectorAWitness(t *testing.T) {
	dir := t.TempDir()
	l := ledgertest.Create(t, filepath.Join(dir, "now"), nil)
	c := l.Enrol("web-1", "patch.*")
	l.Must(c.Event("one").Candidate())
	early := l.Head().Note
	l.Close()
	if err := os.CopyFS(filepath.Join(dir, "backup"), os.DirFS(l.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	l.Must(c.Event("two").Candidate())
	late := l.Head().Note
	for _, note := range [][]byte{early, late, early} {
		if err := l.Witness(note); err != nil {
			t.Errorf("a note of this very log: %v", err)
		}
	}
	l.Close()

	// Last week's backup, restored whole, goes on signing ...
	open := func(folder string) (*ledger.Ledger, error) {
		l.Dir = filepath.Join(dir, folder)
		var err error
		if l.Store, err = store.Open(l.Dir, store.Options{}); err != nil {
			t.Fatal(err)
		}
		config := l.Config()
		config.Conflicts = filepath.Join(l.Dir, "conflict")
		old, err := ledger.Open(config)
		if err != nil {
			l.Close()
		}
		return old, err
	}
	old, err := open("backup")
	if err != nil {
		t.Fatal(err)
	}
	strange, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: ledgertest.Origin, Size: 99}, noteSigner(t))
	if err != nil {
		t.Fatal(err)
	}
	if p := problem.Of(old.Witness(strange)); p == nil || p.Code != "submission.checkpoint-unknown" {
		t.Errorf("a note by an unknown key: %v", p)
	}
	append1 := func() error {
		_, err := old.Append([]*ledger.Candidate{c.Event("another").Candidate()})
		return err
	}
	if err := append1(); err != nil {
		t.Errorf("before anybody showed anything: %v", err)
	}
	// ... until a collector sends along what it has seen.
	var conflict *ledger.ConflictError
	if err := old.Witness(late); !errors.As(err, &conflict) || string(conflict.Theirs) != string(late) {
		t.Fatalf("a note from beyond the backup: %v", err)
	}
	if err := append1(); !errors.As(err, &conflict) {
		t.Errorf("the ledger went on: %v", err)
	}
	l.Close()
	if _, err := open("backup"); !errors.As(err, &conflict) {
		t.Errorf("the ledger opened again: %v", err)
	}
	// The newer copy is put back beside the kept notes: it fits them.
	if err := os.CopyFS(filepath.Join(dir, "now", "conflict"), os.DirFS(filepath.Join(dir, "backup", "conflict"))); err != nil {
		t.Fatal(err)
	}
	if _, err := open("now"); err != nil {
		t.Errorf("the newer copy: %v", err)
	}
	l.Close()
}

func noteSigner(t *testing.T) note.Signer {
	private, err := ledgertest.Key(t).Ed25519()
	if err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.NewSigner(ledgertest.Origin, private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
