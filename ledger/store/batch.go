package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch gathers rows for one Commit. It keeps copies of what it is given. A
// row that cannot be (a malformed id, a gap between entries) is remembered, and
// Commit returns it as its error.
type Batch struct {
	rows *pebble.Batch
	used bool
	err  error

	first, entries uint64 // run of entries

	checkpoint          bool
	signedFirst, signed uint64 // sizes of the first and last checkpoint

	puts      []Quarantined
	deletions []quarantined
}

// quarantined names one record.
type quarantined struct {
	collector string
	number    uint64
}

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{rows: s.db.NewBatch()} }

// Len returns how many rows the batch has.
func (b *Batch) Len() int { return int(b.rows.Count()) + len(b.puts) + len(b.deletions) }

// PutEntry appends an entry. Entries are put in order, without a gap.
func (b *Batch) PutEntry(index uint64, raw []byte) {
	if b.entries == 0 {
		b.first = index
	}
	if index != b.first+b.entries {
		b.refuse(fmt.Errorf("entry %d put after entry %d", index, b.first+b.entries-1))
		return
	}
	b.entries++
	b.set(entryKey(index), raw)
}

// PutTile keeps full tile n of a level.
func (b *Batch) PutTile(level int, n uint64, data []byte) {
	if level < 0 || level > 63 || len(data) != TileSize {
		b.refuse(fmt.Errorf("tile level %d number %d with %d bytes is no full tile", level, n, len(data)))
		return
	}
	b.set(tileKey(level, n), data)
}

// PutID keeps where the event with this id is.
func (b *Batch) PutID(id string, index uint64) {
	raw, err := parseUUID(id)
	if err != nil {
		b.refuse(err)
		return
	}
	b.set(idKey(raw), number(nil, index))
}

// PutNumber keeps where number n of a stream is.
func (b *Batch) PutNumber(stream string, n, index uint64) {
	if err := checkName("stream", stream); err != nil {
		b.refuse(err)
		return
	}
	b.set(streamKey(stream, n), number(nil, index))
}

// PutSeq keeps where a collector's event with this key, type and seq is.
func (b *Batch) PutSeq(keyID, typ string, seq, index uint64) {
	raw, err := parseKeyID(keyID)
	if err == nil {
		err = checkName("type", typ)
	}
	if err != nil {
		b.refuse(err)
		return
	}
	b.set(seqKey(raw, typ, seq), number(nil, index))
}

// PutCheckpoint keeps a signed checkpoint with the chain value over all signed
// checkpoints up to it: see NextChain.
func (b *Batch) PutCheckpoint(size uint64, chain [32]byte, note []byte) {
	if b.checkpoint && size <= b.signed {
		b.refuse(fmt.Errorf("checkpoint of size %d put after one of size %d", size, b.signed))
		return
	}
	if !b.checkpoint {
		b.signedFirst = size
	}
	b.checkpoint, b.signed = true, size
	b.set(checkpointKey(size), append(chain[:], note...))
}

// PutRejections keeps the counts of refused messages that no entry of the log
// holds yet. There is one such row.
func (b *Batch) PutRejections(counts []byte) { b.set(rejectionsKey(), counts) }

func (b *Batch) set(key, value []byte) {
	// A batch in memory has no other error than one that was committed.
	if err := b.rows.Set(key, value, nil); err != nil {
		b.refuse(err)
	}
}

func (b *Batch) refuse(err error) {
	if b.err == nil {
		b.err = err
	}
}
