package spool_test

import (
	"errors"
	"path/filepath"
	"testing"

	"evidence-ledger/collectors/spool"
)

// TestCovered: a record that another one covers is seen as soon as that one is,
// not earlier, and takes no number.
func TestCovered(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), 0)
	defer s.Close()
	covered := func(key, by string) spool.Record { return spool.Record{Source: "test", Key: key, CoveredBy: by} }
	bad := record("bad", "patch.run.completed")
	bad.Drafts[0].Make = func(uint64, [32]byte) (*spool.Item, error) { return nil, errors.New("broken") }
	add := func(want int, fails bool, records ...spool.Record) {
		t.Helper()
		added, err := s.Add(keyID, records...)
		if len(added) != want || added == nil || (err != nil) != fails {
			t.Fatalf("%d taken, want %d: %v", len(added), want, err)
		}
	}
	add(1, false, record("a", "patch.run.completed"), covered("a1", "a"), covered("b1", "b"), covered("x", ""))
	add(0, true, covered("bad1", "bad"), bad, covered("bad2", "bad"))
	add(0, false, covered("a2", "a"), covered("a1", "a"), spool.Record{Source: "other", Key: "a3", CoveredBy: "a"})
	for key, want := range map[string]bool{"a": true, "a1": true, "a2": true, "b1": false, "x": false, "bad": false, "bad1": false, "bad2": false} {
		if seen, err := s.Seen("test", key); seen != want || err != nil {
			t.Errorf("%s is seen: %v, want %v: %v", key, seen, want, err)
		}
	}
	if seen, _ := s.Seen("other", "a3"); seen {
		t.Error("another source's record covers")
	}
	// What is covered comes no more; what is not does.
	add(2, false, record("a1", "patch.run.completed"), record("b1", "patch.run.completed"), record("bad1", "patch.run.completed"))
	items, err := s.Pending(0, 10)
	if err != nil || len(items) != 3 {
		t.Fatalf("%d items: %v", len(items), err)
	}
	checkRun(t, items)
}

// TestCoveredWhenFull: a mark takes no room.
func TestCoveredWhenFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, 0)
	if _, err := s.Add(keyID, record("a", "patch.run.completed")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path, 1)
	defer s.Close()
	if _, err := s.Add(keyID, spool.Record{Source: "test", Key: "a1", CoveredBy: "a"}); err != nil {
		t.Fatal(err)
	}
	if seen, err := s.Seen("test", "a1"); !seen || err != nil {
		t.Errorf("seen: %v, %v", seen, err)
	}
}
