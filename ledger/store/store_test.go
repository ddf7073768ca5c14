package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"evidence-ledger/ledger/store"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const dir = "/ledger"

var (
	keyA = strings.Repeat("ab", 32)
	keyB = strings.Repeat("cd", 32)
)

func create(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t testing.TB, s *store.Store, b *store.Batch) {
	t.Helper()
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// raw is entry index, as any program can make it again: every third one is
// small, so that values are kept in blocks and in blob files.
func raw(index uint64) []byte {
	n := 3000
	if index%3 == 0 {
		n = 300
	}
	return bytes.Repeat([]byte(fmt.Sprintf("entry %d. ", index)), n/9)
}

func uuid(index uint64) string { return fmt.Sprintf("019c0000-0000-7000-8000-%012x", index) }

func stream(index uint64) (name string, number uint64) {
	return fmt.Sprintf("patch.run%d", index%3), index / 3
}

func note(size uint64) []byte { return fmt.Appendf(nil, "note of size %d\n", size) }

// fill adds all rows of entries from..to-1, and the checkpoint of size to.
func fill(b *store.Batch, from, to uint64, chain [32]byte) [32]byte {
	for i := from; i < to; i++ {
		b.PutEntry(i, raw(i))
		b.PutID(uuid(i), i)
		name, number := stream(i)
		b.PutNumber(name, number, i)
		b.PutSeq(keyA, name, number+1, i)
	}
	chain = store.NextChain(chain, note(to))
	b.PutCheckpoint(to, chain, note(to))
	return chain
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// checkRows holds that the store has exactly the rows of n entries.
func checkRows(t testing.TB, s *store.Store, n uint64) {
	t.Helper()
	r := s.Snapshot()
	defer r.Close()
	size, err := r.Size()
	if err != nil || size != n {
		t.Fatalf("size %d, %v; want %d", size, err, n)
	}
	next := uint64(0)
	if err := r.Entries(0, func(i uint64, data []byte) error {
		if i != next || !bytes.Equal(data, raw(i)) {
			t.Fatalf("entry %d, expected %d, or other content", i, next)
		}
		next++
		return nil
	}); err != nil || next != n {
		t.Fatalf("%d entries, %v", next, err)
	}
	rows := map[store.Table]uint64{}
	for _, table := range store.Tables() {
		if err := r.Rows(table, func(key, value []byte) error { rows[table]++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []store.Table{store.TableEntries, store.TableIDs, store.TableStreams, store.TableSeqs} {
		if rows[table] != n && table != store.TableSeqs || rows[table] < n {
			t.Fatalf("table %s has %d rows, want %d", table, rows[table], n)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	fs := vfs.NewMem()
	s := create(t, store.Options{FS: fs})
	tile := bytes.Repeat([]byte{7}, store.TileSize)
	b := s.NewBatch()
	chain := fill(b, 0, 20, [32]byte{})
	b.PutTile(1, 3, tile)
	b.PutSeq(keyB, "access.review", 5, 19)
	b.PutRejections([]byte("counts"))
	b.PutQuarantine(store.Quarantined{Collector: "web-1", Time: "t", Subject: "s", ID: "i", Code: "event.schema",
		Where: "w", Text: "two\nlines", Payload: "p", Signed: true, Body: []byte("\n{\x00}\n")})
	same(t, "Len", b.Len(), 20*4+1+1+1+1+1)
	commit(t, s, b)
	for _, state := range []string{"in memory", "after opening anew"} {
		t.Run(state, func(t *testing.T) {
			checkRows(t, s, 20)
			checkReads(t, s, tile, chain)
		})
		closeStore(t, s)
		s = open(t, dir, store.Options{FS: fs})
	}
	closeStore(t, s)
}

func checkReads(t *testing.T, s *store.Store, tile []byte, chain [32]byte) {
	r := s.Snapshot()
	defer r.Close()
	data, err := r.Entry(7)
	same(t, "Entry", string(data)+fmt.Sprint(err), string(raw(7))+"<nil>")
	data, err = r.Tile(1, 3)
	same(t, "Tile", string(data)+fmt.Sprint(err), string(tile)+"<nil>")
	i, err := r.IndexOfID(uuid(9))
	same(t, "IndexOfID", fmt.Sprint(i, err), "9 <nil>")
	i, err = r.IndexOfNumber("patch.run1", 2)
	same(t, "IndexOfNumber", fmt.Sprint(i, err), "7 <nil>")
	i, err = r.IndexOfSeq(keyB, "access.review", 5)
	same(t, "IndexOfSeq", fmt.Sprint(i, err), "19 <nil>")
	streams, err := r.Streams()
	same(t, "Streams", fmt.Sprint(streams, err), "map[patch.run0:{7 18} patch.run1:{7 19} patch.run2:{6 17}] <nil>")
	last, err := r.LastSeqs(keyA)
	same(t, "LastSeqs", fmt.Sprint(last, err), "map[patch.run0:{7 18} patch.run1:{7 19} patch.run2:{6 17}] <nil>")
	last, err = r.LastSeqs(strings.Repeat("00", 32))
	same(t, "LastSeqs of nobody", fmt.Sprint(last, err), "map[] <nil>")
	size, c, n, err := r.LatestCheckpoint()
	same(t, "LatestCheckpoint", fmt.Sprint(size, c, string(n), err), fmt.Sprint(20, chain, string(note(20)), nil))
	c, n, err = r.CheckpointAt(20)
	same(t, "CheckpointAt", fmt.Sprint(c, string(n), err), fmt.Sprint(chain, string(note(20)), nil))
	counts, err := r.Rejections()
	same(t, "Rejections", string(counts)+fmt.Sprint(err), "counts<nil>")
	q, err := r.QuarantineRecord("web-1", 1)
	same(t, "QuarantineRecord", q, store.Quarantined{Collector: "web-1", Number: 1, Time: "t", Subject: "s", ID: "i",
		Code: "event.schema", Where: "w", Text: "two\nlines", Payload: "p", Signed: true, Body: []byte("\n{\x00}\n")})
	same(t, "error", err, nil)
	checkAbsent(t, r)
}

func checkAbsent(t *testing.T, r *store.Snapshot) {
	errs := map[string]error{}
	_, errs["Entry"] = r.Entry(20)
	_, errs["Tile"] = r.Tile(0, 3)
	_, errs["IndexOfID"] = r.IndexOfID(uuid(20))
	_, errs["IndexOfNumber"] = r.IndexOfNumber("patch.run1", 7)
	_, errs["IndexOfSeq"] = r.IndexOfSeq(keyA, "access.review", 5)
	_, _, errs["CheckpointAt"] = r.CheckpointAt(19)
	_, errs["QuarantineRecord"] = r.QuarantineRecord("web-1", 2)
	for what, err := range errs {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	s := create(t, store.Options{FS: vfs.NewMem()})
	defer closeStore(t, s)
	r := s.Snapshot()
	defer r.Close()
	size, err := r.Size()
	same(t, "Size", fmt.Sprint(size, err), "0 <nil>")
	if _, _, _, err := r.LatestCheckpoint(); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	counts, err := r.Rejections()
	same(t, "Rejections", fmt.Sprint(counts, err), "[] <nil>")
	streams, err := r.Streams()
	same(t, "Streams", fmt.Sprint(streams, err), "map[] <nil>")
}

// TestRowNames decodes every row of a store and names it as a report does.
func TestRowNames(t *testing.T) {
	s := create(t, store.Options{FS: vfs.NewMem()})
	defer closeStore(t, s)
	b := s.NewBatch()
	fill(b, 0, 1, [32]byte{})
	b.PutTile(2, 5, make([]byte, store.TileSize))
	b.PutQuarantine(store.Quarantined{Collector: "web-1"})
	b.PutRejections(nil)
	commit(t, s, b)
	r := s.Snapshot()
	defer r.Close()
	var names []string
	for _, table := range store.Tables() {
		if err := r.Rows(table, func(key, value []byte) error {
			names = append(names, store.RowName(key))
			return decode(table, key, value)
		}); err != nil {
			t.Error(err)
		}
	}
	same(t, "names", strings.Join(names, "\n"), strings.Join([]string{
		`quarantine-state row "web-1"`, "checkpoint 1", "entry 0", "id " + uuid(0), "key " + keyA + " type patch.run0 seq 1",
		`meta row "format"`, "quarantine web-1 number 1", `rejections row ""`, "stream patch.run0 number 0", "tile level 2 number 5",
	}, "\n"))
	if err := r.Foreign(func(key []byte) error { return fmt.Errorf("foreign row %x", key) }); err != nil {
		t.Error(err)
	}
}

func decode(table store.Table, key, value []byte) (err error) {
	switch table {
	case store.TableEntries:
		_, err = store.DecodeEntry(key, value)
	case store.TableTiles:
		_, err = store.DecodeTile(key, value)
	case store.TableIDs:
		_, err = store.DecodeID(key, value)
	case store.TableStreams:
		_, err = store.DecodeStream(key, value)
	case store.TableSeqs:
		_, err = store.DecodeSeq(key, value)
	case store.TableCheckpoints:
		_, err = store.DecodeCheckpoint(key, value)
	case store.TableQuarantine:
		_, err = store.DecodeQuarantined(key, value)
	case store.TableQuarantineState:
		_, _, err = store.DecodeQuarantineState(key, value)
	}
	return err
}

// FuzzDecode gives every decoder a damaged row.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("e\x00\x00\x00\x00\x00\x00\x00\x01"), []byte("raw"))
	f.Add([]byte("spatch.run\x00\x00\x00\x00\x00\x00\x00\x00\x01"), make([]byte, 8))
	f.Add([]byte("qweb-1\x00\x00\x00\x00\x00\x00\x00\x00\x01"), []byte("{\"time\":\"\",\"subject\":\"\",\"id\":\"\",\"code\":\"\",\"text\":\"\"}\nbody"))
	f.Add([]byte("s\x00"), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if store.RowName(key) == "" {
			t.Error("a row without a name")
		}
		for _, table := range store.Tables() {
			_ = decode(table, key, value)
		}
	})
}

func TestAppendOnly(t *testing.T) {
	s := create(t, store.Options{FS: vfs.NewMem()})
	defer closeStore(t, s)
	b := s.NewBatch()
	fill(b, 0, 3, [32]byte{})
	commit(t, s, b)
	if err := s.Commit(b); err == nil {
		t.Error("the same batch twice")
	}
	for what, put := range map[string]func(*store.Batch){
		"entry again":       func(b *store.Batch) { b.PutEntry(2, nil) },
		"entry left out":    func(b *store.Batch) { b.PutEntry(4, nil) },
		"gap in the batch":  func(b *store.Batch) { b.PutEntry(3, nil); b.PutEntry(5, nil) },
		"checkpoint again":  func(b *store.Batch) { b.PutCheckpoint(3, [32]byte{}, nil) },
		"checkpoint beyond": func(b *store.Batch) { b.PutCheckpoint(4, [32]byte{}, nil) },
		"checkpoints backwards": func(b *store.Batch) {
			b.PutEntry(3, nil)
			b.PutCheckpoint(4, [32]byte{}, nil)
			b.PutCheckpoint(4, [32]byte{}, nil)
		},
		"id":             func(b *store.Batch) { b.PutID(strings.ToUpper(uuid(11)), 1) },
		"key":            func(b *store.Batch) { b.PutSeq(strings.ToUpper(keyA), "a.b", 1, 1) },
		"type":           func(b *store.Batch) { b.PutSeq(keyA, "", 1, 1) },
		"stream":         func(b *store.Batch) { b.PutNumber("a\x00b", 1, 1) },
		"part of a tile": func(b *store.Batch) { b.PutTile(0, 1, make([]byte, 32)) },
		"collector":      func(b *store.Batch) { b.PutQuarantine(store.Quarantined{}) },
	} {
		b := s.NewBatch()
		put(b)
		b.PutRejections([]byte("of a refused batch"))
		if err := s.Commit(b); err == nil || errors.Is(err, store.ErrFailed) {
			t.Errorf("%s: %v, want an error that leaves the store usable", what, err)
		}
	}
	checkRows(t, s, 3)
	r := s.Snapshot()
	defer r.Close()
	if counts, _ := r.Rejections(); counts != nil {
		t.Error("a refused batch was written in part")
	}
}

// TestSnapshot holds that a snapshot does not move, and that a new one is not
// ahead of the commit.
func TestSnapshot(t *testing.T) {
	s := create(t, store.Options{FS: vfs.NewMem()})
	b := s.NewBatch()
	chain := fill(b, 0, 3, [32]byte{})
	commit(t, s, b)
	r := s.Snapshot()
	b = s.NewBatch()
	fill(b, 3, 5, chain)
	commit(t, s, b)
	size, err := r.Size()
	same(t, "Size", fmt.Sprint(size, err), "3 <nil>")
	checkRows(t, s, 5)
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 snapshots are open") {
		t.Errorf("close under a reader: %v", err)
	}
	r.Close()
	r.Close()
	if _, err := r.Size(); !errors.Is(err, store.ErrClosed) {
		t.Error(err)
	}
	closeStore(t, s)
	closeStore(t, s)
	if _, err := s.Snapshot().Size(); !errors.Is(err, store.ErrClosed) {
		t.Error(err)
	}
	if err := s.Commit(b); !errors.Is(err, store.ErrClosed) {
		t.Error(err)
	}
}

func TestCreateRefusals(t *testing.T) {
	fs := vfs.NewMem()
	closeStore(t, create(t, store.Options{FS: fs}))
	if _, err := store.Create(dir, store.Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "a ledger is there already") {
		t.Error(err)
	}
	writeFile(t, fs, "/other/file", "")
	if _, err := store.Create("/other", store.Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "not empty (file)") {
		t.Error(err)
	}
	if _, err := store.Create("/new", store.Options{FS: fs, ReadOnly: true}); err == nil {
		t.Error("created read-only")
	}
	// The root of a disk of its own.
	writeFile(t, fs, "/disk/lost+found/x", "")
	s, err := store.Create("/disk", store.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
}

func TestOpenRefusals(t *testing.T) {
	fs := vfs.NewMem()
	s := create(t, store.Options{FS: fs})
	refused := func(dir, want string, is error) {
		t.Helper()
		for _, readOnly := range []bool{false, true} {
			_, err := store.Open(dir, store.Options{FS: fs, ReadOnly: readOnly})
			if err == nil || !strings.Contains(err.Error(), want) || is != nil && !errors.Is(err, is) {
				t.Errorf("open %s: %v, want %q", dir, err, want)
			}
		}
	}
	refused(dir, "in use by another process", store.ErrLocked)
	closeStore(t, s)

	refused("/absent", "does not exist: no ledger here", store.ErrNoLedger)
	if _, err := fs.Stat("/absent"); err == nil {
		t.Error("Open created something")
	}
	if err := fs.MkdirAll("/empty", 0o700); err != nil {
		t.Fatal(err)
	}
	refused("/empty", "is empty: no ledger here", store.ErrNoLedger)
	writeFile(t, fs, "/foreign/file", "")
	refused("/foreign", "no file FORMAT", store.ErrNoLedger)
	for _, text := range []string{"", "hello\n", "evidence-ledger/store@v01\n", "evidence-ledger/store@v1", "evidence-ledger/store@v0\n"} {
		writeFile(t, fs, "/strange/FORMAT", text)
		refused("/strange", "FORMAT is not ours", store.ErrNoLedger)
	}
	writeFile(t, fs, "/newer/FORMAT", "evidence-ledger/store@v2\n")
	refused("/newer", "use a newer program", nil)
	writeFile(t, fs, "/half/FORMAT", "evidence-ledger/store@v1\n")
	refused("/half", "incomplete", nil)
	writeFile(t, fs, "/half/store/x", "")
	refused("/half", "incomplete", nil)

	setFormat(t, fs, []byte{0, 0, 0, 2})
	refused(dir, "has format version 2, this program knows up to 1", nil)
	setFormat(t, fs, []byte{0, 0, 0, 0})
	refused(dir, "do not belong together", nil)
	setFormat(t, fs, nil)
	refused(dir, "no format version", nil)
}

// TestForeignRows puts rows where no table is, through Pebble itself.
func TestForeignRows(t *testing.T) {
	fs := vfs.NewMem()
	closeStore(t, create(t, store.Options{FS: fs}))
	db, err := pebble.Open(dir+"/store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"A", "d", "z", "\xff\xff", "short", "eee"} {
		if err := db.Set([]byte(key), nil, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, store.Options{FS: fs, ReadOnly: true})
	defer closeStore(t, s)
	r := s.Snapshot()
	defer r.Close()
	var names []string
	if err := r.Foreign(func(key []byte) error { names = append(names, store.RowName(key)); return nil }); err != nil {
		t.Fatal(err)
	}
	same(t, "foreign", strings.Join(names, ", "), `table 0x41 row "", table 0x64 row "", entries row 6565, table 0x7a row "", table 0xff row "\xff"`)
	var corrupt *store.CorruptError
	if _, err := r.Streams(); !errors.As(err, &corrupt) || corrupt.Row != "streams row 686f7274" {
		t.Errorf("a malformed key of a stream: %v", err)
	}
	if err := r.Entries(0, func(uint64, []byte) error { return errors.New("called") }); err != nil {
		t.Errorf("a malformed key of an entry: %v", err)
	}
}

// setFormat changes the store's version behind its back.
func setFormat(t *testing.T, fs vfs.FS, version []byte) {
	t.Helper()
	db, err := pebble.Open(dir+"/store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	if version != nil {
		err = db.Set([]byte("mformat"), version, pebble.Sync)
	} else {
		err = db.Delete([]byte("mformat"), pebble.Sync)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func writeFile(t testing.TB, fs vfs.FS, path, text string) {
	t.Helper()
	err := fs.MkdirAll(fs.PathDir(path), 0o700)
	if err == nil {
		var f vfs.File
		if f, err = fs.Create(path, vfs.WriteCategoryUnspecified); err == nil {
			_, err = f.Write([]byte(text))
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLockedOnDisk is the lock between processes, as far as one process can
// show it, on the machine's file system.
func TestLockedOnDisk(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Create(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%v, want ErrLocked", err)
	}
	closeStore(t, s)
	closeStore(t, open(t, dir, store.Options{ReadOnly: true}))
}

func TestReadOnly(t *testing.T) {
	fs := vfs.NewMem()
	s := create(t, store.Options{FS: fs})
	b := s.NewBatch()
	fill(b, 0, 3, [32]byte{})
	commit(t, s, b)
	closeStore(t, s)
	s = open(t, dir, store.Options{FS: fs, ReadOnly: true})
	b = s.NewBatch()
	b.PutRejections(nil)
	if err := s.Commit(b); err == nil {
		t.Error("wrote to a read-only store")
	}
	checkRows(t, s, 3)
	closeStore(t, s)
}

// TestCheckpointWhileWriting opens copies of a store that is being written.
func TestCheckpointWhileWriting(t *testing.T) {
	dir := t.TempDir() + "/ledger"
	s, err := store.Create(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	stop := make(chan struct{})
	go func() {
		var chain [32]byte
		for n := uint64(0); ; n += 20 {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			b := s.NewBatch()
			chain = fill(b, n, n+20, chain)
			if err := s.Commit(b); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 5 {
		copied := fmt.Sprintf("%s-copy-%d", dir, i)
		before := size(t, s)
		if err := s.Checkpoint(copied); err != nil {
			t.Fatal(err)
		}
		after := size(t, s)
		c := open(t, copied, store.Options{ReadOnly: true})
		n := size(t, c)
		if n < before || n > after || n%20 != 0 {
			t.Errorf("copy has %d entries, store had %d before and %d after", n, before, after)
		}
		checkRows(t, c, n)
		closeStore(t, c)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(dir); err == nil {
		t.Error("copied over a ledger")
	}
	closeStore(t, s)
}

func size(t testing.TB, s *store.Store) uint64 {
	t.Helper()
	r := s.Snapshot()
	defer r.Close()
	n, err := r.Size()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQuarantineBounds(t *testing.T) {
	fs := vfs.NewMem()
	o := store.Options{FS: fs, QuarantineRecords: 3, QuarantineBytes: 2000}
	s := create(t, o)
	put := func(collector string, bodies ...string) {
		t.Helper()
		b := s.NewBatch()
		for _, body := range bodies {
			b.PutQuarantine(store.Quarantined{Collector: collector, Subject: "\xff", Body: []byte(body)})
		}
		commit(t, s, b)
	}
	check := func(collector, bodies string, evicted uint64) {
		t.Helper()
		r := s.Snapshot()
		defer r.Close()
		var got []string
		if err := r.Quarantine(collector, func(q store.Quarantined) error {
			got = append(got, fmt.Sprintf("%d:%.1s", q.Number, q.Body))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		same(t, "records of "+collector, strings.Join(got, " "), bodies)
		st, err := r.QuarantineState(collector)
		if err != nil || st.Evicted != evicted || st.Records != uint64(len(got)) || st.Bytes > 2000 {
			t.Errorf("%+v, %v, want %d evicted", st, err, evicted)
		}
	}
	put("web-1", "a", "b")
	put("web-2", "x")
	check("web-1", "1:a 2:b", 0)
	put("web-1", "c", "d")
	check("web-1", "2:b 3:c 4:d", 1)
	put("web-1", "e", "f", "g", "h", "i") // more at once than are kept
	check("web-1", "7:g 8:h 9:i", 6)
	put("web-1", strings.Repeat("j", 1840)) // by bytes
	check("web-1", "9:i 10:j", 8)
	put("web-1", strings.Repeat("k", 3000)) // alone too large
	check("web-1", "", 11)

	closeStore(t, s)
	s = open(t, dir, o)
	put("web-1", "l", "m", "n")
	b := s.NewBatch()
	b.DeleteQuarantine("web-1", 12)
	b.DeleteQuarantine("web-1", 12)
	b.DeleteQuarantine("web-1", 99)
	b.PutQuarantine(store.Quarantined{Collector: "web-1", Body: []byte("o")})
	commit(t, s, b)
	check("web-1", "13:m 14:n 15:o", 11)
	check("web-2", "1:x", 0)
	r := s.Snapshot()
	var all []string
	if err := r.Quarantine("", func(q store.Quarantined) error {
		all = append(all, q.String())
		return nil
	}); err != nil {
		t.Error(err)
	}
	r.Close()
	same(t, "all", len(all), 4)
	closeStore(t, s)
}

func TestNextChain(t *testing.T) {
	first := store.NextChain([32]byte{}, []byte("a"))
	same(t, "first", first, sha256.Sum256(append(make([]byte, 32), 'a')))
	same(t, "second", store.NextChain(first, []byte("b")), sha256.Sum256(append(first[:], 'b')))
}
