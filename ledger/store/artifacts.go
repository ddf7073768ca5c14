package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Artifacts keeps raw evidence, one file each, named by its SHA-256, in
// DIR/artifacts/sha256/<first two hex digits>/<64 hex digits>. They must be
// there before the entry that names them is committed. A file whose name ends
// in .tmp is left from a crash and counts for nothing.
type Artifacts struct {
	fs   vfs.FS
	root string
	mu   sync.Mutex // one writer: temporary names are fixed
}

// Artifact is a thing to be put.
type Artifact struct {
	SHA256 [32]byte
	Data   []byte
}

func artifactsFolder(fsys vfs.FS, dir string) string {
	return fsys.PathJoin(dir, "artifacts", "sha256")
}

// NewArtifacts returns the artifacts of the ledger in dir. It needs no open
// store. A nil fsys is the machine's file system.
func NewArtifacts(fsys vfs.FS, dir string) *Artifacts {
	if fsys == nil {
		fsys = vfs.Default
	}
	return &Artifacts{fs: fsys, root: artifactsFolder(fsys, dir)}
}

// Put keeps data under its hash, which is checked, and returns once it is on
// disk for good. Putting the same again is no error; a file with other content
// in its place is replaced.
func (a *Artifacts) Put(sha [32]byte, data []byte) error {
	return a.PutAll([]Artifact{{sha, data}})
}

// PutAll is Put for several, with one sync for each folder.
func (a *Artifacts) PutAll(list []Artifact) error {
	for _, x := range list {
		if sha256.Sum256(x.Data) != x.SHA256 {
			return fmt.Errorf("artifact %x: its data has another SHA-256", x.SHA256)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var folders []string
	for _, x := range list {
		folder, err := a.write(x)
		if err != nil {
			return fmt.Errorf("artifact %x: %w", x.SHA256, err)
		}
		if !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	// Also where the file was there already: whoever wrote it may have been
	// killed before this.
	for _, folder := range folders {
		if err := syncFolder(a.fs, folder); err != nil {
			return fmt.Errorf("artifacts: %w", err)
		}
	}
	return nil
}

// write leaves the synced file under its name and returns the folder to sync.
func (a *Artifacts) write(x Artifact) (folder string, err error) {
	path := a.Path(x.SHA256)
	folder = a.fs.PathDir(path)
	if ok, err := a.holds(path, x.SHA256); ok || err != nil {
		return folder, err
	}
	if err := mkdirSynced(a.fs, folder, 0o755); err != nil {
		return folder, err
	}
	if err := writeTemporary(a.fs, path+temporary, x.Data); err != nil {
		return folder, err
	}
	return folder, a.fs.Rename(path+temporary, path)
}

// holds says whether the file is there with the right content. One that cannot
// be read is as good as none.
func (a *Artifacts) holds(path string, sha [32]byte) (bool, error) {
	f, err := a.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && [32]byte(h.Sum(nil)) == sha, f.Close()
}

// Path returns the file in which the artifact is, or would be.
func (a *Artifacts) Path(sha [32]byte) string {
	name := hex.EncodeToString(sha[:])
	return a.fs.PathJoin(a.root, name[:2], name)
}

// Open opens an artifact, or returns ErrNotFound. Its content is not checked:
// whoever relies on it hashes it.
func (a *Artifacts) Open(sha [32]byte) (io.ReadCloser, error) {
	f, err := openRegular(a.fs, a.Path(sha))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("artifact %x: %w", sha, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("artifact %x: %w", sha, err)
	}
	return f, nil
}

// Has says whether there is a file for the artifact.
func (a *Artifacts) Has(sha [32]byte) (bool, error) {
	_, err := a.fs.Stat(a.Path(sha))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Walk calls fn for every artifact's file, in the order of their hashes. A file
// that lies where no artifact is looked for is left out.
func (a *Artifacts) Walk(fn func(path string, sha [32]byte) error) error {
	folders, err := a.list(a.root)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if len(folder) != 2 {
			continue
		}
		names, err := a.list(a.fs.PathJoin(a.root, folder))
		if err != nil {
			return err
		}
		for _, name := range names {
			sha, err := parseKeyID(name) // the same 64 hex digits
			if err != nil || !strings.HasPrefix(name, folder) {
				continue
			}
			if err := fn(a.fs.PathJoin(a.root, folder, name), sha); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Artifacts) list(folder string) ([]string, error) {
	names, err := a.fs.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}
