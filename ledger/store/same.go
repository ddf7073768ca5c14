package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// SameFiles checks that a copy made by Checkpoint consists of the files of the
// ledger in dir: the immutable ones are the very same files (hard links), or have
// the same bytes; the logs and manifests, which grow, begin with what was
// copied. So the copy cannot show another history than the folder has. A store
// that moves on meanwhile may remove a file: then the copy is made again.
func SameFiles(copied, dir string) error {
	from := filepath.Join(copied, "store")
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", from)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	newest, err := newestManifest(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), manifestPrefix) && f.Name() != newest {
			return fmt.Errorf("%s is not the folder's newest, %s", f.Name(), newest)
		}
		a, b := filepath.Join(from, f.Name()), filepath.Join(dir, "store", f.Name())
		if err := sameFile(a, b); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

const manifestPrefix = "MANIFEST-"

func newestManifest(folder string) (newest string, err error) {
	files, err := os.ReadDir(folder) // sorted; the numbers have six digits and more
	for _, f := range files {
		if name := f.Name(); strings.HasPrefix(name, manifestPrefix) && (len(name) > len(newest) || len(name) == len(newest) && name > newest) {
			newest = name
		}
	}
	return newest, err
}

func sameFile(a, b string) error {
	name := filepath.Base(a)
	if strings.HasPrefix(name, "OPTIONS-") || strings.HasPrefix(name, "marker.") || name == "LOCK" {
		return nil // what they say is checked by what is then read
	}
	ai, err := os.Lstat(a)
	if err != nil {
		return err
	}
	bi, err := os.Lstat(b)
	if err != nil {
		return err
	}
	if !ai.Mode().IsRegular() || !bi.Mode().IsRegular() {
		return errors.New("no plain file")
	}
	if os.SameFile(ai, bi) {
		return nil
	}
	return beginsWith(b, a)
}

// beginsWith compares the bytes of part with the beginning of whole.
func beginsWith(whole, part string) error {
	w, err := os.Open(whole)
	if err != nil {
		return err
	}
	defer w.Close()
	p, err := os.Open(part)
	if err != nil {
		return err
	}
	defer p.Close()
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(p, x)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if m, err := io.ReadFull(w, y[:n]); m < n || !bytes.Equal(x[:n], y[:n]) {
			return errors.Join(errors.New("the bytes are not those of the folder's own file"), err)
		}
	}
}
