package recheck_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
)

// change replaces a file's content.
func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// contents is every row of a store that the log guarantees, by its key.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	db, err := pebble.Open(filepath.Join(dir, "store"), &pebble.Options{ReadOnly: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	iter, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for ok := iter.First(); ok; ok = iter.Next() {
		switch store.Table(iter.Key()[0]) {
		case store.TableQuarantine, store.TableQuarantineState, store.TableRejections: // outside the log's guarantees
		default:
			rows[string(iter.Key())] = string(iter.Value())
		}
	}
	if err := errors.Join(iter.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return rows
}

// honest holds the one thing that matters of a damaged folder: either an error
// that says something, or problems, or every row is what it was.
func honest(t *testing.T, o original, whole map[string]string) {
	t.Helper()
	r, err := verifyDir(o.dir, o.identity)
	if err != nil {
		if len(err.Error()) < 20 || !strings.Contains(err.Error(), o.dir) {
			t.Errorf("the error does not say where: %v", err)
		}
		return
	}
	switch r.Verdict {
	case verify.Problems:
		if r.ProblemCount == 0 || r.ExitCode() != 1 {
			t.Errorf("%+v", r)
		}
		entries := 0
		for _, p := range r.Problems {
			if p.Index >= 0 || strings.Contains(p.Where, "table") || strings.Contains(p.Where, "checkpoint") || strings.Contains(p.Where, "tile") {
				entries++
			}
		}
		if entries == 0 {
			t.Errorf("no problem says where:\n%s", list(r))
		}
	case verify.Verified:
		now := contents(t, o.dir)
		for k, v := range whole {
			if now[k] != v {
				t.Fatalf("verified, but row %x is another", k)
			}
		}
		if len(now) != len(whole) {
			t.Fatalf("verified with %d rows, there were %d", len(now), len(whole))
		}
	default:
		t.Errorf("verdict %s", r.Verdict)
	}
}

// copiedFrom copies the store at rest, or the one that a crash left, whose
// newest rows are in Pebble's log.
func copiedFrom(t *testing.T, crashed bool) original {
	o := copied(t)
	if !crashed {
		return o
	}
	remove(t, filepath.Join(o.dir, "store"))
	if err := os.CopyFS(filepath.Join(o.dir, "store"), os.DirFS(theLedger(t).crashed)); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestTamperFiles damages Pebble's files: at rest, and as a crash leaves them.
func TestTamperFiles(t *testing.T) {
	for name, crashed := range map[string]bool{"at rest": false, "after a crash": true} {
		o := copiedFrom(t, crashed)
		whole := contents(t, o.dir)
		paths, err := filepath.Glob(filepath.Join(o.dir, "store", "*"))
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		cases := 0
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Base(path)
			kind := kindOf(file)
			if file == "LOCK" {
				continue
			}
			kinds[kind]++
			damage := func(what string, harm func(t *testing.T, path string)) {
				if cases++; cases%thin != 0 {
					return
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, file, what), func(t *testing.T) {
					t.Parallel()
					o := copiedFrom(t, crashed)
					harm(t, filepath.Join(o.dir, "store", file))
					honest(t, o, whole)
				})
			}
			samples := int64(3)
			if kind == "sst" || kind == "blob" || kind == "log" {
				samples = 8
			}
			for i := range samples {
				if at := (2*i + 1) * info.Size() / (2 * samples); at < info.Size() {
					damage(fmt.Sprint("flip at ", at), func(t *testing.T, path string) {
						change(t, path, func(b []byte) []byte { b[at] ^= 0x10; return b })
					})
				}
			}
			for _, left := range []int64{0, info.Size() / 3, info.Size() - 1} {
				damage(fmt.Sprint("cut to ", left), func(t *testing.T, path string) {
					change(t, path, func(b []byte) []byte { return b[:max(left, 0)] })
				})
			}
			damage("gone", remove)
		}
		if crashed && kinds["log"] == 0 || !crashed && kinds["sst"] == 0 || kinds["MANIFEST"] == 0 {
			t.Errorf("%s: no files of one kind: %v", name, kinds)
		}
	}
}

func kindOf(file string) string {
	if kind := strings.TrimPrefix(filepath.Ext(file), "."); kind != "" {
		return kind
	}
	kind, _, _ := strings.Cut(file, "-")
	return kind
}

// TestTruncatedLog: Pebble opens without a word after the end of its log was
// cut off; the second place says what is gone.
func TestTruncatedLog(t *testing.T) {
	for _, part := range []int{2, 4, 8} {
		o := copiedFrom(t, true)
		logs, err := filepath.Glob(filepath.Join(o.dir, "store", "*.log"))
		if err != nil || len(logs) == 0 {
			t.Fatal(logs, err)
		}
		change(t, logs[len(logs)-1], func(b []byte) []byte { return b[:len(b)-len(b)/part] })
		r, err := verifyDir(o.dir, o.identity)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size == 0 || r.Size >= size {
			t.Fatalf("%d entries are left", r.Size)
		}
		named(t, r, "log.rollback", -1, "second-place")
	}
}

func artifactPath(o original, text string) string {
	return store.NewArtifacts(nil, o.dir).Path(sha256.Sum256([]byte(text)))
}

// TestTamperArtifacts: each is named with the entry that names it.
func TestTamperArtifacts(t *testing.T) {
	// The artifact of the first event, by db-1, which is entry 3.
	one, many := "db-1 number 1: run\n", "an artifact of many events\n"
	tests := map[string]struct {
		change func(t *testing.T, o original)
		code   string
		all    bool // every event but those with their own
	}{
		"a bit": {func(t *testing.T, o original) {
			change(t, artifactPath(o, one), func(b []byte) []byte { b[3] ^= 1; return b })
		}, "artifact.changed", false},
		"cut": {func(t *testing.T, o original) {
			change(t, artifactPath(o, one), func(b []byte) []byte { return b[:4] })
		}, "artifact.changed", false},
		"longer": {func(t *testing.T, o original) {
			change(t, artifactPath(o, one), func(b []byte) []byte { return append(b, 0) })
		}, "artifact.changed", false},
		"empty": {func(t *testing.T, o original) { change(t, artifactPath(o, one), func([]byte) []byte { return nil }) }, "artifact.changed", false},
		"gone":  {func(t *testing.T, o original) { remove(t, artifactPath(o, one)) }, "artifact.missing", false},
		"swapped": {func(t *testing.T, o original) {
			change(t, artifactPath(o, one), func([]byte) []byte { return []byte(many) })
		}, "artifact.changed", false},
		"a folder in its place": {func(t *testing.T, o original) {
			remove(t, artifactPath(o, one))
			if err := os.Mkdir(artifactPath(o, one), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "artifact.unreadable", false},
		"a pipe in its place": {func(t *testing.T, o original) {
			remove(t, artifactPath(o, one))
			if err := syscall.Mkfifo(artifactPath(o, one), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "artifact.unreadable", false},
		"an endless device in its place": {func(t *testing.T, o original) {
			remove(t, artifactPath(o, one))
			if err := os.Symlink("/dev/zero", artifactPath(o, one)); err != nil {
				t.Fatal(err)
			}
		}, "artifact.unreadable", false},
		"a link to the same bytes elsewhere": {func(t *testing.T, o original) {
			elsewhere := filepath.Join(t.TempDir(), "copy")
			if err := errors.Join(os.Rename(artifactPath(o, one), elsewhere), os.Symlink(elsewhere, artifactPath(o, one))); err != nil {
				t.Fatal(err)
			}
		}, "artifact.unreadable", false},
		"of many":  {func(t *testing.T, o original) { remove(t, artifactPath(o, many)) }, "artifact.missing", true},
		"all gone": {func(t *testing.T, o original) { remove(t, filepath.Join(o.dir, "artifacts")) }, "artifact.missing", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := copied(t)
			test.change(t, o)
			r, err := verifyDir(o.dir, o.identity)
			if err != nil {
				t.Fatal(err)
			}
			if test.all {
				named(t, r, test.code, firstRun+1, "subject.0")
				named(t, r, test.code, lastRun-1, "subject.0")
				return
			}
			named(t, r, test.code, firstRun, "subject.0")
			if r.ProblemCount != 1 {
				t.Errorf("more than the one:\n%s", list(r))
			}
		})
	}
}

func second(o original) *store.SecondPlace {
	return store.NewSecondPlace(nil, store.SecondPlaceFolder(nil, o.dir))
}

// older is the second place as it was when the log had n entries.
func (o original) older(t *testing.T, n uint64) {
	t.Helper()
	db := open(t, o)
	row := db.get(key(store.TableCheckpoints, n))
	db.close()
	if err := second(o).Write([32]byte(row), row[32:]); err != nil {
		t.Fatal(err)
	}
}

func TestTamperSecondPlace(t *testing.T) {
	tests := map[string]struct {
		change func(t *testing.T, o original)
		code   string
	}{
		"gone":      {func(t *testing.T, o original) { remove(t, second(o).Path()) }, "store.second-missing"},
		"no folder": {func(t *testing.T, o original) { remove(t, filepath.Dir(second(o).Path())) }, "store.second-missing"},
		"empty":     {func(t *testing.T, o original) { change(t, second(o).Path(), func([]byte) []byte { return nil }) }, "store.second-unreadable"},
		"its chain": {func(t *testing.T, o original) {
			change(t, second(o).Path(), func(b []byte) []byte { return other(b, 45) })
		}, "store.second-chain"},
		"its size": {func(t *testing.T, o original) {
			change(t, second(o).Path(), func(b []byte) []byte { return bytes.Replace(b, []byte("\n530\n"), []byte("\n531\n"), 1) })
		}, "log.known-note"},
		"its note": {func(t *testing.T, o original) {
			change(t, second(o).Path(), func(b []byte) []byte { return other(b, len(b)-20) })
		}, "store.second-unknown"},
		"older":      {func(t *testing.T, o original) { o.older(t, 503) }, "store.second-behind"},
		"the oldest": {func(t *testing.T, o original) { o.older(t, 1) }, "store.second-behind"},
		"of another ledger": {func(t *testing.T, o original) {
			l := ledgertest.Create(t, filepath.Join(t.TempDir(), "l"), nil)
			chain, note, err := l.Second.Read()
			l.Close()
			if err = errors.Join(err, second(o).Write(chain, note)); err != nil {
				t.Fatal(err)
			}
		}, "log.known-note"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := copied(t)
			test.change(t, o)
			r, err := verifyDir(o.dir, o.identity)
			if err != nil {
				t.Fatal(err)
			}
			named(t, r, test.code, -1, second(o).Path())
		})
	}
	t.Run("one behind is what a crash leaves", func(t *testing.T) {
		o := copied(t)
		o.older(t, size-1)
		r, err := verifyDir(o.dir, o.identity)
		if err != nil || r.Verdict != verify.Verified || !strings.Contains(strings.Join(r.Notes, "\n"), "one checkpoint behind") {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// other changes one digit, or one letter of base64, into another.
func other(b []byte, at int) []byte {
	if b[at] == '1' {
		b[at] = '2'
	} else {
		b[at] = '1'
	}
	return b
}

// TestWrongIdentity: whoever pins another ledger is told so.
func TestWrongIdentity(t *testing.T) {
	o := copied(t)
	floor := func(n uint64) *checkpoint.Checkpoint {
		c, err := checkpoint.ParseUnverified([]byte(o.notes[n]))
		if err != nil {
			t.Fatal(err)
		}
		return &c.Checkpoint
	}
	forked := *floor(103)
	forked.Root[0] ^= 1
	beyond := *floor(size)
	beyond.Size++
	tests := map[string]struct {
		change func(id *checkpoint.Identity)
		code   string // "": verified
		index  int64
		where  string
	}{
		"another origin": {func(id *checkpoint.Identity) {
			id.Origin = "other.example"
			id.VKey = checkpoint.VKey(id.Origin, o.node.Public().Ed25519())
		}, "identity.origin", 0, ""},
		"another key": {func(id *checkpoint.Identity) {
			id.VKey = checkpoint.VKey(id.Origin, ledgertest.Key(t).Public().Ed25519())
		}, "identity.vkey", 0, ""},
		"another genesis":   {func(id *checkpoint.Identity) { id.Genesis[0] ^= 1 }, "identity.genesis", 0, ""},
		"its floor":         {func(id *checkpoint.Identity) { id.Floor = floor(103) }, "", 0, ""},
		"the newest floor":  {func(id *checkpoint.Identity) { id.Floor = floor(size) }, "", 0, ""},
		"a forked floor":    {func(id *checkpoint.Identity) { id.Floor = &forked }, "log.fork", -1, "identity"},
		"a floor beyond it": {func(id *checkpoint.Identity) { id.Floor = &beyond }, "log.rollback", -1, "identity"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			id := *o.identity
			test.change(&id)
			r, err := verifyDir(o.dir, &id)
			if err != nil {
				t.Fatal(err)
			}
			if test.code != "" {
				named(t, r, test.code, test.index, test.where)
			} else if r.Verdict != verify.Verified {
				t.Error(list(r))
			}
		})
	}
}

// TestNodeKeyThief: with the node's key and disk a history can be made anew
// that is right in itself. Whoever has seen an earlier checkpoint finds it.
func TestNodeKeyThief(t *testing.T) {
	o := copied(t)
	r := open(t, o)
	earlier := r.entry(97).Time
	r.remake(98, size, backdate(98, 103, earlier))
	r.resign(103, signer(t, o.node))
	r.close()
	report, err := verifyDir(o.dir, o.identity)
	if err != nil || report.Verdict != verify.Verified {
		t.Fatalf("the forgery is not good enough for this test: %v\n%s", err, list(report))
	}
	report, err = verifyDir(o.dir, o.identity, verify.Known{Name: "an auditor's file", Note: []byte(o.notes[108])})
	if err != nil {
		t.Fatal(err)
	}
	named(t, report, "log.fork", -1, "an auditor's file")
	if report.Problems[0].Evidence["note"] != o.notes[108] {
		t.Errorf("the note is not kept as proof: %v", report.Problems[0].Evidence)
	}
}

// TestNoLedger: what is no ledger is never one that verifies.
func TestNoLedger(t *testing.T) {
	tests := map[string]struct {
		make func(t *testing.T) original
		want string
		is   error
	}{
		"no folder":    {func(t *testing.T) original { return original{dir: filepath.Join(t.TempDir(), "none")} }, "does not exist", store.ErrNoLedger},
		"empty folder": {func(t *testing.T) original { return original{dir: t.TempDir()} }, "is empty", store.ErrNoLedger},
		"a file": {func(t *testing.T) original {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			return original{dir: path}
		}, "", nil},
		"foreign folder": {func(t *testing.T) original {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			return original{dir: dir}
		}, "--dir", store.ErrNoLedger},
		"a foreign FORMAT": {func(t *testing.T) original {
			o := copied(t)
			change(t, filepath.Join(o.dir, "FORMAT"), func([]byte) []byte { return []byte("other@v1\n") })
			return o
		}, "FORMAT", store.ErrNoLedger},
		"a newer FORMAT": {func(t *testing.T) original {
			o := copied(t)
			r := open(t, o)
			r.set([]byte("mformat"), []byte{0, 0, 0, 9})
			r.close()
			return o
		}, "newer program", nil},
		"no FORMAT in the tables": {func(t *testing.T) original {
			o := copied(t)
			r := open(t, o)
			r.delete([]byte("mformat"))
			r.close()
			return o
		}, "format version", nil},
		"without FORMAT": {func(t *testing.T) original {
			o := copied(t)
			remove(t, filepath.Join(o.dir, "FORMAT"))
			return o
		}, "FORMAT", store.ErrNoLedger},
		"without store": {func(t *testing.T) original {
			o := copied(t)
			remove(t, filepath.Join(o.dir, "store"))
			return o
		}, "backup", nil},
		"with an empty store": {func(t *testing.T) original {
			o := copied(t)
			remove(t, filepath.Join(o.dir, "store"))
			if err := os.Mkdir(filepath.Join(o.dir, "store"), 0o700); err != nil {
				t.Fatal(err)
			}
			return o
		}, "backup", nil},
		"without any entry": {func(t *testing.T) original {
			dir := filepath.Join(t.TempDir(), "l")
			s, err := store.Create(dir, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return original{dir: dir}
		}, "no entry at all", verify.ErrEmpty},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := test.make(t)
			r, err := verifyDir(o.dir, theLedger(t).identity)
			if err == nil {
				t.Fatalf("no error: %s\n%s", r.Verdict, list(r))
			}
			if test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestLocked: a store that somebody holds without being a node.
func TestLocked(t *testing.T) {
	o := copied(t)
	s, err := store.Open(o.dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := node.Open(o.dir, ""); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%v", err)
	}
}

// TestPipes: a pipe in the place of any file blocks nobody.
func TestPipes(t *testing.T) {
	for _, file := range []string{"second-place/checkpoint", "FORMAT", "store/MANIFEST", "store/000001.sst"} {
		t.Run(file, func(t *testing.T) {
			o := copied(t)
			path := filepath.Join(o.dir, file)
			if file == "store/MANIFEST" {
				found, err := filepath.Glob(path + "-*")
				if err != nil || len(found) == 0 {
					t.Fatal(found, err)
				}
				path = found[0]
			}
			os.Remove(path)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				r, err := verifyDir(o.dir, o.identity)
				if err == nil && r.ExitCode() == 0 {
					err = errors.New("verified")
				} else {
					err = nil
				}
				done <- err
			}()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the verifier hangs")
			}
		})
	}
}

// TestStrays: artifacts that no entry names are told, as a note.
func TestStrays(t *testing.T) {
	o := copied(t)
	stray := filepath.Join(o.dir, "artifacts", "sha256", "ff", strings.Repeat("ff", 32))
	if err := errors.Join(os.MkdirAll(filepath.Dir(stray), 0o700), os.WriteFile(stray, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := verifyDir(o.dir, o.identity)
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode() != 0 || !strings.Contains(strings.Join(r.Notes, "\n"), "artifacts that no entry names: 1, ") {
		t.Errorf("%v: %v", r.Verdict, r.Notes)
	}
}
