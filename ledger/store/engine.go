package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// failure is the state from which there is no way back but the end of the
// process.
type failure struct {
	once sync.Once
	err  atomic.Pointer[error]
	done chan struct{}
}

func (f *failure) fail(err error) {
	f.once.Do(func() {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		f.err.Store(&err)
		close(f.done)
	})
}

// Err returns an ErrFailed with its cause once the store has failed, else nil.
func (f *failure) Err() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Failed is closed when the store fails, also by something in its background.
// The process must then stop: see ErrFailed.
func (f *failure) Failed() <-chan struct{} { return f.done }

// guard calls into Pebble where Pebble writes. It needs a goroutine of its own:
// once Pebble has called Fatalf, which it expects never to return, what called
// it may panic or wait for ever.
func (f *failure) guard(call func() error) error {
	result := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				f.fail(fmt.Errorf("panic: %v", r))
				result <- f.Err()
			}
		}()
		result <- call()
	}()
	select {
	case err := <-result:
		return err
	case <-f.done:
		return f.Err()
	}
}

// openPebble opens dir/store. Pebble's lock is taken first and by us, to tell
// "in use" from everything else that can go wrong.
func openPebble(dir string, o Options, create bool) (*Store, error) {
	folder := storeFolder(o.FS, dir)
	if err := checkPlain(o.FS, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", folder, err)
	}
	lock, err := pebble.LockDirectory(folder, o.FS)
	if err != nil && o.ReadOnly && mayNotWrite(err) {
		// An auditor's medium, or somebody else's copy: nobody who could not
		// lock it either is writing there by our right, so it is read as it lies.
		o.FS = unlocked{o.FS}
		lock, err = pebble.LockDirectory(folder, o.FS)
	}
	if err != nil {
		return nil, lockError(folder, err)
	}
	s := &Store{o: o, dir: dir, lock: lock, trouble: make(chan struct{}, 1)}
	s.done = make(chan struct{})
	s.files = &pebbleFS{FS: o.FS, folder: folder, failure: &s.failure}
	err = s.guard(func() (err error) {
		s.db, err = pebble.Open(folder, s.pebbleOptions(create))
		return err
	})
	if failed := s.Err(); failed != nil {
		return nil, fmt.Errorf("open %s: %w", folder, failed)
	}
	if err != nil {
		return nil, errors.Join(openError(folder, err), lock.Close())
	}
	s.files.running.Store(true)
	return s, nil
}

// mayNotWrite tells a folder in which no lock file can be made from one that
// somebody holds.
func mayNotWrite(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// unlocked is a file system whose locks are always had.
type unlocked struct{ vfs.FS }

func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// lockError tells a lock that somebody holds (fcntl's bare error number, or
// Pebble's words for this process) from a file that cannot be made.
func lockError(folder string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: the ledger folder is incomplete; restore it from a backup", folder)
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("lock %s: %w", folder, err)
	}
	return fmt.Errorf("%s: %w (%w)", folder, ErrLocked, err)
}

func openError(folder string, err error) error {
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return fmt.Errorf("%s holds no store: the ledger folder is incomplete; restore it from a backup", folder)
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) {
		return &CorruptError{File: corruptFile(err), Err: fmt.Errorf("open %s: %w", folder, err)}
	}
	return fmt.Errorf("open %s: %w", folder, err)
}

// pebbleOptions: sizes are for a node with some hundred MiB to spare. Values of
// 1 KiB and more (most entries, all tiles) go to blob files, which compactions
// leave alone: entries are never overwritten, so moving them is only cost.
func (s *Store) pebbleOptions(create bool) *pebble.Options {
	events := s.events()
	opts := &pebble.Options{
		FS:                          s.files,
		Lock:                        s.lock,
		ReadOnly:                    s.o.ReadOnly,
		ErrorIfExists:               create,
		ErrorIfNotExists:            !create,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		CacheSize:                   64 << 20,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		Logger:                      pebbleLogger{s},
		EventListener:               &events,
	}
	opts.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled:               true,
			MinimumSize:           1 << 10,
			MaxBlobReferenceDepth: 10,
			RewriteMinimumAge:     5 * time.Minute,
			TargetGarbageRatio:    0.3,
		}
	}
	for i := range opts.Levels {
		opts.Levels[i].Compression = func() *block.CompressionProfile { return block.BalancedCompression }
		// Nearly every look-up of an event id is for one that is not there.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return opts
}

// events replaces the two default handlers that end the process: for corruption
// (the reader gets the error, and says which row) and, through the logger, for
// failed commits.
func (s *Store) events() pebble.EventListener {
	var stalled atomic.Int32
	var last atomic.Int64 // when a background error was logged: Pebble tries again without a pause
	return pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.o.Logger.Error("store: corrupt file", "file", info.Path, "error", info.Details)
		},
		BackgroundError: func(err error) {
			if now := time.Now().Unix(); last.Swap(now) != now {
				s.o.Logger.Error("store: background work failed", "error", err)
			}
			select {
			case s.trouble <- struct{}{}:
			default:
			}
			// A commit waits for this very work, and would wait for ever.
			if stalled.Load() > 0 {
				s.fail(err)
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			stalled.Add(1)
			s.o.Logger.Warn("store: writes wait", "reason", info.Reason)
		},
		WriteStallEnd: func() { stalled.Add(-1) },
		DiskSlow: func(info pebble.DiskSlowInfo) {
			s.o.Logger.Warn("store: slow disk", "file", info.Path, "duration", info.Duration)
		},
		PossibleAPIMisuse: func(info pebble.PossibleAPIMisuseInfo) {
			s.o.Logger.Error("store: misuse", "info", info.String())
		},
	}
}

// pebbleLogger turns Pebble's Fatalf, which by default exits, into a failure.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any)  { l.log(slog.LevelDebug, format, args) }
func (l pebbleLogger) Errorf(format string, args ...any) { l.log(slog.LevelError, format, args) }
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.log(slog.LevelError, format, args)
	l.s.fail(fmt.Errorf(format, args...))
}

func (l pebbleLogger) log(level slog.Level, format string, args []any) {
	if !l.s.o.Logger.Enabled(context.Background(), level) {
		return
	}
	l.s.o.Logger.Log(context.Background(), level, "pebble: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// corruptFile returns the file that err is about, "" where it does not say.
func corruptFile(err error) string {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return info.Path
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Path
	}
	return ""
}
