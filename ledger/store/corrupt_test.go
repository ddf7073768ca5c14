package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"evidence-ledger/ledger/store"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func readAll(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// atRest makes a closed store of n entries and lists its files by ending.
func atRest(t *testing.T, n uint64) (fs *vfs.MemFS, files map[string][]string) {
	fs = vfs.NewMem()
	s := create(t, store.Options{FS: fs})
	b := s.NewBatch()
	fill(b, 0, n, [32]byte{})
	commit(t, s, b)
	closeStore(t, s)
	names, err := fs.List(dir + "/store")
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]string{}
	for _, name := range names {
		_, ending, _ := strings.Cut(name, ".")
		files[ending] = append(files[ending], dir+"/store/"+name)
	}
	return fs, files
}

// flipped is a copy of fs with one bit of one file changed.
func flipped(t *testing.T, fs vfs.FS, path string, at int) vfs.FS {
	t.Helper()
	to := vfs.NewMem()
	if ok, err := vfs.Clone(fs, to, dir, dir); !ok || err != nil {
		t.Fatal(err)
	}
	data := readAll(t, to, path)
	data[at] ^= 0x10
	writeFile(t, to, path, string(data))
	return to
}

// contents reads all rows of a store that can be read, and the errors.
func contents(t *testing.T, fs vfs.FS) (rows map[string]string, damage []*store.CorruptError) {
	t.Helper()
	rows = map[string]string{}
	keep := func(err error) {
		if err == nil {
			return
		}
		var e *store.CorruptError
		if !errors.As(err, &e) {
			t.Fatalf("%v is no CorruptError", err)
		}
		damage = append(damage, e)
	}
	s, err := store.Open(dir, store.Options{FS: fs, ReadOnly: true})
	if err != nil {
		keep(err)
		return rows, damage
	}
	defer closeStore(t, s)
	r := s.Snapshot()
	defer r.Close()
	for _, table := range store.Tables() {
		keep(r.Rows(table, func(key, value []byte) error {
			rows[string(key)] = string(value)
			return nil
		}))
	}
	return rows, damage
}

// TestFlippedBits changes bits everywhere in Pebble's tables: each is reported
// with the file, or changes nothing that is read.
func TestFlippedBits(t *testing.T) {
	fs, files := atRest(t, 200)
	want, damage := contents(t, fs)
	if len(damage) > 0 || len(files["sst"]) == 0 || len(files["blob"]) == 0 {
		t.Fatalf("%v %v", damage, files)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, ending := range []string{"sst", "blob"} {
		found, harmless := 0, 0
		for _, path := range files[ending] {
			size := len(readAll(t, fs, path))
			for range 60 {
				at := rng.IntN(size)
				got, damage := contents(t, flipped(t, fs, path, at))
				for _, e := range damage {
					// Where Pebble panics, only the row is known.
					if e.File != path && !strings.Contains(e.Error(), "panic in Pebble") {
						t.Errorf("%s byte %d: file %q in %v", path, at, e.File, e)
					}
				}
				switch {
				case len(damage) > 0:
					found++
				case maps.Equal(got, want):
					harmless++
				default:
					t.Errorf("%s byte %d: other rows and no error", path, at)
				}
			}
		}
		t.Logf("%s: %d found, %d harmless", ending, found, harmless)
		if found == 0 {
			t.Error("nothing found")
		}
	}
}

// TestUnreadableEntries holds that a reader can name what is unreadable, and
// read all the rest.
func TestUnreadableEntries(t *testing.T) {
	const n = 200
	fs, files := atRest(t, n)
	path := files["blob"][0]
	fs2 := flipped(t, fs, path, len(readAll(t, fs, path))/2)
	s := open(t, dir, store.Options{FS: fs2, ReadOnly: true})
	defer closeStore(t, s)
	r := s.Snapshot()
	defer r.Close()
	read, lost := map[uint64]bool{}, []uint64{}
	for from := uint64(0); from < n; {
		err := r.Entries(from, func(i uint64, data []byte) error {
			read[i] = true
			if !bytes.Equal(data, raw(i)) {
				t.Errorf("entry %d has other content", i)
			}
			return nil
		})
		if err == nil {
			break
		}
		var e *store.CorruptError
		if !errors.As(err, &e) || e.Table != store.TableEntries || e.File != path {
			t.Fatalf("%v", err)
		}
		if _, err := r.Entry(e.Index); !errors.As(err, &e) || e.Row != fmt.Sprintf("entry %d", e.Index) {
			t.Errorf("entry %d: %v", e.Index, err)
		}
		lost = append(lost, e.Index)
		from = e.Index + 1
	}
	if len(read)+len(lost) != n || len(lost) == 0 || len(lost) > n/2 {
		t.Errorf("%d read, %d lost", len(read), len(lost))
	}
	size, err := r.Size()
	same(t, "Size", fmt.Sprint(size, err), "200 <nil>")
	t.Logf("lost: %v", lost)
}

// TestCallersError holds that what a reader's function returns comes back as it
// is, also where it looks like ours.
func TestCallersError(t *testing.T) {
	s := create(t, store.Options{FS: vfs.NewMem()})
	defer closeStore(t, s)
	b := s.NewBatch()
	fill(b, 0, 2, [32]byte{})
	b.PutQuarantine(store.Quarantined{Collector: "web-1"})
	commit(t, s, b)
	r := s.Snapshot()
	defer r.Close()
	mine := &store.CorruptError{Index: 99}
	for what, err := range map[string]error{
		"Entries":     r.Entries(0, func(uint64, []byte) error { return mine }),
		"Rows":        r.Rows(store.TableIDs, func(_, _ []byte) error { return mine }),
		"Checkpoints": r.Checkpoints(func(uint64, [32]byte, []byte) error { return mine }),
		"Quarantine":  r.Quarantine("", func(store.Quarantined) error { return mine }),
	} {
		if err != mine || mine.Index != 99 {
			t.Errorf("%s returns %v", what, err)
		}
	}
}

// TestMissingFiles takes Pebble's files away one by one.
func TestMissingFiles(t *testing.T) {
	fs, files := atRest(t, 20)
	for _, ending := range []string{"sst", "blob"} {
		for _, path := range files[ending] {
			to := vfs.NewMem()
			if ok, err := vfs.Clone(fs, to, dir, dir); !ok || err != nil {
				t.Fatal(err)
			}
			if err := to.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, damage := contents(t, to); len(damage) == 0 {
				t.Errorf("%s is missing and nobody says so", path)
			}
		}
	}
}
