package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"evidence-ledger/ledger/store"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestArtifacts(t *testing.T) {
	fs := vfs.NewCrashableMem()
	closeStore(t, create(t, store.Options{FS: fs}))
	a := store.NewArtifacts(fs, dir)
	one, two := []byte("one"), []byte("two")
	shaOne, shaTwo := sha256.Sum256(one), sha256.Sum256(two)
	if err := a.Put(shaOne, two); err == nil || !strings.Contains(err.Error(), "another SHA-256") {
		t.Errorf("wrong hash: %v", err)
	}
	if ok, err := a.Has(shaOne); ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := a.Open(shaOne); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	for range 2 {
		if err := a.PutAll([]store.Artifact{{SHA256: shaOne, Data: one}, {SHA256: shaTwo, Data: two}}); err != nil {
			t.Fatal(err)
		}
	}
	// What Put has acknowledged survives a crash.
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	a = store.NewArtifacts(left, dir)
	same(t, "content", content(t, a, shaTwo), "two")

	// A damaged one is replaced, leftovers are passed over.
	writeFile(t, left, a.Path(shaOne), "damaged")
	writeFile(t, left, a.Path(shaTwo)+".tmp", "")
	writeFile(t, left, dir+"/artifacts/sha256/zz/file", "")
	writeFile(t, left, dir+"/artifacts/sha256/file", "")
	if err := a.Put(shaOne, one); err != nil {
		t.Fatal(err)
	}
	same(t, "content", content(t, a, shaOne), "one")
	var walked []string
	if err := a.Walk(func(path string, sha [32]byte) error {
		if path != a.Path(sha) {
			t.Errorf("%s is not the path of %x", path, sha)
		}
		walked = append(walked, fmt.Sprintf("%x", sha))
		return nil
	}); err != nil {
		t.Error(err)
	}
	same(t, "walked", strings.Join(walked, " "), fmt.Sprintf("%x %x", shaTwo, shaOne))
	stop := errors.New("stop")
	if err := a.Walk(func(string, [32]byte) error { return stop }); err != stop {
		t.Error(err)
	}
	if err := store.NewArtifacts(left, "/absent").Walk(func(string, [32]byte) error { return stop }); err != nil {
		t.Error(err)
	}
}

func content(t *testing.T, a *store.Artifacts, sha [32]byte) string {
	t.Helper()
	f, err := a.Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSecondPlace(t *testing.T) {
	fs := vfs.NewCrashableMem()
	p := store.NewSecondPlace(fs, "/other-disk/ledger")
	if err := p.Write([32]byte{1}, []byte("note\n")); err == nil {
		t.Error("wrote where nothing is mounted")
	}
	if err := p.Create(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Read(); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	for i := range byte(3) {
		if err := p.Write([32]byte{i}, []byte{'n', i, '\n'}); err != nil {
			t.Fatal(err)
		}
		left := store.NewSecondPlace(fs.CrashClone(vfs.CrashCloneCfg{}), "/other-disk/ledger")
		chain, note, err := left.Read()
		same(t, "read", fmt.Sprint(chain, note, err), fmt.Sprint([32]byte{i}, []byte{'n', i, '\n'}, nil))
	}
	same(t, "file", string(readAll(t, fs, "/other-disk/ledger/checkpoint")),
		"evidence-ledger/second-place@v1\nchain 02"+strings.Repeat("00", 31)+"\n\nn\x02\n")
	for _, note := range [][]byte{nil, make([]byte, 1<<20)} {
		if err := p.Write([32]byte{}, note); err == nil {
			t.Errorf("wrote a note of %d bytes", len(note))
		}
	}
	writeFile(t, fs, "/other-disk/ledger/checkpoint", "rubbish")
	if _, _, err := p.Read(); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func FuzzParseSecondPlace(f *testing.F) {
	good := "evidence-ledger/second-place@v1\nchain " + strings.Repeat("0a", 32) + "\n\nnote\n"
	for _, s := range []string{good, "", good[:len(good)-5], strings.ToUpper(good), strings.Replace(good, "0a", "0A", 1),
		strings.Replace(good, "\n", "\r\n", 1), strings.Replace(good, "0a", "zz", 1), "x" + good} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		chain, note, err := store.ParseSecondPlace(text)
		if err != nil {
			return
		}
		again := fmt.Appendf(nil, "evidence-ledger/second-place@v1\nchain %x\n\n%s", chain, note)
		if !bytes.Equal(again, text) {
			t.Errorf("%q is read and written as %q", text, again)
		}
	})
}

func TestParseSecondPlace(t *testing.T) {
	good := "evidence-ledger/second-place@v1\nchain " + strings.Repeat("0a", 32) + "\n\nnote\n"
	if _, note, err := store.ParseSecondPlace([]byte(good)); err != nil || string(note) != "note\n" {
		t.Error(note, err)
	}
	for _, bad := range []string{"", good[:len(good)-5], strings.Replace(good, "0a", "0A", 1), strings.Replace(good, "v1", "v2", 1),
		strings.Replace(good, "\n\n", "\n", 1), strings.Replace(good, "0a", "zz", 1), strings.Replace(good, "\n\n", "\n \n", 1)} {
		if _, _, err := store.ParseSecondPlace([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
