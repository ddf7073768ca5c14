package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// batchSize is how many entries one worker checks at a time; with it the memory
// in flight is bounded by batchSize * entry.MaxEntry * (2 * workers + 2).
const batchSize = 128

// read is one entry with all that can be checked without what came before.
type read struct {
	index      uint64
	raw        []byte
	unreadable error // the source could not give it
	entry      *entry.Entry
	event      *event.Event
	signed     bool // the signature was verified by a key of the state then
	artifacts  uint64
	problems   []error
	failure    error // of the machine, which ends the run
}

type batch struct {
	reads []*read
	done  chan struct{}
}

// readEntries reads the log, checks its entries beside each other and hands
// them to each in the order of the log. state is the newest trust state, for
// signatures; where it does not know the key yet, each verifies itself.
func readEntries(ctx context.Context, src Source, o Options, state *atomic.Pointer[trust.State], each func(*read) error) error {
	g, ctx := errgroup.WithContext(ctx)
	work, order := make(chan *batch), make(chan *batch, 2*o.Workers)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return feed(ctx, src, func(b *batch) error {
			for _, c := range []chan *batch{order, work} {
				select {
				case c <- b:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range o.Workers {
		g.Go(func() error {
			for b := range work {
				for _, r := range b.reads {
					r.check(src, o.Schemas, state.Load())
				}
				close(b.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			for _, r := range b.reads {
				if err := each(r); err != nil {
					return err
				}
			}
			if o.Progress != nil && len(b.reads) > 0 {
				o.Progress(b.reads[len(b.reads)-1].index + 1)
			}
		}
		return nil
	})
	return g.Wait()
}

// feed cuts the log into batches. Where the source cannot read on it tries
// entry by entry until it finds one, so that all that is left is checked.
func feed(ctx context.Context, src Source, send func(*batch) error) error {
	b := &batch{done: make(chan struct{})}
	flush := func() error {
		full := b
		b = &batch{done: make(chan struct{})}
		return send(full)
	}
	add := func(r *read) error {
		b.reads = append(b.reads, r)
		if len(b.reads) == batchSize {
			return flush()
		}
		return nil
	}
	next, own := uint64(0), error(nil)
	for {
		err := src.Entries(next, func(index uint64, raw []byte) error {
			r := &read{index: index, raw: bytes.Clone(raw)}
			next = index + 1
			own = add(r)
			return own
		})
		if own != nil || ctx.Err() != nil {
			return errors.Join(own, ctx.Err())
		}
		if err == nil {
			return flush()
		}
		found, err2 := skipUnreadable(src, &next, err, add)
		if err2 != nil {
			return err2
		}
		if !found {
			return flush()
		}
	}
}

// maxUnreadable bounds how far behind an unreadable entry the next is sought.
const maxUnreadable = 1 << 16

// skipUnreadable names the entries from next on that the source cannot read
// and sets next to the first that it can; false where there is no such.
func skipUnreadable(src Source, next *uint64, why error, add func(*read) error) (bool, error) {
	var lost []*read
	for i := *next; i < *next+maxUnreadable; i++ {
		raw, err := src.Entry(i)
		switch {
		case err == nil:
			for _, r := range lost {
				if err := add(r); err != nil {
					return false, err
				}
			}
			*next = i + 1
			return true, add(&read{index: i, raw: bytes.Clone(raw)})
		case notFound(err) && len(lost) == 0:
			return false, fmt.Errorf("read entry %d: %w", i, why)
		case notFound(err):
			err = why
		}
		lost = append(lost, &read{index: i, unreadable: err})
	}
	// Nothing readable follows: name the first only, finish says how far.
	return false, add(lost[0])
}

// check does all that needs only the entry itself and the keys of state.
func (r *read) check(src Source, schemas *event.Schemas, state *trust.State) {
	if r.unreadable != nil {
		return
	}
	var err error
	if r.entry, err = entry.Parse(r.raw); err != nil {
		r.found(err)
		return
	}
	if r.event, err = event.Parse(r.entry.Envelope, schemas); err != nil {
		r.found(err)
		return
	}
	if want := entry.StreamOf(r.event.Type); r.entry.Stream != want {
		r.found(problem.New("entry.stream", "stream", "the header says stream %s, an event of type %s belongs to %s", r.entry.Stream, r.event.Type, want))
	}
	if state != nil && r.entry.Stream != "trust" {
		if err := state.CheckSignature(r.event); err == nil {
			r.signed = true
		}
	}
	r.checkArtifacts(src)
}

// rawLeaf is the leaf hash of the bytes as they are, nil where there are none.
func (r *read) rawLeaf() *tlog.Hash {
	if r.raw == nil {
		return nil
	}
	leaf := tlog.RecordHash(r.raw)
	return &leaf
}

// found keeps a problem; any other error is the machine's and ends the run.
func (r *read) found(err error) {
	if problem.Of(err) == nil {
		r.failure = err
		return
	}
	r.problems = append(r.problems, problem.At(r.index, err))
}

func (r *read) checkArtifacts(src Source) {
	if r.event.Own() {
		return // the subject is the ledger itself
	}
	for i, a := range r.event.Subject {
		if err := checkArtifact(src, i, a); err != nil {
			r.found(err)
			continue
		}
		r.artifacts++
	}
}

func checkArtifact(src Source, i int, a event.Artifact) error {
	where := fmt.Sprintf("subject.%d", i)
	f, err := src.Artifact(a.SHA256)
	if notFound(err) {
		return problem.New("artifact.missing", where, "artifact %q is not there", a.Name).With("sha256", fmt.Sprintf("%x", a.SHA256))
	}
	if err != nil {
		return problem.New("artifact.unreadable", where, "artifact %q: %v", a.Name, err).With("sha256", fmt.Sprintf("%x", a.SHA256))
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return problem.New("artifact.unreadable", where, "artifact %q: %v", a.Name, err).With("sha256", fmt.Sprintf("%x", a.SHA256))
	}
	if got := [32]byte(h.Sum(nil)); got != a.SHA256 {
		return problem.New("artifact.changed", where, "artifact %q is not what was signed", a.Name).
			With("is", fmt.Sprintf("%x", got)).With("expected", fmt.Sprintf("%x", a.SHA256))
	}
	return nil
}
