package recheck_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/recheck"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
)

// FuzzRows changes the bytes of one row of a small ledger, or puts one in or
// takes one out, as Pebble itself would write it. Nothing but what lies outside
// the log's guarantees can change without being named.
func FuzzRows(f *testing.F) {
	fsys, identity := smallLedger(f)
	if r := verifyRows(f, fsys.CrashClone(vfs.CrashCloneCfg{}), identity); r.Verdict != verify.Verified {
		f.Fatal(list(r))
	}
	tables := store.Tables()
	for i := range tables {
		for op := range uint8(4) {
			f.Add(uint8(i), uint8(0), op, uint16(7), uint16(1), []byte("\x01"))
			f.Add(uint8(i), uint8(1), op, uint16(0), uint16(0), []byte("\x00\xff"))
			f.Add(uint8(i), uint8(2), op, uint16(1<<15), uint16(0), []byte{})
		}
	}
	f.Fuzz(func(t *testing.T, table, nth, op uint8, at, n uint16, with []byte) {
		fsys := fsys.CrashClone(vfs.CrashCloneCfg{})
		from := tables[int(table)%len(tables)]
		to, same := changeRow(t, fsys, from, int(nth), op, at, n, with)
		r := verifyRows(t, fsys, identity)
		if r == nil {
			if from != store.TableMeta && to != store.TableMeta {
				t.Fatal("the store cannot be opened for verifying")
			}
			return
		}
		if same && r.Verdict != verify.Verified {
			t.Fatalf("not verified, though nothing was changed:\n%s", list(r))
		}
		outside := []store.Table{store.TableQuarantine, store.TableQuarantineState, store.TableRejections}
		if !same && r.Verdict == verify.Verified && !(slices.Contains(outside, from) && slices.Contains(outside, to)) {
			t.Fatalf("verified, though a row of table %s was changed", from)
		}
	})
}

func smallLedger(f *testing.F) (*vfs.MemFS, *checkpoint.Identity) {
	fsys := vfs.NewCrashableMem()
	l := ledgertest.Create(f, "ledger", fsys)
	web := l.Enrol("web-1", "patch.*")
	l.Must(web.Event("one").Candidate())
	l.Must(web.Event("two").Candidate(), web.Event("three").Candidate())
	b := l.Store.NewBatch()
	b.PutQuarantine(store.Quarantined{Collector: "web-1", Time: "2026-11-24T08:00:00.000000Z", Subject: "s", Code: "event.schema", Text: "no", Body: []byte("body")})
	b.PutRejections([]byte(`{"from":"2026-11-24T08:00:00.000000Z","collectors":{"web-1":{"event.schema":1}}}`))
	if err := l.Store.Commit(b); err != nil {
		f.Fatal(err)
	}
	l.Close()
	return fsys, l.Identity
}

// changeRow changes the store through Pebble's own API. It tells to which table the
// row belongs now, and whether it is as it was.
func changeRow(t *testing.T, fsys vfs.FS, table store.Table, nth int, op uint8, at, n uint16, with []byte) (store.Table, bool) {
	t.Helper()
	db, err := pebble.Open("ledger/store", &pebble.Options{FS: fsys, FormatMajorVersion: pebble.FormatValueSeparation, ErrorIfNotExists: true, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	r := &rows{t: t, db: db}
	keys := r.keys(table)
	if len(keys) == 0 {
		return table, true
	}
	key := keys[nth%len(keys)]
	value, closer, err := db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	value = bytes.Clone(value)
	closer.Close()
	spliced := func(b []byte) []byte {
		from := min(int(at), len(b))
		return slices.Concat(b[:from], with, b[min(from+int(n), len(b)):])
	}
	put := func(key, value []byte) (store.Table, bool) {
		is, closer, err := db.Get(key)
		same := err == nil && bytes.Equal(is, value)
		if err == nil {
			closer.Close()
		}
		if err := db.Set(key, value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if len(key) == 0 {
			return 0, same
		}
		return store.Table(key[0]), same
	}
	switch op % 4 {
	case 0: // another value
		return put(key, spliced(value))
	case 1: // one row more
		return put(spliced(key), value)
	case 2: // another key
		other := spliced(key)
		to, same := put(other, value)
		if !bytes.Equal(key, other) {
			same = false
			if err := db.Delete(key, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
		return to, same
	default: // one row less
		if err := db.Delete(key, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		return table, false
	}
}

// verifyRows is what `ledger verify` does; nil where the store cannot be opened.
func verifyRows(t testing.TB, fsys vfs.FS, id *checkpoint.Identity) *verify.Report {
	t.Helper()
	s, err := store.Open("ledger", store.Options{FS: fsys, ReadOnly: true})
	if err != nil {
		return nil
	}
	second := store.NewSecondPlace(fsys, store.SecondPlaceFolder(fsys, "ledger"))
	d, err := recheck.Read(second, store.NewArtifacts(fsys, "ledger"), func() (*store.Snapshot, error) { return s.Snapshot(), nil })
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Verify(context.Background(), verify.Options{Identity: id, Now: ledgertest.Begin.Add(time.Hour)})
	d.Snapshot.Close()
	if errors.Is(err, verify.ErrEmpty) {
		r, err = &verify.Report{Verdict: verify.Problems}, nil
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatalf("a changed row is taken for a failure of the machine: %v", err)
	}
	return r
}
