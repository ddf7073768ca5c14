package store

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFS is the file system that Pebble gets. Some errors of it Pebble does
// not survive: when its log cannot be rotated it panics while it holds locks,
// which the runtime answers by ending the process, past every recover (rotateWAL
// in db.go); when a blob file cannot be finished it panics in its background
// (Abort after Finish in sstable/blob). So an error in one of these files, or
// when the folder is synced, makes the store fail and never returns to Pebble:
// the goroutine stops here, and who waits for it is freed by guard.
// TestWriteErrors holds that this is so.
type pebbleFS struct {
	vfs.FS
	folder  string
	failure *failure
	running atomic.Bool // while Pebble opens and closes, it returns errors of its log
}

func (p *pebbleFS) Unwrap() vfs.FS { return p.FS }

// wrap watches f if Pebble does not survive its errors.
func (p *pebbleFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	blob := strings.HasSuffix(name, ".blob")
	if p.PathDir(name) != p.folder || !blob && !strings.HasSuffix(name, ".log") {
		return f, err
	}
	watched := fatalFile{f, p, blob}
	return watched, watched.check(err)
}

func (p *pebbleFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, category)
	return p.wrap(name, f, err)
}

func (p *pebbleFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.ReuseForWrite(old, name, category)
	return p.wrap(name, f, err)
}

func (p *pebbleFS) OpenDir(name string) (vfs.File, error) {
	f, err := p.FS.OpenDir(name)
	if err != nil || name != p.folder {
		return f, err
	}
	return fatalFile{f, p, false}, nil
}

// fatalFile is a log, a blob file, or the folder, opened for writing.
type fatalFile struct {
	vfs.File
	fs     *pebbleFS
	always bool
}

// check lets no error pass.
func (f fatalFile) check(err error) error {
	if err != nil && (f.always || f.fs.running.Load()) {
		f.fs.failure.fail(err)
		select {}
	}
	return err
}

func (f fatalFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check(err)
}

func (f fatalFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.check(err)
}

func (f fatalFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check(err)
}

func (f fatalFile) Sync() error     { return f.check(f.File.Sync()) }
func (f fatalFile) SyncData() error { return f.check(f.File.SyncData()) }
func (f fatalFile) Close() error    { return f.check(f.File.Close()) }
