// Package spool keeps what a collector has observed until the ledger has it.
//
// Invariant: nothing is lost between seeing a source record and the verified
// receipt of its event, and nothing is sent twice under two numbers. One synced
// transaction takes the number, stores the event's exact bytes and marks the
// source record as seen; so a process killed at any moment has either done all
// three or none (TestKill). A number of one signing key and type runs from 1
// without gaps, and each event names the SHA-256 of the payload before it, as
// section 4.1 of the format says (TestModel).
//
// An item leaves the spool in one way only: Release, which the caller may call
// for nothing but a receipt that it has verified. A refused item moves to a
// bucket of its own, from where Retry puts it back; it is never deleted.
//
// The spool is one bbolt file, held by one process at a time:
//
//	meta      "format" -> "1"; "checkpoint" -> the newest verified note;
//	          "conflict" -> a note of the node's that is not of its history
//	numbers   "<keyid> <type>" -> the last number taken and its payload's hash
//	pending   order, 8 bytes big endian -> item, JSON
//	refused   order -> item with its refusal, JSON
//	ids       event id -> order, for all that is pending or refused
//	seen      SHA-256("<source>\x00<key>") -> order of its last event, or of the
//	          last event of the record that covers it
//	receipts  "<type>" -> count of receipts and the newest one, JSON
//
// The file does not shrink; its free pages are used again.
package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/submission"
)

// DefaultBound is how many bytes a spool holds unless told otherwise.
const DefaultBound = 1 << 30

var (
	// ErrFull says that the spool took nothing more. What it did not take is
	// not marked as seen, so it is taken once there is room.
	ErrFull = errors.New("the spool is full")
	// ErrBusy says that another process holds the spool.
	ErrBusy = errors.New("another process holds the spool")
	// ErrUnknown says that the spool holds no item under this id.
	ErrUnknown = errors.New("the spool holds no such event")
)

// Item is one event on the spool, as it is sent however often that is needed.
type Item struct {
	// Order is the item's place in the spool, from 1; the spool sets it.
	Order   uint64
	ID      string
	Type    string
	KeyID   string
	Seq     uint64
	Payload [32]byte // SHA-256 of the payload
	// Envelope is the exact signed envelope: retries send the same bytes.
	Envelope  []byte
	Artifacts []submission.Artifact
	// Checkpoint is the signed note that the event's after names, "" for none.
	Checkpoint string
	AddedAt    time.Time
	// Refusal is set on items in the refused bucket.
	Refusal *submission.Refusal `json:",omitempty"`
}

// Draft is one event before it has its number.
type Draft struct {
	Type string
	// Make builds and signs the event for the number that it is given. It
	// fills ID, Payload, Envelope and Artifacts. It runs inside the transaction.
	Make func(seq uint64, prev [32]byte) (*Item, error)
}

// Record is one source record and its events, mostly one. They are taken
// together or not at all.
type Record struct {
	// Source and Key name the record: a key of one source is taken once, for ever.
	Source, Key string
	// CoveredBy is the key of the source's record whose events speak for this one
	// too, "" for none. A covered record has no drafts: it takes neither number
	// nor room and is marked as seen, unless the one that covers it is not.
	CoveredBy string
	Drafts    []Draft
}

// Number is the last number taken under one key for one type.
type Number struct {
	Seq     uint64
	Payload [32]byte
}

// Received is a verified receipt of an event on the spool.
type Received struct {
	ID    string
	Index uint64
	// Receipt is the .tlog-proof text.
	Receipt string
}

// Newest is what the spool remembers of a type's receipts.
type Newest struct {
	Count   uint64    `json:"count"`
	ID      string    `json:"id"`
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	Receipt string    `json:"receipt"`
}

// Stats counts what is held.
type Stats struct {
	Pending, Refused int
	Bytes, Bound     int64
}

var (
	metaBucket     = []byte("meta")
	numbersBucket  = []byte("numbers")
	pendingBucket  = []byte("pending")
	refusedBucket  = []byte("refused")
	idsBucket      = []byte("ids")
	seenBucket     = []byte("seen")
	receiptsBucket = []byte("receipts")

	formatKey     = []byte("format")
	checkpointKey = []byte("checkpoint")
	conflictKey   = []byte("conflict")
	trustKey      = []byte("trust")
)

const format = "1"

// Spool is safe for use by several goroutines.
type Spool struct {
	db    *bbolt.DB
	bound int64
	// The counters follow the commits; Open counts them afresh.
	bytes, pending, refused atomic.Int64
}

// Open opens the spool at path, and creates it where there is none. bound is
// in bytes; 0 means DefaultBound.
func Open(path string, bound int64) (*Spool, error) {
	if bound <= 0 {
		bound = DefaultBound
	}
	_, statErr := os.Stat(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 300 * time.Millisecond})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrBusy, path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the spool %s: %w", path, err)
	}
	s := &Spool{db: db, bound: bound}
	if err := s.load(); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the spool %s: %w", path, err)
	}
	if errors.Is(statErr, os.ErrNotExist) {
		// A new file that a power loss takes away again would begin at 1 a
		// second time, under numbers that the ledger has already.
		if err := syncFolder(filepath.Dir(path)); err != nil {
			db.Close()
			return nil, err
		}
	}
	return s, nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s *Spool) load() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, numbersBucket, pendingBucket, refusedBucket, idsBucket, seenBucket, receiptsBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		switch have := meta.Get(formatKey); {
		case have == nil:
			if err := meta.Put(formatKey, []byte(format)); err != nil {
				return err
			}
		case string(have) != format:
			return fmt.Errorf("its format is %.20q, this program knows %q: use the program that wrote it, or a newer one", have, format)
		}
		count := func(bucket []byte, n *atomic.Int64) error {
			return tx.Bucket(bucket).ForEach(func(_, v []byte) error {
				n.Add(1)
				s.bytes.Add(int64(len(v)))
				return nil
			})
		}
		return errors.Join(count(pendingBucket, &s.pending), count(refusedBucket, &s.refused))
	})
}

// Close lets go of the file.
func (s *Spool) Close() error { return s.db.Close() }

// Stats counts what the spool holds.
func (s *Spool) Stats() Stats {
	return Stats{Pending: int(s.pending.Load()), Refused: int(s.refused.Load()), Bytes: s.bytes.Load(), Bound: s.bound}
}

func orderKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func seenKey(source, key string) []byte {
	sum := sha256.Sum256([]byte(source + "\x00" + key))
	return sum[:]
}

func numberKey(keyID, typ string) []byte { return []byte(keyID + " " + typ) }

// Seen tells whether a source record has been taken.
func (s *Spool) Seen(source, key string) (seen bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		seen = tx.Bucket(seenBucket).Get(seenKey(source, key)) != nil
		return nil
	})
	return seen, err
}

// Numbers returns the last number of each type under one key.
func (s *Spool) Numbers(keyID string) (map[string]Number, error) {
	numbers := map[string]Number{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		prefix := numberKey(keyID, "")
		c := tx.Bucket(numbersBucket).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			var n Number
			if err := json.Unmarshal(v, &n); err != nil {
				return fmt.Errorf("the numbers of %s: %w", k, err)
			}
			numbers[string(k[len(prefix):])] = n
		}
		return nil
	})
	return numbers, err
}

// Add takes the records in order under the signing key, in one synced
// transaction, and returns the items taken. Records that were seen are passed
// over. One whose Make fails takes no number, stays unseen and does not stop
// those behind it: its error is in the joined error. ErrFull stops; what was
// taken before it is kept and returned. The items are nil only where nothing could
// be written.
func (s *Spool) Add(keyID string, records ...Record) ([]*Item, error) {
	var added []*Item
	var problems []error
	var grown int64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		added, problems, grown = []*Item{}, nil, 0
		for _, r := range records {
			items, size, err := s.addRecord(tx, keyID, r, grown)
			var bad *recordError
			switch {
			case errors.As(err, &bad):
				problems = append(problems, bad)
			case errors.Is(err, ErrFull):
				problems = append(problems, err)
				return nil
			case err != nil:
				return err
			}
			added, grown = append(added, items...), grown+size
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("writing the spool: %w", err)
	}
	s.pending.Add(int64(len(added)))
	s.bytes.Add(grown)
	return added, errors.Join(problems...)
}

// recordError is an error of one record, not of the spool.
type recordError struct {
	key string
	err error
}

func (e *recordError) Error() string { return fmt.Sprintf("record %.120s: %v", e.key, e.err) }
func (e *recordError) Unwrap() error { return e.err }

// addRecord first makes all events of the record, then writes them: a record
// that fails half way leaves nothing behind in the transaction.
func (s *Spool) addRecord(tx *bbolt.Tx, keyID string, r Record, grown int64) (items []*Item, size int64, err error) {
	mark := seenKey(r.Source, r.Key)
	if tx.Bucket(seenBucket).Get(mark) != nil {
		return nil, 0, nil
	}
	if len(r.Drafts) == 0 {
		return nil, 0, markCovered(tx, r, mark)
	}
	values := make([][]byte, len(r.Drafts))
	items = make([]*Item, len(r.Drafts))
	last := map[string]Number{}
	for i, d := range r.Drafts {
		n, known := last[d.Type]
		if !known {
			if n, err = number(tx, keyID, d.Type); err != nil {
				return nil, 0, err
			}
		}
		if items[i], values[i], err = makeItem(tx, keyID, d, n); err != nil {
			return nil, 0, &recordError{r.Key, err}
		}
		last[d.Type] = Number{items[i].Seq, items[i].Payload}
		size += int64(len(values[i]))
	}
	if held := s.bytes.Load() + grown; held+size > s.bound {
		return nil, 0, fmt.Errorf("%w: it holds %d of at most %d bytes; nothing more is taken until the node has confirmed some", ErrFull, held, s.bound)
	}
	return items, size, write(tx, keyID, mark, items, values, last)
}

// markCovered looks at what this transaction has written so far: a covering record
// that could not be made leaves the covered one unseen.
func markCovered(tx *bbolt.Tx, r Record, mark []byte) error {
	seen := tx.Bucket(seenBucket)
	order := bytes.Clone(seen.Get(seenKey(r.Source, r.CoveredBy)))
	if r.CoveredBy == "" || order == nil {
		return nil
	}
	return seen.Put(mark, order)
}

func number(tx *bbolt.Tx, keyID, typ string) (n Number, err error) {
	if v := tx.Bucket(numbersBucket).Get(numberKey(keyID, typ)); v != nil {
		if err := json.Unmarshal(v, &n); err != nil {
			return n, fmt.Errorf("the last number of %s: %w", typ, err)
		}
	}
	return n, nil
}

func makeItem(tx *bbolt.Tx, keyID string, d Draft, last Number) (*Item, []byte, error) {
	item, err := d.Make(last.Seq+1, last.Payload)
	if err != nil {
		return nil, nil, err
	}
	if item.ID == "" || len(item.Envelope) == 0 || tx.Bucket(idsBucket).Get([]byte(item.ID)) != nil {
		return nil, nil, fmt.Errorf("the event id %q is empty or on the spool already", item.ID)
	}
	item.Type, item.KeyID, item.Seq = d.Type, keyID, last.Seq+1
	value, err := encode(item)
	return item, value, err
}

func write(tx *bbolt.Tx, keyID string, mark []byte, items []*Item, values [][]byte, last map[string]Number) error {
	pending := tx.Bucket(pendingBucket)
	for i, item := range items {
		var err error
		if item.Order, err = pending.NextSequence(); err != nil {
			return err
		}
		key := orderKey(item.Order)
		if err := errors.Join(pending.Put(key, values[i]), tx.Bucket(idsBucket).Put([]byte(item.ID), key)); err != nil {
			return err
		}
	}
	for typ, n := range last {
		v, err := json.Marshal(n)
		if err != nil {
			return err
		}
		if err := tx.Bucket(numbersBucket).Put(numberKey(keyID, typ), v); err != nil {
			return err
		}
	}
	return tx.Bucket(seenBucket).Put(mark, orderKey(pending.Sequence()))
}

// encode leaves the order to the record's key.
func encode(item *Item) ([]byte, error) {
	plain := *item
	plain.Order = 0
	return json.Marshal(&plain)
}

func decode(key, value []byte) (*Item, error) {
	item := new(Item)
	if err := json.Unmarshal(value, item); err != nil {
		return nil, fmt.Errorf("the spooled event %x cannot be read: %w", key, err)
	}
	item.Order = binary.BigEndian.Uint64(key)
	return item, nil
}

// Pending returns up to limit items whose order is above after, in order.
func (s *Spool) Pending(after uint64, limit int) ([]*Item, error) {
	return s.list(pendingBucket, after, limit)
}

// Refused returns up to limit refused items whose order is above after.
func (s *Spool) Refused(after uint64, limit int) ([]*Item, error) {
	return s.list(refusedBucket, after, limit)
}

func (s *Spool) list(bucket []byte, after uint64, limit int) (items []*Item, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.Seek(orderKey(after + 1)); k != nil && len(items) < limit; k, v = c.Next() {
			item, err := decode(k, v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	return items, err
}

// Get returns one pending item, or ErrUnknown.
func (s *Spool) Get(id string) (item *Item, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		key := tx.Bucket(idsBucket).Get([]byte(id))
		value := tx.Bucket(pendingBucket).Get(key)
		if key == nil || value == nil {
			return fmt.Errorf("%w: %.60q", ErrUnknown, id)
		}
		item, err = decode(key, value)
		return err
	})
	return item, err
}

// Release lets go of the items whose receipts the caller has verified, and
// keeps newest as the newest verified checkpoint where it is not nil; both in
// one transaction. It returns how many were held: a receipt that comes again
// releases nothing and is no error.
func (s *Spool) Release(newest *checkpoint.Signed, received ...Received) (int, error) {
	var released int
	var freed int64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		released, freed = 0, 0
		if newest != nil {
			if err := tx.Bucket(metaBucket).Put(checkpointKey, newest.Note); err != nil {
				return err
			}
		}
		for _, r := range received {
			size, err := releaseOne(tx, r)
			if err != nil {
				return err
			}
			if size > 0 {
				released, freed = released+1, freed+size
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("writing the spool: %w", err)
	}
	s.pending.Add(-int64(released))
	s.bytes.Add(-freed)
	return released, nil
}

func releaseOne(tx *bbolt.Tx, r Received) (int64, error) {
	ids, pending, receipts := tx.Bucket(idsBucket), tx.Bucket(pendingBucket), tx.Bucket(receiptsBucket)
	key := bytes.Clone(ids.Get([]byte(r.ID)))
	value := pending.Get(key)
	if key == nil || value == nil {
		return 0, nil
	}
	size := int64(len(value))
	item, err := decode(key, value)
	if err != nil {
		return 0, err
	}
	var newest Newest
	if v := receipts.Get([]byte(item.Type)); v != nil {
		if err := json.Unmarshal(v, &newest); err != nil {
			return 0, err
		}
	}
	newest.Count++
	if newest.Count == 1 || r.Index >= newest.Index {
		newest.ID, newest.Index, newest.Receipt, newest.At = r.ID, r.Index, r.Receipt, time.Now().UTC()
	}
	v, err := json.Marshal(newest)
	if err != nil {
		return 0, err
	}
	return size, errors.Join(pending.Delete(key), ids.Delete([]byte(r.ID)), receipts.Put([]byte(item.Type), v))
}

// Receipts returns what is remembered of the receipts, by type.
func (s *Spool) Receipts() (map[string]Newest, error) {
	all := map[string]Newest{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(receiptsBucket).ForEach(func(k, v []byte) error {
			var n Newest
			if err := json.Unmarshal(v, &n); err != nil {
				return err
			}
			all[string(k)] = n
			return nil
		})
	})
	return all, err
}

// Refuse moves a pending item to the refused bucket with the reason.
func (s *Spool) Refuse(id string, refusal submission.Refusal) error {
	var grown int64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		key := bytes.Clone(tx.Bucket(idsBucket).Get([]byte(id)))
		value := tx.Bucket(pendingBucket).Get(key)
		if key == nil || value == nil {
			return fmt.Errorf("%w: %.60q", ErrUnknown, id)
		}
		var err error
		grown, err = move(tx, pendingBucket, refusedBucket, key, value, &refusal)
		return err
	})
	if err != nil {
		return err
	}
	s.pending.Add(-1)
	s.refused.Add(1)
	s.bytes.Add(grown)
	return nil
}

func move(tx *bbolt.Tx, from, to, key, value []byte, refusal *submission.Refusal) (grown int64, err error) {
	item, err := decode(key, value)
	if err != nil {
		return 0, err
	}
	before := len(value)
	item.Refusal = refusal
	after, err := encode(item)
	if err != nil {
		return 0, err
	}
	return int64(len(after) - before), errors.Join(tx.Bucket(from).Delete(key), tx.Bucket(to).Put(key, after))
}

// Retry puts every refused item back in its old place and returns how many.
func (s *Spool) Retry() (int, error) {
	var moved int
	var grown int64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		moved, grown = 0, 0
		// A bbolt bucket must not change below its cursor.
		var keys [][]byte
		if err := tx.Bucket(refusedBucket).ForEach(func(k, _ []byte) error {
			keys = append(keys, bytes.Clone(k))
			return nil
		}); err != nil {
			return err
		}
		for _, key := range keys {
			n, err := move(tx, refusedBucket, pendingBucket, key, tx.Bucket(refusedBucket).Get(key), nil)
			if err != nil {
				return err
			}
			moved, grown = moved+1, grown+n
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.pending.Add(int64(moved))
	s.refused.Add(-int64(moved))
	s.bytes.Add(grown)
	return moved, nil
}

// Checkpoint returns the newest verified note, or nil.
func (s *Spool) Checkpoint() ([]byte, error) { return s.meta(checkpointKey) }

// Conflict returns a note, signed by the node, that the node could not prove to
// be of the same history as the newest verified one, or nil.
func (s *Spool) Conflict() ([]byte, error) { return s.meta(conflictKey) }

// Trust returns the entries of stream trust that the publisher has followed,
// from the genesis on; none while the node's key was never rotated.
func (s *Spool) Trust() (entries [][]byte, err error) {
	raw, err := s.meta(trustKey)
	if err != nil || raw == nil {
		return nil, err
	}
	return entries, json.Unmarshal(raw, &entries)
}

// SetTrust keeps them.
func (s *Spool) SetTrust(entries [][]byte) error {
	raw, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(trustKey, raw) })
}

// SetConflict keeps the first such note.
func (s *Spool) SetConflict(note *checkpoint.Signed) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta.Get(conflictKey) != nil {
			return nil
		}
		return meta.Put(conflictKey, note.Note)
	})
}

func (s *Spool) meta(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(metaBucket).Get(key))
		return nil
	})
	return value, err
}
