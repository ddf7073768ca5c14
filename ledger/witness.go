package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

// ConflictError: somebody has a checkpoint that this node's key signed and that
// this log does not continue. The store was put back to an older copy, or two
// nodes have signed with one key. Both notes are the proof.
type ConflictError struct {
	Ours, Theirs []byte
	Why          string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s; the node signs nothing more\nthis log's newest checkpoint:\n%s\nthe one that was shown:\n%s\nhint: put back the newer copy of the data directory that fits the shown checkpoint; if there is none, begin a new ledger whose genesis names this one (ledger init --predecessor)", e.Why, e.Ours, e.Theirs)
}

// Witness compares a note that a collector has verified before with this log.
// It returns nil where the note fits. A note by the node's present key that does
// not fit stops the ledger for good: the conflict is kept on disk, and Open
// refuses while it is there. One by a former key, which a thief may have, or by
// nobody's, is refused only. TestEveryCollectorAWitness.
func (l *Ledger) Witness(note []byte) error {
	if l.witnessed(note) {
		return nil
	}
	unverified, err := checkpoint.ParseUnverified(note)
	if err != nil {
		return err
	}
	state := l.state.Load()
	p := l.Prove()
	defer p.Close()
	fits, err := p.fits(unverified.Checkpoint)
	if err != nil {
		return err
	}
	if _, err := verify.Checkpoint(note, state); err != nil {
		if fits {
			return err // its signature does not hold, whatever it says
		}
		return l.strange(note, state.NodeVKey(maxSize), err)
	}
	if fits {
		l.remember(note)
		return nil
	}
	if state.NodeVKey(unverified.Size) != state.NodeVKey(maxSize) {
		return problem.New("submission.checkpoint-former", "checkpoint", "the note of %d entries is by a key that the node had before, and does not fit this log", unverified.Size).With("note", string(note))
	}
	return l.conflict(note, unverified.Size)
}

const maxSize = checkpoint.MaxSize

// strange: beyond the newest rotation a note must be by the present key. One
// that is by it though its size belongs to a former key's time is a conflict,
// too: the node signed it after it lost entries.
func (l *Ledger) strange(note []byte, present string, why error) error {
	v, _, err := checkpoint.NewVerifier(present)
	if err != nil {
		return err
	}
	if signed, err := checkpoint.Open(note, v); err == nil {
		return l.conflict(note, signed.Size)
	}
	return problem.New("submission.checkpoint-unknown", "checkpoint", "the note does not fit this log and is not by the node's key: %v", why).With("note", string(note))
}

// fits tells whether the log has, or had, exactly this root at this size.
func (p *Proofs) fits(c checkpoint.Checkpoint) (bool, error) {
	if c.Origin != p.head.Origin || c.Size == 0 || c.Size > p.head.Size {
		return false, nil
	}
	root, err := tlog.TreeHash(int64(c.Size), checkpoint.NewHashReader(p.Tile, c.Size))
	if err != nil {
		return false, fmt.Errorf("compute the root of %d entries: %w", c.Size, err)
	}
	return root == c.Root, nil
}

func (l *Ledger) witnessed(note []byte) bool {
	last := l.lastNote.Load()
	return last != nil && *last == string(note)
}

func (l *Ledger) remember(note []byte) {
	s := string(note)
	l.lastNote.Store(&s)
}

// conflict keeps both notes on disk and stops.
func (l *Ledger) conflict(theirs []byte, size uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped != nil {
		return l.stopped
	}
	head := l.head.Load()
	why := fmt.Sprintf("a collector has a checkpoint of %d entries that this node signed, and this log of %d entries is not its continuation", size, head.Size)
	l.stopped = &ConflictError{Ours: head.Note, Theirs: theirs, Why: why}
	if l.c.Conflicts == "" {
		return l.stopped
	}
	if err := keepConflict(l.c.Conflicts, head.Note, theirs); err != nil {
		return errors.Join(l.stopped, err)
	}
	return l.stopped
}

func keepConflict(dir string, ours, theirs []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the conflicting notes: %w", err)
	}
	for name, note := range map[string][]byte{"ours": ours, "theirs": theirs} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("keep the conflicting notes: %w", err)
		}
		_, err = f.Write(note)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("keep the conflicting notes: %w", err)
		}
	}
	return nil
}

// checkConflict refuses to open while a conflict lies there unresolved: unless
// the log has come to fit the other's note, because the newer copy was put back.
func (l *Ledger) checkConflict(snap *store.Snapshot, head *Head) error {
	if l.c.Conflicts == "" {
		return nil
	}
	theirs, err := os.ReadFile(filepath.Join(l.c.Conflicts, "theirs"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	unverified, err := checkpoint.ParseUnverified(theirs)
	if err != nil {
		return fmt.Errorf("%s: %w", l.c.Conflicts, err)
	}
	p := &Proofs{head: head, snap: snap, tiles: map[tlog.Tile][]byte{}}
	fits, err := p.fits(unverified.Checkpoint)
	if err != nil {
		return err
	}
	if !fits {
		return &ConflictError{Ours: head.Note, Theirs: theirs, Why: fmt.Sprintf("a collector has shown a checkpoint of %d entries that this node signed, and this log of %d entries is not its continuation (kept in %s)", unverified.Size, head.Size, l.c.Conflicts)}
	}
	return os.RemoveAll(l.c.Conflicts)
}
