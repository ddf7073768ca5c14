package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the newest format that this program knows. It only goes up.
const formatVersion = 1

const (
	formatFile   = "FORMAT"
	formatPrefix = "evidence-ledger/store@v"
)

func storeFolder(fsys vfs.FS, dir string) string { return fsys.PathJoin(dir, "store") }

func formatText(version uint32) []byte { return fmt.Appendf(nil, "%s%d\n", formatPrefix, version) }

// readFormat says whose folder dir is, and refuses all but ours.
func readFormat(fsys vfs.FS, dir string) (uint32, error) {
	text, err := readFile(fsys, fsys.PathJoin(dir, formatFile), 100)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noLedger(fsys, dir)
	}
	if err != nil {
		return 0, fmt.Errorf("open ledger: %w", err)
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(string(text), "\n"), formatPrefix)
	version, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || version == 0 || string(formatText(uint32(version))) != string(text) {
		return 0, fmt.Errorf("%s: %w: its file FORMAT is not ours", dir, ErrNoLedger)
	}
	return uint32(version), checkVersion(dir, uint32(version), uint32(version))
}

// checkVersion compares the version of the folder, of the tables, and our own.
// A program that raises it raises the tables first, so FORMAT is never ahead.
func checkVersion(dir string, folder, tables uint32) error {
	if tables > formatVersion {
		return fmt.Errorf("%s has format version %d, this program knows up to %d: use a newer program", dir, tables, formatVersion)
	}
	if folder > tables || tables == 0 {
		return fmt.Errorf("%s: file FORMAT has version %d, the tables have %d: they do not belong together", dir, folder, tables)
	}
	return nil
}

func noLedger(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: %w", dir, ErrNoLedger)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", dir, ErrNoLedger, err)
	}
	if len(foreign(names)) == 0 {
		return fmt.Errorf("%s is empty: %w", dir, ErrNoLedger)
	}
	return fmt.Errorf("%s: %w: the folder has other files and no file FORMAT; point --dir at a ledger's folder", dir, ErrNoLedger)
}

// checkEmpty refuses a folder in which there is something.
func checkEmpty(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create in %s: %w", dir, err)
	}
	for _, name := range names {
		if name == formatFile {
			return fmt.Errorf("%s: %w", dir, ErrExists)
		}
	}
	if rest := foreign(names); len(rest) > 0 {
		return fmt.Errorf("%s is not empty (%s): nothing is created among other files; choose an empty folder", dir, rest[0])
	}
	return nil
}

// foreign leaves out what a fresh file system has at its root.
func foreign(names []string) (rest []string) {
	for _, name := range names {
		if name != "lost+found" {
			rest = append(rest, name)
		}
	}
	return rest
}

// mkdirSynced makes dir and what is missing above it, and syncs each folder in
// which one was made.
func mkdirSynced(fsys vfs.FS, dir string, perm os.FileMode) error {
	if _, err := fsys.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := fsys.PathDir(dir)
	if parent != dir {
		if err := mkdirSynced(fsys, parent, 0o755); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, perm); err != nil {
		return err
	}
	return syncFolder(fsys, parent)
}

func syncFolder(fsys vfs.FS, dir string) error {
	f, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeSynced replaces dir/name by data: after a crash there is the old content
// or the new one, and after it has returned, the new one.
func writeSynced(fsys vfs.FS, dir, name string, data []byte) error {
	path := fsys.PathJoin(dir, name)
	if err := writeTemporary(fsys, path+temporary, data); err != nil {
		return err
	}
	if err := fsys.Rename(path+temporary, path); err != nil {
		return err
	}
	return syncFolder(fsys, dir)
}

// temporary ends the names of files that are not finished.
const temporary = ".tmp"

func writeTemporary(fsys vfs.FS, path string, data []byte) error {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Clone(data)) // a vfs.File may change what it is given
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(path))
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(fsys vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := openRegular(fsys, path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is over %d bytes long", path, limit)
	}
	return data, nil
}

// openRegular opens a plain file. A pipe or a device in its place would block
// for ever or never end; a link leads out of the folder that is verified.
func openRegular(fsys vfs.FS, path string) (vfs.File, error) {
	if err := checkRegular(fsys, path); err != nil {
		return nil, err
	}
	return fsys.Open(path)
}

func checkRegular(fsys vfs.FS, path string) error {
	var mode fs.FileMode
	if fsys == vfs.Default {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		mode = info.Mode()
	} else {
		info, err := fsys.Stat(path)
		if err != nil {
			return err
		}
		mode = info.Mode()
	}
	if !mode.IsRegular() {
		return fmt.Errorf("%s is no plain file (%s)", path, mode.Type())
	}
	return nil
}

// checkPlain refuses a folder of Pebble's in which something is no plain file.
func checkPlain(fsys vfs.FS, folder string) error {
	names, err := fsys.List(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := checkRegular(fsys, fsys.PathJoin(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
