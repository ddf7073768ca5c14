package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/trust"
)

// Open loads a ledger that exists. It reads the stream `trust`, the ends of the
// streams and the right edge of the tree, never the whole log; it recomputes
// the newest root and compares it with the signed checkpoint and with the
// second place. Use verify to check the rest.
func Open(c Config) (*Ledger, error) {
	snap := c.Store.Snapshot()
	defer snap.Close()
	size, err := snap.Size()
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, errors.New("the ledger is empty: its creation was interrupted; remove the folder and run `ledger init` again")
	}
	state, err := LoadTrust(snap, c.Schemas)
	if err != nil {
		return nil, err
	}
	l := &Ledger{c: c, failed: make(chan struct{})}
	if c.Node.Public().ID() != state.NodeKey().ID() {
		if l.c.Node, err = rotated(c, state); err != nil {
			return nil, err
		}
	}
	if err := l.init(state.Origin()); err != nil {
		return nil, err
	}
	if l.chain, err = loadChain(snap, size); err != nil {
		return nil, err
	}
	head, err := loadHead(snap, size, state)
	if err != nil {
		return nil, err
	}
	if err := l.compareSecond(head, snap, state); err != nil {
		return nil, err
	}
	if err := l.checkConflict(snap, head); err != nil {
		return nil, err
	}
	l.state.Store(state)
	l.head.Store(head)
	return l, nil
}

// rotated finishes a rotation that was committed when the process ended: the
// next key is the node's, and takes its place.
func rotated(c Config, state *trust.State) (*sign.Key, error) {
	if c.NextNode != nil {
		if key, err := c.NextNode(); err == nil && key.Public().ID() == state.NodeKey().ID() {
			return key, c.Rotated()
		}
	}
	return nil, fmt.Errorf("the node key is %.16s..., the ledger's node key is %.16s...: give the right key file with --node-key", c.Node.Public().ID(), state.NodeKey().ID())
}

// LoadTrust projects stream trust as the store has it, with every check.
func LoadTrust(snap *store.Snapshot, schemas *event.Schemas) (*trust.State, error) {
	if schemas == nil {
		schemas = event.Builtin()
	}
	streams, err := snap.Streams()
	if err != nil {
		return nil, err
	}
	var state *trust.State
	for n := range streams["trust"].Count {
		index, err := snap.IndexOfNumber("trust", n)
		if err != nil {
			return nil, fmt.Errorf("stream trust number %d: %w", n, err)
		}
		_, ev, err := readEvent(snap, index, schemas)
		if err != nil {
			return nil, err
		}
		if state == nil {
			state, err = trust.Begin(ev)
		} else {
			state, err = state.Next(index, ev)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
	}
	if state == nil {
		return nil, errors.New("the ledger has no genesis: run `ledger verify` to see what is wrong with it")
	}
	return state, nil
}

func readEvent(snap *store.Snapshot, index uint64, schemas *event.Schemas) (*entry.Entry, *event.Event, error) {
	raw, err := snap.Entry(index)
	if err != nil {
		return nil, nil, fmt.Errorf("read entry %d: %w", index, err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	ev, err := event.Parse(e.Envelope, schemas)
	if err != nil {
		return nil, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	return e, ev, nil
}

func loadChain(snap *store.Snapshot, size uint64) (*entry.Chain, error) {
	streams, err := snap.Streams()
	if err != nil {
		return nil, err
	}
	heads := map[string]entry.Head{}
	for name, s := range streams {
		e, err := readEntry(snap, s.LastIndex)
		if err != nil {
			return nil, fmt.Errorf("the end of stream %s: %w", name, err)
		}
		heads[name] = entry.Head{Count: s.Count, Last: e.Leaf()}
	}
	last, err := readEntry(snap, size-1)
	if err != nil {
		return nil, err
	}
	return entry.Restore(size, last.Leaf(), last.Time, heads), nil
}

func readEntry(snap *store.Snapshot, index uint64) (*entry.Entry, error) {
	raw, err := snap.Entry(index)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", index, err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	return e, nil
}

// loadHead restores the tree and compares its root with the newest signed
// checkpoint, which covers every entry because both are one commit.
func loadHead(snap *store.Snapshot, size uint64, state *trust.State) (*Head, error) {
	tree, err := checkpoint.RestoreTree(size,
		func(t tlog.Tile) ([]byte, error) { return snap.Tile(t.L, uint64(t.N)) },
		func(index uint64) (tlog.Hash, error) {
			e, err := readEntry(snap, index)
			if err != nil {
				return tlog.Hash{}, err
			}
			return e.Leaf(), nil
		})
	if err != nil {
		return nil, fmt.Errorf("restore the tree: %w", err)
	}
	at, chain, noteBytes, err := snap.LatestCheckpoint()
	if err != nil {
		return nil, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	signed, err := verify.Checkpoint(noteBytes, state)
	if err != nil {
		return nil, fmt.Errorf("the newest checkpoint: %w", err)
	}
	if at != size || signed.Size != size || signed.Root != tree.Root() {
		return nil, fmt.Errorf("the store has %d entries with root %s, its newest checkpoint says %d entries with root %s: the store was changed; run `ledger verify`", size, tree.Root(), signed.Size, signed.Root)
	}
	return &Head{Checkpoint: signed.Checkpoint, Note: noteBytes, chain: chain, tree: tree}, nil
}

// SecondPlaceError: store and second place contradict each other. The node
// does not sign anything on top of either.
type SecondPlaceError struct {
	Store, Second []byte // both signed notes
	Why           string
}

func (e *SecondPlaceError) Error() string {
	return fmt.Sprintf("%s\nthe store's newest checkpoint:\n%s\nthe second place's:\n%s\nhint: the node signs nothing until you have put back the copy of the store that fits the second place; `ledger verify` names what is missing", e.Why, e.Store, e.Second)
}

// compareSecond: the second place is written after each commit. Ahead of the
// store, or another root at one size: the store lost or changed entries. Behind
// (a crash between both): brought forward, as its checkpoint is in the store.
func (l *Ledger) compareSecond(head *Head, snap *store.Snapshot, state *trust.State) error {
	chain, noteBytes, err := l.c.Second.Read()
	if errors.Is(err, store.ErrNotFound) && head.Size == 1 {
		return l.c.Second.Write(head.chain, head.Note) // a crash during creation
	}
	if errors.Is(err, store.ErrNotFound) {
		return &SecondPlaceError{Store: head.Note, Second: []byte("(none)\n"), Why: fmt.Sprintf("the second place %s is gone, though the store has %d entries", l.c.Second.Path(), head.Size)}
	}
	if err != nil {
		return err
	}
	second, err := verify.Checkpoint(noteBytes, state)
	if err != nil {
		return fmt.Errorf("second place %s: %w", l.c.Second.Path(), err)
	}
	if second.Size > head.Size {
		return &SecondPlaceError{Store: head.Note, Second: noteBytes, Why: fmt.Sprintf("the store has lost entries %d to %d: a checkpoint of %d entries was signed and the store ends after %d", head.Size, second.Size-1, second.Size, head.Size)}
	}
	storedChain, storedNote, err := snap.CheckpointAt(second.Size)
	if err != nil || storedChain != chain || !bytes.Equal(storedNote, noteBytes) {
		return &SecondPlaceError{Store: head.Note, Second: noteBytes, Why: fmt.Sprintf("the store's checkpoint of %d entries is not the one in the second place: two histories were signed", second.Size)}
	}
	if second.Size == head.Size {
		return nil
	}
	return l.c.Second.Write(head.chain, head.Note)
}
