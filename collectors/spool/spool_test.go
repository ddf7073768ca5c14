package spool_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify/submission"
)

const keyID = "475a456bd79b2c3519e82bcec98dffd04de70e40c4c7c5f25881960357c7dca9"

// record makes a record of n events whose payload names its number.
func record(key string, types ...string) spool.Record {
	r := spool.Record{Source: "test", Key: key}
	for i, typ := range types {
		r.Drafts = append(r.Drafts, spool.Draft{Type: typ, Make: func(seq uint64, prev [32]byte) (*spool.Item, error) {
			envelope := fmt.Appendf(nil, "%s %d %x %s", typ, seq, prev, key)
			return &spool.Item{ID: fmt.Sprintf("%s-%d", key, i), Payload: sha256.Sum256(envelope), Envelope: envelope,
				Artifacts: []submission.Artifact{{Name: "a.log", MediaType: "text/plain", Data: []byte(key)}}}, nil
		}})
	}
	return r
}

func open(t interface{ Fatal(...any) }, path string, bound int64) *spool.Spool {
	s, err := spool.Open(path, bound)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ids(items []*spool.Item) (ids []string) {
	for _, i := range items {
		ids = append(ids, i.ID)
	}
	return ids
}

// checkRun holds that numbers have neither gap nor double and that each event
// names the payload before it.
func checkRun(t interface{ Fatalf(string, ...any) }, items []*spool.Item) {
	last := map[string]*spool.Item{}
	for _, i := range items {
		var prev [32]byte
		want := uint64(1)
		if l := last[i.Type]; l != nil {
			prev, want = l.Payload, l.Seq+1
		}
		if i.Seq != want || !strings.HasPrefix(string(i.Envelope), fmt.Sprintf("%s %d %x ", i.Type, want, prev)) {
			t.Fatalf("item %s has seq %d and envelope %q, want seq %d after %x", i.ID, i.Seq, i.Envelope, want, prev)
		}
		last[i.Type] = i
	}
}

// TestModel compares the spool with lists in memory over random operations,
// and opens it again in between.
func TestModel(t *testing.T) {
	types := []string{"patch.run.completed", "access.accounts.observed"}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "spool.db")
		s := open(t, path, 0)
		defer func() { s.Close() }()
		var all []*spool.Item
		var pending, refused []string
		seen := map[string]bool{}
		receipts := 0
		pick := func(from []string) string {
			if len(from) == 0 {
				return "nothing"
			}
			return rapid.SampledFrom(from).Draw(t, "id")
		}
		drop := func(list []string, id string) []string {
			return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == id })
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				var records []spool.Record
				var want int
				for range rapid.IntRange(1, 4).Draw(t, "records") {
					key := fmt.Sprint("k", rapid.IntRange(0, 60).Draw(t, "key"))
					r := record(key, rapid.SliceOfN(rapid.SampledFrom(types), 1, 3).Draw(t, "types")...)
					records = append(records, r)
					if !seen[key] {
						want += len(r.Drafts)
					}
					seen[key] = true
				}
				added, err := s.Add(keyID, records...)
				if err != nil || len(added) != want {
					t.Fatalf("added %d of %d: %v", len(added), want, err)
				}
				all, pending = append(all, added...), append(pending, ids(added)...)
			},
			"fail": func(t *rapid.T) {
				r := record("bad", types[0], types[1])
				r.Drafts[1].Make = func(uint64, [32]byte) (*spool.Item, error) { return nil, errors.New("no key") }
				if added, err := s.Add(keyID, r); err == nil || len(added) != 0 {
					t.Fatalf("a record that cannot be signed: %d taken, %v", len(added), err)
				}
			},
			"release": func(t *rapid.T) {
				id := pick(pending)
				n, err := s.Release(nil, spool.Received{ID: id, Index: uint64(receipts)})
				if err != nil || (n == 1) != slices.Contains(pending, id) {
					t.Fatalf("released %d of %s: %v", n, id, err)
				}
				pending, receipts = drop(pending, id), receipts+n
			},
			"refuse": func(t *rapid.T) {
				id := pick(pending)
				err := s.Refuse(id, submission.Refusal{Code: "event.schema", Text: "no"})
				if !slices.Contains(pending, id) {
					if !errors.Is(err, spool.ErrUnknown) {
						t.Fatalf("refusing %s: %v", id, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				pending, refused = drop(pending, id), append(refused, id)
			},
			"retry": func(t *rapid.T) {
				if n, err := s.Retry(); err != nil || n != len(refused) {
					t.Fatalf("retried %d of %d: %v", n, len(refused), err)
				}
				pending, refused = append(pending, refused...), nil
			},
			"reopen": func(t *rapid.T) {
				before := s.Stats()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, path, 0)
				if after := s.Stats(); after != before {
					t.Fatalf("counted %+v after opening again, %+v before", after, before)
				}
			},
			"": func(t *rapid.T) {
				checkRun(t, all)
				have, err := s.Pending(0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSortedFunc(have, func(a, b *spool.Item) int { return int(a.Order) - int(b.Order) }) {
					t.Fatal("pending is not in order")
				}
				out, err := s.Refused(0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				for _, pair := range [][2][]string{{ids(have), pending}, {ids(out), refused}} {
					slices.Sort(pair[0])
					if !slices.Equal(pair[0], slices.Sorted(slices.Values(pair[1]))) {
						t.Fatalf("held %v, want %v", pair[0], pair[1])
					}
				}
				if st := s.Stats(); st.Pending != len(pending) || st.Refused != len(refused) || (st.Bytes == 0) != (len(pending)+len(refused) == 0) {
					t.Fatalf("stats %+v, want %d pending, %d refused", st, len(pending), len(refused))
				}
				newest, err := s.Receipts()
				if err != nil {
					t.Fatal(err)
				}
				count := 0
				for _, n := range newest {
					count += int(n.Count)
				}
				if count != receipts {
					t.Fatalf("%d receipts counted, want %d", count, receipts)
				}
			},
		})
	})
}

func TestBound(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), 2000)
	defer s.Close()
	var taken int
	var err error
	for i := 0; err == nil && i < 100; i++ {
		var added []*spool.Item
		added, err = s.Add(keyID, record(fmt.Sprint("k", i), "patch.run.completed"))
		taken += len(added)
	}
	if !errors.Is(err, spool.ErrFull) || taken == 0 || taken == 100 {
		t.Fatalf("took %d, then %v", taken, err)
	}
	next := fmt.Sprint("k", taken)
	if seen, _ := s.Seen("test", next); seen {
		t.Fatal("what was not taken is marked as seen")
	}
	items, _ := s.Pending(0, 1)
	if _, err := s.Release(nil, spool.Received{ID: items[0].ID}); err != nil {
		t.Fatal(err)
	}
	added, err := s.Add(keyID, record(next, "patch.run.completed"))
	if err != nil || len(added) != 1 || added[0].Seq != uint64(taken+1) {
		t.Fatalf("after a release: %v, %v", added, err)
	}
}

// TestFailedRecord: a record that cannot be made stops none of the others.
func TestFailedRecord(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "spool.db"), 0)
	defer s.Close()
	bad := record("bad", "patch.run.completed")
	bad.Drafts[0].Make = func(uint64, [32]byte) (*spool.Item, error) { return nil, errors.New("broken") }
	added, err := s.Add(keyID, record("a", "patch.run.completed"), bad, record("b", "patch.run.completed"))
	if err == nil || !strings.Contains(err.Error(), "record bad: broken") {
		t.Fatalf("the error is %v", err)
	}
	if len(added) != 2 {
		t.Fatalf("%d taken, want 2", len(added))
	}
	checkRun(t, added)
}

func TestBusyAndForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, 0)
	if _, err := spool.Open(path, 0); !errors.Is(err, spool.ErrBusy) {
		t.Fatalf("a second holder: %v", err)
	}
	s.Close()
	if err := os.WriteFile(path, []byte(strings.Repeat("not a spool ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open(path, 0); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("a foreign file: %v", err)
	}
}

// TestKill kills a process in the middle of its Adds, many times over, and
// holds that what it had reported is there and that numbers run on.
func TestKill(t *testing.T) {
	if path := os.Getenv("SPOOL_TEST_CHILD"); path != "" {
		child(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "spool.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var reported []string
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "SPOOL_TEST_CHILD="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if id, ok := strings.CutPrefix(lines.Text(), "added "); ok {
				reported = append(reported, id)
			}
			if first {
				time.AfterFunc(time.Duration(random.IntN(40))*time.Millisecond, cancel)
			}
		}
		cmd.Wait()
		cancel()
	}
	s := open(t, path, 0)
	defer s.Close()
	items, err := s.Pending(0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	checkRun(t, items)
	have := ids(items)
	for _, id := range reported {
		if !slices.Contains(have, id) {
			t.Errorf("%s was reported as added and is gone", id)
		}
	}
	if slices.Sort(have); len(slices.Compact(slices.Clone(have))) != len(have) {
		t.Error("a record was taken twice")
	}
	t.Logf("%d items, %d reported", len(items), len(reported))
}

// child adds the records from the first on: those before the kill are seen.
func child(t *testing.T, path string) {
	s := open(t, path, 0)
	for i := 0; ; i += 3 {
		var records []spool.Record
		for k := range 3 {
			records = append(records, record(fmt.Sprint("k", i+k), "patch.run.completed"))
		}
		added, err := s.Add(keyID, records...)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range added {
			fmt.Println("added", item.ID)
		}
	}
}
