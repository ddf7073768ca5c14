// Package verify checks a whole log, or one receipt, and says what it found.
//
// It believes nobody but the identity that the caller brings: every byte of
// every entry is hashed again, every signature is verified again, every key is
// judged by the state of stream `trust` just before the entry. It touches no
// network, no clock, no private key and writes no file; the log is read through
// Source, times are given. So it builds for a browser as well (GOOS=js
// GOARCH=wasm), and the same code serves node, auditor and certification body.
//
// What is wrong comes out as a list of problems (package problem), each with a
// rule of FORMAT.md, the entry, a sentence and the values that prove it. A
// failure of the machine, such as a disk that does not answer, is an error
// instead: then nothing is said about the log.
//
// TestVectors runs every vector below testdata; TestEveryRuleHasABadVector and
// TestEveryCheckIsNeeded hold that each check matters.
package verify

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
)

// Source is a log as somebody keeps it. The verifier believes nothing of it.
type Source interface {
	// Entries calls fn with the entries from index `from` on, in order, and
	// stops at the first error of fn, which it returns. Where the rest cannot
	// be read it returns another error; the verifier goes on with Entry. The
	// bytes are valid during the call only.
	Entries(from uint64, fn func(index uint64, raw []byte) error) error
	// Entry returns one entry; fs.ErrNotExist (wrapped) where there is none.
	Entry(index uint64) ([]byte, error)
	// Checkpoints calls fn with every signed checkpoint by ascending size.
	Checkpoints(fn func(size uint64, note []byte) error) error
	// Tile returns a full tile of 256 hashes; fs.ErrNotExist where there is none.
	Tile(level int, n uint64) ([]byte, error)
	// IndexOf returns the index under which the source lists an event id, which
	// need not be right; fs.ErrNotExist where it lists none.
	IndexOf(id string) (uint64, error)
	// Artifact opens the raw evidence with this SHA-256; fs.ErrNotExist where
	// there is none.
	Artifact(sha256 [32]byte) (io.ReadCloser, error)
}

// Known is a checkpoint that somebody has seen: an auditor, a witness, the
// node's second place. The log must still be an extension of it.
type Known struct {
	Name string // where it comes from, for the report
	Note []byte // the signed note
}

// Visited is one entry on its way through Log, for comparing projections.
type Visited struct {
	Index uint64
	Leaf  tlog.Hash
	Event *event.Event
	Time  time.Time
	// Stream and Number are the entry's own.
	Stream string
	Number uint64
}

// Options of Log.
type Options struct {
	// Identity is the line that says whom to believe; without one the verdict
	// is never Verified.
	Identity *checkpoint.Identity
	// Known checkpoints must fit.
	Known []Known
	// Now is the time against which numbers that have not arrived are judged.
	Now time.Time
	// Schemas of the evidence types; nil means the built-in ones.
	Schemas *event.Schemas
	// Visit, if set, is called for each well-formed entry in order.
	Visit func(Visited, *Report)
	// Progress, if set, is called now and then with the entries done.
	Progress func(done uint64)
	// Workers verify signatures beside each other; 0 means one per core.
	Workers int
}

// ErrEmpty is returned for a log without any entry: a verifier of nothing does
// not say "verified".
var ErrEmpty = errors.New("the log has no entry at all, not even its genesis")

// Log verifies the whole log. The error is nil even when problems were found;
// they are in the report.
func Log(ctx context.Context, src Source, o Options) (*Report, error) {
	if o.Schemas == nil {
		o.Schemas = event.Builtin()
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	v := newLogVerifier(src, o)
	defer v.checkpoints.stop()
	err := readEntries(ctx, src, o, v.shared, v.entry)
	if err != nil {
		return nil, err
	}
	if v.size == 0 {
		return nil, ErrEmpty
	}
	v.finish()
	v.report.Decide(o.Identity != nil)
	return v.report, nil
}

func notFound(err error) bool { return errors.Is(err, fs.ErrNotExist) }
