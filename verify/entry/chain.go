package entry

import (
	"maps"
	"time"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Head is the end of one stream: how many entries it has, and the leaf hash of
// the last of them.
type Head struct {
	Count uint64
	Last  [32]byte
}

// Chain is what must be known of a log to judge the next entry: a few hashes,
// whatever the log's size. It is not safe for concurrent use.
type Chain struct {
	size    uint64
	last    [32]byte
	time    time.Time
	streams map[string]Head
}

// NewChain returns the state of an empty log.
func NewChain() *Chain { return &Chain{streams: map[string]Head{}} }

// Restore returns the state of a log of the given size, whose last entry has
// the leaf hash last and the time t.
func Restore(size uint64, last [32]byte, t time.Time, streams map[string]Head) *Chain {
	c := NewChain()
	c.size, c.last, c.time = size, last, t
	maps.Copy(c.streams, streams)
	return c
}

// Size returns the number of entries.
func (c *Chain) Size() uint64 { return c.size }

// Last returns the leaf hash of the last entry, zero where there is none.
func (c *Chain) Last() [32]byte { return c.last }

// Time returns the time of the last entry.
func (c *Chain) Time() time.Time { return c.time }

// Stream returns the end of one stream, zero where it has no entry.
func (c *Chain) Stream(name string) Head { return c.streams[name] }

// Streams returns a copy of the ends of all streams that have an entry.
func (c *Chain) Streams() map[string]Head { return maps.Clone(c.streams) }

// Clone returns an independent copy.
func (c *Chain) Clone() *Chain { return Restore(c.size, c.last, c.time, c.streams) }

// Next returns the header of the next entry, if it were of this stream. The
// time is t, cut to microseconds, or the last entry's time where t is earlier
// than that: small steps back of a clock repeat the last time.
func (c *Chain) Next(stream string, t time.Time) Header {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Before(c.time) {
		t = c.time
	}
	head := c.streams[stream]
	return Header{Index: c.size, Time: t, Previous: c.last, Stream: stream, Number: head.Count, StreamPrevious: head.Last}
}

// Add checks that e is the next entry and takes it in. Where it returns a
// problem, nothing has changed.
func (c *Chain) Add(e *Entry) error {
	head := c.streams[e.Stream]
	if e.Index != c.size {
		return problem.New("entry.index", "index", "the index is %d, expected %d", e.Index, c.size)
	}
	if e.Time.Before(c.time) {
		return problem.New("entry.time", "time", "the time is %s, earlier than %s of the entry before",
			syntax.FormatMicros(e.Time), syntax.FormatMicros(c.time))
	}
	if e.Previous != c.last {
		return problem.New("entry.previous", "previous", "previous is not the leaf hash of the entry before").
			With("previous", hexOf(e.Previous)).With("expected", hexOf(c.last))
	}
	if e.Number != head.Count {
		return problem.New("entry.stream-number", "stream", "the number in stream %s is %d, expected %d", e.Stream, e.Number, head.Count)
	}
	if e.StreamPrevious != head.Last {
		return problem.New("entry.stream-previous", "stream", "the hash is not the leaf hash of the entry before in stream %s", e.Stream).
			With("previous", hexOf(e.StreamPrevious)).With("expected", hexOf(head.Last))
	}
	c.Skip(e)
	return nil
}

// Skip takes e in without a check, by what its own header says, so that a
// verifier that has named what is wrong with e can go on and name what else is
// wrong, and not every entry after it.
func (c *Chain) Skip(e *Entry) {
	leaf := e.Leaf()
	c.size, c.last, c.time = e.Index+1, leaf, e.Time
	c.streams[e.Stream] = Head{Count: e.Number + 1, Last: leaf}
}
