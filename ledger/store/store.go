// Package store keeps a ledger on disk. It is the only package that knows
// Pebble, and it does everything through one vfs.FS, so that a test can crash
// the machine below it.
//
// # The folder
//
//	DIR/FORMAT                        "evidence-ledger/store@v1" LF: this folder is ours, and its version
//	DIR/store/                        Pebble: the tables below
//	DIR/artifacts/sha256/ab/<hex>     raw evidence, named by its SHA-256 (see Artifacts)
//	DIR/second-place/checkpoint       the last signed checkpoint, outside Pebble (see SecondPlace)
//
// # The tables
//
// One prefix byte a table; integers are big-endian, 8 bytes unless said
// otherwise; "|" joins bytes without a separator; index is an entry's index.
//
//	table             key                                        value
//	entries           'e' | index                                the entry, raw
//	tiles             't' | level (1 byte) | number              256 hashes of 32 bytes: full tiles only
//	ids               'i' | event id (16 bytes)                  index
//	streams           's' | stream | 0x00 | number               index
//	seqs              'k' | key id (32 bytes) | type | 0x00 | seq   index
//	checkpoints       'c' | size                                 chain (32 bytes) | signed note
//	quarantine        'q' | collector | 0x00 | number            JSON LF message body (see Quarantined)
//	quarantine-state  'Q' | collector                            next number | records | bytes | evicted
//	rejections        'r'                                        counts that no entry of the log holds yet; the caller's bytes
//	meta              'm' | "format"                             format version (4 bytes)
//
// The entries are the only truth. Every other table but quarantine, quarantine-state
// and rejections follows from them and can be compared with them: see
// Snapshot.Rows and the Decode functions.
//
// # What holds
//
//   - What Commit has acknowledged is there after a crash, whole batches only
//     (TestCrash).
//   - Entries are only ever appended: Commit refuses a batch whose entries do
//     not follow the last one without a gap, and a checkpoint that is not
//     greater than the last (TestAppendOnly). Nothing deletes them.
//   - A Snapshot shows only what is synced. Pebble makes a batch visible before
//     its log is synced; a reader that saw it could hand out a checkpoint that
//     a crash then takes back, and the node would sign another one of that size.
//   - An error of the disk is an error to the caller, never an exit of the
//     process out of a library (TestWriteErrors). After a failed commit the
//     store is failed for good: see ErrFailed.
//   - The format version only goes up; a program refuses a store that is newer
//     than itself (TestOpenRefusals).
//
// # What does not hold
//
// Pebble opens without a word when the tail of its last log was cut off. The
// second place is there to notice that; comparing it is the caller's task.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrNotFound says that there is no such row or file.
	ErrNotFound = errors.New("not found")
	// ErrLocked says that another process, or this one, has the store open.
	ErrLocked = errors.New("the ledger is in use by another process")
	// ErrExists says that Create found a ledger.
	ErrExists = errors.New("a ledger is there already")
	// ErrNoLedger says that the folder holds no ledger: nothing, or something else.
	ErrNoLedger = errors.New("no ledger here")
	// ErrFailed says that the store failed: whether the last batch is on disk is
	// unknown. The process must stop; opening anew is what finds out.
	ErrFailed = errors.New("the store has failed, and whether the last batch is on disk is unknown; stop and start again")
	// ErrClosed says that the store or the snapshot is closed.
	ErrClosed = errors.New("the store is closed")
)

// Options says how to create or open a store. The zero value is for production.
type Options struct {
	// FS is where everything happens; nil means the machine's file system.
	FS vfs.FS
	// ReadOnly opens without changing anything but Pebble's lock file. A store
	// in use cannot be opened so either: verify a Checkpoint of it.
	ReadOnly bool
	// Logger gets what Pebble has to say; nil means nobody does.
	Logger *slog.Logger
	// QuarantineRecords and QuarantineBytes bound what is kept of the refused
	// messages of one collector; the oldest go first. 0 means 1,000 records and
	// 16 MiB.
	QuarantineRecords, QuarantineBytes uint64
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.QuarantineRecords == 0 {
		o.QuarantineRecords = 1000
	}
	if o.QuarantineBytes == 0 {
		o.QuarantineBytes = 16 << 20
	}
	return o
}

// Store is an open ledger folder. Its methods may be called at the same time.
type Store struct {
	o     Options
	dir   string
	db    *pebble.DB
	lock  *pebble.Lock
	files *pebbleFS
	failure

	mu     sync.Mutex // one commit at a time; also held while a copy is made
	closed bool
	next   uint64 // index of the next entry
	signed uint64 // size of the last checkpoint
	any    bool   // there is a checkpoint

	broken  atomic.Bool   // a read ended in a panic of Pebble's
	trouble chan struct{} // gets a word when background work fails; has room for one

	snapMu    sync.Mutex
	published *published // what is synced; nil once closed
	open      int        // snapshots that callers hold
}

// Create makes an empty ledger in dir, which must not exist or be empty, and
// opens it. FORMAT is written last: a folder without it was never a ledger.
func Create(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if o.ReadOnly {
		return nil, errors.New("a ledger cannot be created read-only")
	}
	if err := checkEmpty(o.FS, dir); err != nil {
		return nil, err
	}
	if err := mkdirSynced(o.FS, dir, 0o700); err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	for _, folder := range []string{storeFolder(o.FS, dir), artifactsFolder(o.FS, dir), SecondPlaceFolder(o.FS, dir)} {
		if err := mkdirSynced(o.FS, folder, 0o755); err != nil {
			return nil, fmt.Errorf("create ledger: %w", err)
		}
	}
	s, err := openPebble(dir, o, true)
	if err != nil {
		return nil, err
	}
	version := binary.BigEndian.AppendUint32(nil, formatVersion)
	if err := s.guard(func() error { return s.db.Set(metaFormatKey(), version, pebble.Sync) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := writeSynced(o.FS, dir, formatFile, formatText(formatVersion)); err != nil {
		return nil, errors.Join(fmt.Errorf("create ledger: %w", err), s.Close())
	}
	s.publish()
	return s, nil
}

// Open opens the ledger in dir. It never creates one.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	version, err := readFormat(o.FS, dir)
	if err != nil {
		return nil, err
	}
	s, err := openPebble(dir, o, false)
	if err != nil {
		return nil, err
	}
	if err := s.load(version); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.publish()
	return s, nil
}

// load checks the format version and finds where to append. It seeks and never
// scans. A read-only store is opened for a verifier, who must be able to name
// what is unreadable: there, an unreadable row is no reason to give up.
func (s *Store) load(folder uint32) error {
	r := reader{s, s.db}
	version, err := r.formatVersion()
	if err == nil {
		err = checkVersion(s.dir, folder, version)
	}
	if s.o.ReadOnly {
		if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) {
			s.o.Logger.Warn("format version is unreadable", "error", err)
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	if s.next, err = r.size(); err != nil {
		return fmt.Errorf("%w; find out more with `ledger verify`", err)
	}
	size, _, _, err := r.latestCheckpoint()
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w; find out more with `ledger verify`", err)
	}
	s.signed, s.any = size, err == nil
	return nil
}

// Close flushes and closes. Every Snapshot must be closed before. A failed
// store is left as it is, locked, because what still runs inside it cannot be
// stopped: only the end of the process ends that.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.Err() != nil {
		s.closed = true
		return s.Err()
	}
	if err := s.unpublish(); err != nil {
		return err
	}
	s.closed = true
	if !s.o.ReadOnly {
		s.flush()
	}
	if s.Err() != nil {
		return s.Err()
	}
	s.files.running.Store(false) // closing, Pebble returns errors of its log
	broken := s.broken.Load()
	err := s.guard(func() error { return reader{s, nil}.safely(s.db.Close) })
	if s.Err() != nil {
		return s.Err()
	}
	if broken {
		// After a panic in Pebble its counts of what is open are wrong, and it
		// panics again over them, having closed the files.
		s.o.Logger.Warn("store: closed with damage", "error", err)
		err = nil
	}
	return errors.Join(err, s.lock.Close())
}

// flush makes a store at rest lie in files whose every block has a checksum, and
// spares the next start the replay of a log. Where it cannot, nothing is lost.
func (s *Store) flush() {
	select {
	case <-s.trouble: // of before
	default:
	}
	var flushed <-chan struct{}
	if err := s.guard(func() (err error) { flushed, err = s.db.AsyncFlush(); return err }); err != nil {
		return
	}
	select {
	case <-flushed:
	case <-s.trouble: // Pebble tries again for ever
	case <-s.done:
	}
}

// Commit writes all rows of b, or none, and returns once they are synced. b is
// used up. An error that is ErrFailed leaves the outcome unknown: the caller
// stops the process. After any other error nothing was written.
func (s *Store) Commit(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.Err() != nil:
		return s.Err()
	case s.o.ReadOnly:
		return errors.New("the store is open read-only")
	case b.used:
		return errors.New("the batch was committed before")
	}
	b.used = true
	if err := s.checkBatch(b); err != nil {
		return err
	}
	if err := s.settleQuarantine(b); err != nil {
		return err
	}
	// THE COMMIT POINT. Before this call returns, nothing of the batch counts,
	// and a crash leaves a store without it. Once it has returned without an
	// error, all of the batch is on disk for good, and only now may the second
	// place be written, the messages be acked and receipts be given. If it
	// returns an error, both is possible, and nothing in this process may be
	// believed about it: crash, and let Open find out (TestCrash).
	err := s.guard(func() error { return s.db.Apply(b.rows, pebble.Sync) })
	if err != nil {
		s.fail(err)
	}
	if s.Err() != nil {
		return s.Err()
	}
	s.next += b.entries
	if b.checkpoint {
		s.signed, s.any = b.signed, true
	}
	s.publish()
	_ = b.rows.Close() // gives memory back; has no error
	return nil
}

// checkBatch holds what only ever grows: entries without a gap, checkpoints
// with increasing size.
func (s *Store) checkBatch(b *Batch) error {
	if b.err != nil {
		return b.err
	}
	if b.entries > 0 && b.first != s.next {
		return fmt.Errorf("batch begins with entry %d, the store goes on with %d", b.first, s.next)
	}
	if !b.checkpoint {
		return nil
	}
	if s.any && b.signedFirst <= s.signed {
		return fmt.Errorf("checkpoint of size %d after one of size %d", b.signedFirst, s.signed)
	}
	if b.signed > s.next+b.entries {
		return fmt.Errorf("checkpoint of size %d, but there are %d entries", b.signed, s.next+b.entries)
	}
	return nil
}

// Checkpoint makes, in dst, which must not exist, a copy of the store as it is
// now: hard links to Pebble's immutable files where the file system has them,
// copies of the small rest. It is opened with Open and ReadOnly. It has no
// artifacts and no second place: those are read where they are. Read the second
// place before the copy is made: it is written after each commit, and so never
// ahead of a later copy.
func (s *Store) Checkpoint(dst string) error {
	s.mu.Lock() // else the copy may have a batch that is not synced in the store
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	if err := checkEmpty(s.o.FS, dst); err != nil {
		return err
	}
	if err := mkdirSynced(s.o.FS, dst, 0o700); err != nil {
		return fmt.Errorf("copy store: %w", err)
	}
	err := s.guard(func() error { return s.db.Checkpoint(storeFolder(s.o.FS, dst)) })
	if err == nil {
		err = s.Err()
	}
	if err == nil {
		err = writeSynced(s.o.FS, dst, formatFile, formatText(formatVersion))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy store: %w", err), s.o.FS.RemoveAll(dst))
	}
	return nil
}
