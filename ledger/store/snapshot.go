package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// CorruptError says that rows could not be read: a checksum of Pebble's does
// not fit, or a file is missing. What lies behind can still be read: entries
// one by one with Entry, or from an index on with Entries.
type CorruptError struct {
	Table Table  // 0 where the store could not be opened
	Index uint64 // in table entries: the first index that could not be read
	Row   string // the row that could not be read, where it is known
	After string // the last row that could be read before it; "" at the first
	File  string // the file, "" where it is not known
	Err   error
}

func (e *CorruptError) Error() string {
	var b bytes.Buffer
	b.WriteString("store is damaged")
	if e.Table != 0 {
		fmt.Fprintf(&b, ": table %s", e.Table)
	}
	switch {
	case e.Row != "":
		fmt.Fprintf(&b, ": %s cannot be read", e.Row)
	case e.After != "":
		fmt.Fprintf(&b, ": cannot be read after %s", e.After)
	case e.Table != 0:
		b.WriteString(": cannot be read from its beginning")
	}
	if e.File != "" {
		fmt.Fprintf(&b, ": file %s", e.File)
	}
	// Pebble puts a second line below, which says nothing to people.
	why, _, _ := strings.Cut(e.Err.Error(), "\n")
	fmt.Fprintf(&b, ": %s", why)
	return b.String()
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Last is the newest event of one key and type.
type Last struct{ Seq, Index uint64 }

// StreamHead says how far a stream has come.
type StreamHead struct {
	Count     uint64 // numbers 0 to Count-1 are there
	LastIndex uint64 // the entry with number Count-1
}

// published is Pebble's snapshot after the last commit, shared by those who
// read it.
type published struct {
	snap *pebble.Snapshot
	refs int
}

// publish makes what is now in the store what readers see. It is called where
// everything in the store is synced.
func (s *Store) publish() {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	old := s.published
	s.published = &published{snap: s.db.NewSnapshot(), refs: 1}
	if old != nil {
		s.release(old)
	}
}

func (s *Store) unpublish() error {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	if s.open > 0 {
		return fmt.Errorf("the store cannot be closed: %d snapshots are open", s.open)
	}
	if s.published != nil {
		s.release(s.published)
		s.published = nil
	}
	return nil
}

func (s *Store) release(p *published) {
	if p.refs--; p.refs == 0 {
		_ = p.snap.Close() // has no error but for a second Close
	}
}

// Snapshot returns the store as the last commit left it. It must be closed. It
// does not change, however long it is held; several goroutines may use it.
func (s *Store) Snapshot() *Snapshot {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	if s.published == nil {
		return &Snapshot{s: s}
	}
	s.published.refs++
	s.open++
	return &Snapshot{s: s, p: s.published, r: reader{s, s.published.snap}}
}

// Snapshot reads one state of the store. Bytes that it returns, or gives to a
// function, are the caller's.
type Snapshot struct {
	s *Store
	p *published // nil once closed
	r reader
}

// Close gives the snapshot back. No method may be running.
func (n *Snapshot) Close() {
	n.s.snapMu.Lock()
	defer n.s.snapMu.Unlock()
	if n.p != nil {
		n.s.release(n.p)
		n.s.open--
		n.p = nil
	}
}

// ready refuses to read from a store that has failed: nothing inside it is
// believed any more.
func (n *Snapshot) ready() error {
	if n.p == nil {
		return ErrClosed
	}
	return n.s.Err()
}

// Size returns how many entries there are, by the last one's index.
func (n *Snapshot) Size() (uint64, error) {
	if err := n.ready(); err != nil {
		return 0, err
	}
	return n.r.size()
}

// Entry returns one entry, raw.
func (n *Snapshot) Entry(index uint64) ([]byte, error) { return n.get(entryKey(index)) }

// Entries calls fn for every entry from an index on, in order. Where one cannot
// be read it returns a *CorruptError with its index; errors of fn are returned
// as they are. That no index is left out is for the caller to check.
func (n *Snapshot) Entries(from uint64, fn func(index uint64, raw []byte) error) error {
	next := from
	err := n.scan(TableEntries, entryKey(from), func(key, value []byte) error {
		row, err := DecodeEntry(key, value)
		if err != nil || row.Index >= MaxEntries {
			return nil // no entry: Foreign names it
		}
		if err := fn(row.Index, row.Raw); err != nil {
			return callerError{err}
		}
		next = row.Index + 1
		return nil
	})
	if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) {
		corrupt.Index = next
	}
	return unwrapCaller(err)
}

// callerError keeps an error of the caller's function from being taken for ours.
type callerError struct{ err error }

func (e callerError) Error() string { return e.err.Error() }

func unwrapCaller(err error) error {
	if e, ok := err.(callerError); ok {
		return e.err
	}
	return err
}

// Tile returns full tile number of a level.
func (n *Snapshot) Tile(level int, number uint64) ([]byte, error) {
	if level < 0 || level > 63 {
		return nil, ErrNotFound
	}
	return n.get(tileKey(level, number))
}

// IndexOfID returns where the event with this id is.
func (n *Snapshot) IndexOfID(id string) (uint64, error) {
	raw, err := parseUUID(id)
	if err != nil {
		return 0, err
	}
	return n.getIndex(idKey(raw))
}

// IndexOfNumber returns where a number of a stream is.
func (n *Snapshot) IndexOfNumber(stream string, number uint64) (uint64, error) {
	if err := checkName("stream", stream); err != nil {
		return 0, err
	}
	return n.getIndex(streamKey(stream, number))
}

// IndexOfSeq returns where the event of this key, type and seq is.
func (n *Snapshot) IndexOfSeq(keyID, typ string, seq uint64) (uint64, error) {
	raw, err := parseKeyID(keyID)
	if err == nil {
		err = checkName("type", typ)
	}
	if err != nil {
		return 0, err
	}
	return n.getIndex(seqKey(raw, typ, seq))
}

// Streams returns how far each stream has come. It seeks from stream to stream.
func (n *Snapshot) Streams() (map[string]StreamHead, error) {
	heads := map[string]StreamHead{}
	err := n.lastOfEach(TableStreams, []byte{byte(TableStreams)}, func(key, value []byte) error {
		row, err := DecodeStream(key, value)
		heads[row.Stream] = StreamHead{row.Number + 1, row.Index}
		return err
	})
	return heads, err
}

// LastSeqs returns the newest event of each type of one key.
func (n *Snapshot) LastSeqs(keyID string) (map[string]Last, error) {
	raw, err := parseKeyID(keyID)
	if err != nil {
		return nil, err
	}
	last := map[string]Last{}
	err = n.lastOfEach(TableSeqs, seqPrefix(raw), func(key, value []byte) error {
		row, err := DecodeSeq(key, value)
		last[row.Type] = Last{row.Seq, row.Index}
		return err
	})
	return last, err
}

// lastOfEach calls fn with the last row of each name behind prefix.
func (n *Snapshot) lastOfEach(table Table, prefix []byte, fn func(key, value []byte) error) error {
	if err := n.ready(); err != nil {
		return err
	}
	c := n.r.cursor(prefix, after(prefix))
	defer c.close()
	var seen []byte
	for ok := c.to((*pebble.Iterator).First); ok; {
		key, _, _ := c.row() // of the first row only the name is needed
		if len(key) < len(prefix)+10 || key[len(key)-9] != 0 {
			return &CorruptError{Table: table, Row: RowName(key), Err: errors.New("malformed key")}
		}
		next := after(key[:len(key)-8])
		c.to(func(i *pebble.Iterator) bool { return i.SeekLT(next) })
		key, value, err := c.row()
		if err != nil {
			return n.r.corrupt(table, key, nil, err)
		}
		if err := fn(key, value); err != nil {
			return &CorruptError{Table: table, Row: RowName(key), Err: err}
		}
		seen = key
		ok = c.to(func(i *pebble.Iterator) bool { return i.SeekGE(next) })
	}
	if err := c.close(); err != nil {
		return n.r.corrupt(table, nil, seen, err)
	}
	return n.s.Err()
}

// LatestCheckpoint returns the signed checkpoint with the greatest size.
func (n *Snapshot) LatestCheckpoint() (size uint64, chain [32]byte, note []byte, err error) {
	if err := n.ready(); err != nil {
		return 0, chain, nil, err
	}
	return n.r.latestCheckpoint()
}

// CheckpointAt returns the signed checkpoint of one size.
func (n *Snapshot) CheckpointAt(size uint64) (chain [32]byte, note []byte, err error) {
	value, err := n.get(checkpointKey(size))
	if err != nil {
		return chain, nil, err
	}
	row, err := DecodeCheckpoint(checkpointKey(size), value)
	return row.Chain, row.Note, err
}

// Checkpoints calls fn for every signed checkpoint, by size.
func (n *Snapshot) Checkpoints(fn func(size uint64, chain [32]byte, note []byte) error) error {
	return n.Rows(TableCheckpoints, func(key, value []byte) error {
		row, err := DecodeCheckpoint(key, value)
		if err != nil {
			return &CorruptError{Table: TableCheckpoints, Row: RowName(key), Err: err}
		}
		return fn(row.Size, row.Chain, row.Note)
	})
}

// Rejections returns what PutRejections kept last; nil where nothing was.
func (n *Snapshot) Rejections() ([]byte, error) {
	value, err := n.get(rejectionsKey())
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return value, err
}

// Rows calls fn for every row of a table, in the order of their keys, which
// begin with the table's byte. A row that cannot be read ends it with a
// *CorruptError; errors of fn are returned as they are.
func (n *Snapshot) Rows(table Table, fn func(key, value []byte) error) error {
	return unwrapCaller(n.scan(table, []byte{byte(table)}, func(key, value []byte) error {
		if err := fn(key, value); err != nil {
			return callerError{err}
		}
		return nil
	}))
}

// Foreign calls fn for the key of every row that belongs to no table, or stands
// among those of a table and is none of it: a store has no such row. Values are
// not read. In the tables that Rows and a Decode function read anyway, the
// latter names such a row.
func (n *Snapshot) Foreign(fn func(key []byte) error) error {
	if err := n.foreignRanges(fn); err != nil {
		return err
	}
	// The one row of meta has exactly the bytes that this program wrote.
	format, err := n.get(metaFormatKey())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if string(format) != string(binary.BigEndian.AppendUint32(nil, formatVersion)) {
		if err := fn(metaFormatKey()); err != nil {
			return err
		}
	}
	var from []byte // none: Pebble, built with the race detector, panics at an empty bound
	for _, table := range append(Tables(), 0) {
		first := []byte{byte(table)}
		end := after(first)
		if table == 0 {
			first, end = nil, nil
		}
		if err := n.scanKeys(from, first, fn); err != nil {
			return err
		}
		if !decodable(table) {
			if err := n.scanKeys(first, end, func(key []byte) error {
				if belongs(table, key) {
					return nil
				}
				return fn(key)
			}); err != nil {
				return err
			}
		}
		from = end
	}
	return nil
}

// decodable tells whether a table has a Decode function that reads all of its
// keys; TableEntries has one, but its rows are read by index.
func decodable(table Table) bool {
	return table == 0 || table != TableEntries && table != TableMeta && table != TableRejections
}

func belongs(table Table, key []byte) bool {
	if table == TableEntries {
		row, err := DecodeEntry(key, nil)
		return err == nil && row.Index < MaxEntries
	}
	return bytes.Equal(key, metaFormatKey()) || bytes.Equal(key, rejectionsKey())
}

// scanKeys reads keys forwards and no values.
func (n *Snapshot) scanKeys(from, to []byte, fn func(key []byte) error) error {
	if err := n.ready(); err != nil {
		return err
	}
	c := n.r.cursor(from, to)
	defer c.close()
	var seen []byte
	for ok := c.to((*pebble.Iterator).First); ok; ok = c.to((*pebble.Iterator).Next) {
		seen = bytes.Clone(c.iter.Key())
		if err := fn(seen); err != nil {
			return err
		}
	}
	if err := c.close(); err != nil {
		return n.r.corrupt(0, nil, seen, err)
	}
	return n.s.Err()
}

func (n *Snapshot) scan(table Table, from []byte, fn func(key, value []byte) error) error {
	return n.scanRange(table, from, after([]byte{byte(table)}), fn)
}

// scanRange reads forwards and gives fn copies.
// foreignRanges calls fn for the beginning of every range key: no table has any.
func (n *Snapshot) foreignRanges(fn func(key []byte) error) error {
	if err := n.ready(); err != nil {
		return err
	}
	c := &cursor{r: n.r}
	c.err = n.r.safely(func() (err error) {
		c.iter, err = n.r.from.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypeRangesOnly})
		return err
	})
	defer c.close()
	for ok := c.to((*pebble.Iterator).First); ok; ok = c.to((*pebble.Iterator).Next) {
		start, _ := c.iter.RangeBounds()
		if err := fn(bytes.Clone(start)); err != nil {
			return err
		}
	}
	if err := c.close(); err != nil {
		return n.r.corrupt(0, nil, nil, err)
	}
	return nil
}

func (n *Snapshot) scanRange(table Table, from, to []byte, fn func(key, value []byte) error) error {
	if err := n.ready(); err != nil {
		return err
	}
	c := n.r.cursor(from, to)
	defer c.close()
	var seen []byte
	for ok := c.to((*pebble.Iterator).First); ok; ok = c.to((*pebble.Iterator).Next) {
		key, value, err := c.row()
		if err != nil {
			return n.r.corrupt(table, key, seen, err)
		}
		if err := fn(key, value); err != nil {
			return err
		}
		seen = key
	}
	if err := c.close(); err != nil {
		return n.r.corrupt(table, nil, seen, err)
	}
	return n.s.Err()
}

func (n *Snapshot) get(key []byte) ([]byte, error) {
	if err := n.ready(); err != nil {
		return nil, err
	}
	value, err := n.r.get(key)
	if failed := n.s.Err(); failed != nil {
		return nil, failed
	}
	return value, err
}

func (n *Snapshot) getIndex(key []byte) (uint64, error) {
	value, err := n.get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, &CorruptError{Table: Table(key[0]), Row: RowName(key), Err: fmt.Errorf("value of %d bytes, expected 8", len(value))}
	}
	return binary.BigEndian.Uint64(value), nil
}

// size takes the last key only: its value may be unreadable.
func (r reader) size() (uint64, error) {
	key, _, err := r.last(TableEntries)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if key == nil {
		return 0, err
	}
	row, err := DecodeEntry(key, nil)
	if err != nil {
		return 0, &CorruptError{Table: TableEntries, Row: RowName(key), Err: err}
	}
	if row.Index >= MaxEntries {
		return 0, &CorruptError{Table: TableEntries, Row: RowName(key), Err: errors.New("no log is that long")}
	}
	return row.Index + 1, nil
}

func (r reader) latestCheckpoint() (size uint64, chain [32]byte, note []byte, err error) {
	key, value, err := r.last(TableCheckpoints)
	if err != nil {
		return 0, chain, nil, err
	}
	row, err := DecodeCheckpoint(key, value)
	if err != nil {
		return 0, chain, nil, &CorruptError{Table: TableCheckpoints, Row: RowName(key), Err: err}
	}
	return row.Size, row.Chain, row.Note, nil
}

func (r reader) formatVersion() (uint32, error) {
	value, err := r.get(metaFormatKey())
	if errors.Is(err, ErrNotFound) {
		return 0, fmt.Errorf("%s: the store has no format version: it was not made by `ledger init`, or has lost its beginning; restore it from a backup", r.s.dir)
	}
	if err != nil {
		return 0, err
	}
	if len(value) != 4 {
		return 0, &CorruptError{Table: TableMeta, Row: RowName(metaFormatKey()), Err: fmt.Errorf("value of %d bytes, expected 4", len(value))}
	}
	return binary.BigEndian.Uint32(value), nil
}
