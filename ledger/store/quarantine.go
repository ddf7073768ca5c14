package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Quarantined is a refused message with its reason. It lies outside the log's
// guarantees: of each collector only the newest are kept. The store gives the
// numbers, from 1 for each collector, and never gives one twice. On disk it is
// the JSON of all members but Collector, Number and Body, one LF, and the body's
// bytes as they came; invalid UTF-8 in the other members is replaced.
type Quarantined struct {
	Collector string `json:"-"` // by whose right it came; any name for those who have none
	Number    uint64 `json:"-"` // given by Commit

	Time    string `json:"time"`
	Subject string `json:"subject"`           // of the message
	ID      string `json:"id"`                // what the message said its event's id is
	Code    string `json:"code"`              // the rule, as event.signature
	Where   string `json:"where,omitempty"`   // the field
	Text    string `json:"text"`              // the sentence
	Payload string `json:"payload,omitempty"` // hex SHA-256 of the payload, "" where unreadable
	Signed  bool   `json:"signed,omitzero"`   // correctly signed under an enrolled key

	Body []byte `json:"-"`
}

// QuarantineState counts a collector's quarantine.
type QuarantineState struct {
	Next    uint64 // number of the next record
	Records uint64 // kept now
	Bytes   uint64 // of these, as stored
	Evicted uint64 // let go because there were too many
}

func (q Quarantined) String() string {
	return fmt.Sprintf("quarantine %s number %d", q.Collector, q.Number)
}

// PutQuarantine keeps a refused message; its Number is given by Commit. Where
// there are too many of its collector, the oldest are evicted with the same
// commit.
func (b *Batch) PutQuarantine(q Quarantined) {
	if err := checkName("collector", q.Collector); err != nil {
		b.refuse(err)
		return
	}
	q.Body = bytes.Clone(q.Body)
	b.puts = append(b.puts, q)
}

// DeleteQuarantine lets a record go, as after a retry. One that is not there is
// no error.
func (b *Batch) DeleteQuarantine(collector string, number uint64) {
	if err := checkName("collector", collector); err != nil {
		b.refuse(err)
		return
	}
	b.deletions = append(b.deletions, quarantined{collector, number})
}

// DecodeQuarantined reads a row of table quarantine. Body shares memory with value.
func DecodeQuarantined(key, value []byte) (Quarantined, error) {
	q, err := quarantineRow(key)
	if err != nil {
		return q, err
	}
	head, body, ok := bytes.Cut(value, []byte("\n"))
	if !ok {
		return q, fmt.Errorf("%s has no line feed", q)
	}
	name, n := q.Collector, q.Number
	if err := json.Unmarshal(head, &q, json.RejectUnknownMembers(true)); err != nil {
		return q, fmt.Errorf("%s: %w", q, err)
	}
	q.Collector, q.Number, q.Body = name, n, body
	return q, nil
}

// DecodeQuarantineState reads a row of table quarantine-state.
func DecodeQuarantineState(key, value []byte) (collector string, st QuarantineState, err error) {
	if len(key) < 2 || Table(key[0]) != TableQuarantineState || len(value) != 4*8 {
		return "", st, fmt.Errorf("%x is no row of table %s", key, TableQuarantineState)
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(value[8*i:]) }
	return string(key[1:]), QuarantineState{n(0), n(1), n(2), n(3)}, nil
}

// Quarantine calls fn for the records of a collector, or of all where collector
// is empty, each collector's oldest first.
func (n *Snapshot) Quarantine(collector string, fn func(Quarantined) error) error {
	from := []byte{byte(TableQuarantine)}
	if collector != "" {
		from = quarantinePrefix(collector)
	}
	return unwrapCaller(n.scanRange(TableQuarantine, from, after(from), func(key, value []byte) error {
		q, err := DecodeQuarantined(key, value)
		if err != nil {
			return &CorruptError{Table: TableQuarantine, Row: RowName(key), Err: err}
		}
		if err := fn(q); err != nil {
			return callerError{err}
		}
		return nil
	}))
}

// QuarantineRecord returns one record.
func (n *Snapshot) QuarantineRecord(collector string, number uint64) (Quarantined, error) {
	key := quarantineKey(collector, number)
	value, err := n.get(key)
	if err != nil {
		return Quarantined{}, err
	}
	return DecodeQuarantined(key, value)
}

// QuarantineState returns a collector's counts: zero where nothing was ever kept.
func (n *Snapshot) QuarantineState(collector string) (QuarantineState, error) {
	if err := n.ready(); err != nil {
		return QuarantineState{}, err
	}
	return n.r.quarantineState(collector)
}

func (r reader) quarantineState(collector string) (QuarantineState, error) {
	key := quarantineStateKey(collector)
	value, err := r.get(key)
	if errors.Is(err, ErrNotFound) {
		return QuarantineState{}, nil
	}
	if err != nil {
		return QuarantineState{}, err
	}
	_, st, err := DecodeQuarantineState(key, value)
	return st, err
}

// settleQuarantine turns the batch's puts and deletions into rows: numbers,
// evictions and counts depend on what is in the store now.
func (s *Store) settleQuarantine(b *Batch) error {
	var collectors []string
	work := map[string]*settlement{}
	of := func(collector string) *settlement {
		if work[collector] == nil {
			work[collector] = &settlement{collector: collector, deleted: map[uint64]bool{}}
			collectors = append(collectors, collector)
		}
		return work[collector]
	}
	for _, d := range b.deletions {
		of(d.collector).deleted[d.number] = true
	}
	for _, q := range b.puts {
		w := of(q.Collector)
		w.puts = append(w.puts, q)
	}
	for _, collector := range collectors {
		if err := s.settle(b, work[collector]); err != nil {
			return fmt.Errorf("quarantine of %s: %w", collector, err)
		}
	}
	return nil
}

// settlement is what a batch does to one collector's quarantine.
type settlement struct {
	collector string
	deleted   map[uint64]bool
	puts      []Quarantined
}

func (s *Store) settle(b *Batch, w *settlement) error {
	r := reader{s, s.db}
	st, err := r.quarantineState(w.collector)
	if err != nil {
		return err
	}
	if st.Next == 0 {
		st.Next = 1
	}
	for number := range w.deleted {
		value, err := r.get(quarantineKey(w.collector, number))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		st.Records, st.Bytes = st.Records-1, st.Bytes-uint64(len(value))
		b.delete(quarantineKey(w.collector, number))
	}
	values := make([][]byte, len(w.puts))
	for i, q := range w.puts {
		head, err := json.Marshal(q, jsontext.AllowInvalidUTF8(true))
		if err != nil {
			return err
		}
		values[i] = append(append(head, '\n'), q.Body...)
		st.Records, st.Bytes = st.Records+1, st.Bytes+uint64(len(values[i]))
	}
	if err := s.evict(b, w, &st); err != nil {
		return err
	}
	for _, value := range values {
		if s.tooMany(st) { // old ones were not enough: of the new, too, the oldest go
			st.letGo(len(value))
		} else {
			b.set(quarantineKey(w.collector, st.Next), value)
		}
		st.Next++
	}
	b.set(quarantineStateKey(w.collector), st.bytes())
	return b.err
}

func (s *Store) tooMany(st QuarantineState) bool {
	return st.Records > s.o.QuarantineRecords || st.Bytes > s.o.QuarantineBytes
}

func (st *QuarantineState) letGo(size int) {
	st.Records, st.Bytes, st.Evicted = st.Records-1, st.Bytes-uint64(size), st.Evicted+1
}

func (st QuarantineState) bytes() []byte {
	return number(number(number(number(nil, st.Next), st.Records), st.Bytes), st.Evicted)
}

// evict deletes the oldest stored records until the rest fits, or none is left.
func (s *Store) evict(b *Batch, w *settlement, st *QuarantineState) error {
	if !s.tooMany(*st) {
		return nil
	}
	prefix := quarantinePrefix(w.collector)
	c := reader{s, s.db}.cursor(prefix, after(prefix))
	defer c.close()
	for ok := c.to((*pebble.Iterator).First); ok && s.tooMany(*st); ok = c.to((*pebble.Iterator).Next) {
		key, value, err := c.row()
		if err != nil {
			return c.r.corrupt(TableQuarantine, key, nil, err)
		}
		if row, err := quarantineRow(key); err == nil && w.deleted[row.Number] {
			continue
		}
		st.letGo(len(value))
		b.delete(key)
	}
	return c.close()
}

func (b *Batch) delete(key []byte) {
	if err := b.rows.Delete(key, nil); err != nil {
		b.refuse(err)
	}
}

func quarantineRow(key []byte) (Quarantined, error) {
	collector, n, err := named(TableQuarantine, key, 1)
	return Quarantined{Collector: collector, Number: n}, err
}
