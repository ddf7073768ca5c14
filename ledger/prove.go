package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
)

// Holds tells whether the very payload of the event is in the log already.
func (l *Ledger) Holds(ev *event.Event) (bool, error) {
	snap := l.c.Store.Snapshot()
	defer snap.Close()
	index, err := snap.IndexOfID(ev.ID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	earlier, err := payloadAt(snap, index)
	return earlier == ev.Envelope.PayloadSHA256(), err
}

// Proofs makes receipts and proofs against one head. It remembers the tiles
// that it read, so that the receipts of one batch read each tile once. It is
// not safe for concurrent use.
type Proofs struct {
	head  *Head
	snap  *store.Snapshot
	tiles map[tlog.Tile][]byte
}

// Prove returns a Proofs over the newest head; the caller closes it. The
// snapshot is taken after the head, so it has all that the head covers.
func (l *Ledger) Prove() *Proofs {
	head := l.head.Load()
	return &Proofs{head: head, snap: l.c.Store.Snapshot(), tiles: map[tlog.Tile][]byte{}}
}

// Close releases the snapshot.
func (p *Proofs) Close() { p.snap.Close() }

// Head is the checkpoint that all of these proofs lead to.
func (p *Proofs) Head() *Head { return p.head }

// Tile returns W hashes of a tile: from a full tile, which never changes, or
// from the right edge that the head has in memory.
func (p *Proofs) Tile(t tlog.Tile) ([]byte, error) {
	if t.H != checkpoint.TileHeight || t.L < 0 || t.N < 0 || t.W < 1 || t.W > checkpoint.TileWidth {
		return nil, fmt.Errorf("no tile %s: %w", checkpoint.TilePath(t), store.ErrNotFound)
	}
	width := t.W * tlog.HashSize
	perTile := uint64(1) << (checkpoint.TileHeight * min(t.L, 6))
	done := p.head.Size / perTile // hashes at this level
	first := uint64(t.N) * checkpoint.TileWidth
	if t.L > 6 || first+uint64(t.W) > done {
		return nil, fmt.Errorf("tile %s lies beyond the %d entries of the log: %w", checkpoint.TilePath(t), p.head.Size, store.ErrNotFound)
	}
	if first+checkpoint.TileWidth > done {
		return p.head.tree.Partial(t.L)[:width], nil
	}
	full := tlog.Tile{H: t.H, L: t.L, N: t.N, W: checkpoint.TileWidth}
	data := p.tiles[full]
	if data == nil {
		var err error
		if data, err = p.snap.Tile(t.L, uint64(t.N)); err != nil {
			return nil, fmt.Errorf("tile %s: %w", checkpoint.TilePath(full), err)
		}
		p.tiles[full] = data
	}
	return data[:width], nil
}

// Inclusion proves entry index against the head, without `extra`.
func (p *Proofs) Inclusion(index uint64) (*checkpoint.Proof, error) {
	if index >= p.head.Size {
		return nil, fmt.Errorf("entry %d lies beyond the %d entries of the log: %w", index, p.head.Size, store.ErrNotFound)
	}
	hashes, err := tlog.ProveRecord(int64(p.head.Size), int64(index), checkpoint.NewHashReader(p.Tile, p.head.Size))
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	return &checkpoint.Proof{Index: index, Hashes: hashes, Checkpoint: p.head.Note}, nil
}

// Receipt proves entry index, with the entry's header as `extra`.
func (p *Proofs) Receipt(index uint64) ([]byte, error) {
	proof, err := p.Inclusion(index)
	if err != nil {
		return nil, err
	}
	raw, err := p.snap.Entry(index)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", index, err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	proof.Extra = raw[:len(raw)-len(e.Envelope)]
	return proof.Marshal(), nil
}

// ReceiptByID is Receipt for the entry of an event id.
func (p *Proofs) ReceiptByID(id string) ([]byte, error) {
	index, err := p.snap.IndexOfID(id)
	if err != nil {
		return nil, err
	}
	return p.Receipt(index)
}

// Consistency proves that the tree of `to` entries goes on from that of `from`.
func (p *Proofs) Consistency(from, to uint64) ([]tlog.Hash, error) {
	if from > to || to > p.head.Size {
		return nil, fmt.Errorf("no consistency proof from %d to %d entries: the log has %d: %w", from, to, p.head.Size, store.ErrNotFound)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	proof, err := tlog.ProveTree(int64(to), int64(from), checkpoint.NewHashReader(p.Tile, to))
	if err != nil {
		return nil, fmt.Errorf("prove the consistency of %d with %d entries: %w", to, from, err)
	}
	return []tlog.Hash(proof), nil
}

// Entries returns the bytes of entries [from, to), which the head covers.
func (p *Proofs) Entries(from, to uint64) ([][]byte, error) {
	if from > to || to > p.head.Size {
		return nil, fmt.Errorf("entries %d to %d lie beyond the %d entries of the log: %w", from, to, p.head.Size, store.ErrNotFound)
	}
	out := make([][]byte, 0, to-from)
	for i := from; i < to; i++ {
		raw, err := p.snap.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("read entry %d: %w", i, err)
		}
		out = append(out, raw)
	}
	return out, nil
}

// Snapshot is what the proofs were read from.
func (p *Proofs) Snapshot() *store.Snapshot { return p.snap }

// ProofsOf proves against the newest checkpoint of a snapshot, for a store that
// no node has open. The caller still closes the snapshot.
func ProofsOf(snap *store.Snapshot) (*Proofs, error) {
	size, err := snap.Size()
	if err != nil {
		return nil, err
	}
	state, err := LoadTrust(snap, nil)
	if err != nil {
		return nil, err
	}
	head, err := loadHead(snap, size, state)
	if err != nil {
		return nil, err
	}
	return &Proofs{head: head, snap: snap, tiles: map[tlog.Tile][]byte{}}, nil
}
