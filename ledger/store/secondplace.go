package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SecondPlace keeps the last signed checkpoint outside Pebble, which opens
// without a word when the tail of its log was cut off. Better still, it lies on
// another disk. It is one file, FOLDER/checkpoint:
//
//	evidence-ledger/second-place@v1
//	chain <64 hex digits: NextChain over all signed checkpoints up to this one>
//
//	<the signed note, to the end>
type SecondPlace struct {
	fs     vfs.FS
	folder string
	mu     sync.Mutex
}

const (
	secondPlaceFile   = "checkpoint"
	secondPlaceHeader = "evidence-ledger/second-place@v1\nchain "
	secondPlaceLimit  = 64 << 10
)

// SecondPlaceFolder is where the second place is unless one is configured. A nil
// fsys is the machine's file system.
func SecondPlaceFolder(fsys vfs.FS, dir string) string {
	if fsys == nil {
		fsys = vfs.Default
	}
	return fsys.PathJoin(dir, "second-place")
}

// NewSecondPlace returns the second place in a folder. A nil fsys is the
// machine's file system.
func NewSecondPlace(fsys vfs.FS, folder string) *SecondPlace {
	if fsys == nil {
		fsys = vfs.Default
	}
	return &SecondPlace{fs: fsys, folder: folder}
}

// Path is the file, for messages.
func (p *SecondPlace) Path() string { return p.fs.PathJoin(p.folder, secondPlaceFile) }

// Create makes the folder. Write does not: where the disk is not mounted, it
// must fail and not write into the mount point.
func (p *SecondPlace) Create() error { return mkdirSynced(p.fs, p.folder, 0o700) }

// Write replaces the checkpoint and returns once the new one is on disk for
// good. At every moment the file has the old or the new one, whole.
func (p *SecondPlace) Write(chain [32]byte, note []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := formatSecondPlace(chain, note)
	if _, _, err := ParseSecondPlace(text); err != nil {
		return err
	}
	if err := writeSynced(p.fs, p.folder, secondPlaceFile, text); err != nil {
		return fmt.Errorf("second place: %w", err)
	}
	return nil
}

// Read returns what Write wrote last, or ErrNotFound.
func (p *SecondPlace) Read() (chain [32]byte, note []byte, err error) {
	path := p.fs.PathJoin(p.folder, secondPlaceFile)
	text, err := readFile(p.fs, path, secondPlaceLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return chain, nil, fmt.Errorf("second place %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return chain, nil, fmt.Errorf("second place: %w", err)
	}
	chain, note, err = ParseSecondPlace(text)
	if err != nil {
		return chain, nil, fmt.Errorf("second place %s: %w", path, err)
	}
	return chain, note, nil
}

// ParseSecondPlace reads the file's text. The note is not checked.
func ParseSecondPlace(text []byte) (chain [32]byte, note []byte, err error) {
	const size = len(secondPlaceHeader) + 64 + 2
	if len(text) <= size || len(text) > secondPlaceLimit {
		return chain, nil, fmt.Errorf("%d bytes are no second place", len(text))
	}
	if _, err := hex.Decode(chain[:], text[len(secondPlaceHeader):size-2]); err != nil {
		return chain, nil, errors.New("chain is not 64 hex digits")
	}
	note = text[size:]
	if !bytes.Equal(formatSecondPlace(chain, note), text) {
		return chain, nil, errors.New("not in the form evidence-ledger/second-place@v1")
	}
	return chain, note, nil
}

func formatSecondPlace(chain [32]byte, note []byte) []byte {
	return fmt.Appendf(nil, "%s%x\n\n%s", secondPlaceHeader, chain, note)
}

// NextChain continues the chain over all signed checkpoints by one: SHA-256(prev
// || note). It begins with 32 zero bytes.
func NextChain(prev [32]byte, note []byte) [32]byte {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(note)
	return [32]byte(h.Sum(nil))
}
