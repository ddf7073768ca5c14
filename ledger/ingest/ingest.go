// Package ingest takes submissions from the bus into the log.
//
// One batch after another: fetch; check everything that needs no order, beside
// each other (form, schema, hashes, signature); append in the order of the
// stream; acknowledge; send receipts and refusals. The next batch is fetched and
// checked while this one is synced.
//
// Invariants:
//   - A message is acknowledged only after the commit that holds its entry, or
//     its record in quarantine (TestKillNode).
//   - A bad message never stops those behind it (TestRefusals).
//   - Where nothing can be appended (clock, disk), nothing is acknowledged or
//     refused: the batch waits, the bus is told that it is still worked on, and
//     ingest goes on by itself once it can. Only an unknown outcome of a commit
//     ends it.
package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/submission"
	"evidence-ledger/verify/syntax"
)

const (
	batchMessages = 1024
	fetchWait     = time.Second
	retryAfter    = 2 * time.Second
)

// Ingest is the way from one bus into one ledger.
type Ingest struct {
	Ledger  *ledger.Ledger
	Bus     *bus.Bus
	Schemas *event.Schemas
	Logger  *slog.Logger
	// Ready, if set, is asked before each batch; an error (a disk that fills)
	// holds the batch back.
	Ready func() error

	stalled atomic.Pointer[string]
	count   atomic.Uint64
}

// work is one batch between its stages.
type work struct {
	messages   []bus.Message
	candidates []*ledger.Candidate
	origins    []origin // by message
}

// origin is what is known of where a message comes from, however bad it is.
type origin struct {
	sender  string // "" where the subject says nothing
	payload string // hex SHA-256 of the payload, "" where none can be read
}

// Stalled says why nothing is taken just now, or "".
func (in *Ingest) Stalled() string {
	if s := in.stalled.Load(); s != nil {
		return *s
	}
	return ""
}

// Taken is how many messages were appended or refused since the start.
func (in *Ingest) Taken() uint64 { return in.count.Load() }

// Run works until the context ends (nil), or until the process must end.
func (in *Ingest) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	checked := make(chan *work)
	g.Go(func() error {
		defer close(checked)
		return in.fetch(ctx, checked)
	})
	g.Go(func() error {
		for w := range checked {
			if err := in.take(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (in *Ingest) fetch(ctx context.Context, checked chan<- *work) error {
	for ctx.Err() == nil {
		messages, err := in.Bus.Fetch(ctx, batchMessages, fetchWait)
		if err != nil && ctx.Err() == nil {
			in.Logger.Error("fetch submissions", "err", err)
			sleep(ctx, retryAfter)
		}
		if len(messages) == 0 {
			in.logRejections()
			continue
		}
		select {
		case checked <- in.check(messages):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// check does, beside each other, all that needs no order.
func (in *Ingest) check(messages []bus.Message) *work {
	w := &work{messages: messages, candidates: make([]*ledger.Candidate, len(messages)), origins: make([]origin, len(messages))}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(messages)); i = next.Add(1) - 1 {
				w.candidates[i] = in.candidate(&messages[i], &w.origins[i])
			}
		})
	}
	wg.Wait()
	return w
}

func (in *Ingest) candidate(m *bus.Message, o *origin) *ledger.Candidate {
	c := &ledger.Candidate{}
	sender, typ, err := submission.ParseSubject(m.Subject)
	if o.sender = sender; err == nil {
		err = in.read(c, m, sender, typ)
	}
	c.Err = err
	if c.Event != nil {
		o.payload = fmt.Sprintf("%x", c.Event.Envelope.PayloadSHA256())
	}
	if err != nil && !c.Signed {
		o.payload, c.Signed = in.unread(m.Body, sender)
	}
	c.Quarantine = func(p *problem.Problem, signed bool) store.Quarantined {
		return quarantined(m, o, c.Event, p, signed)
	}
	return c
}

// unread says of a submission that is refused unread which payload it has, and
// whether its collector signed that. From a refusal without both a collector
// could not tell that it is about the very event on its spool.
func (in *Ingest) unread(body []byte, sender string) (payload string, signed bool) {
	envelope, err := event.ParseEnvelope(submission.Envelope(body))
	if err != nil {
		return "", false
	}
	return fmt.Sprintf("%x", envelope.PayloadSHA256()), in.Ledger.State().Signed(envelope, sender)
}

// read fills the candidate; the signature is verified as soon as the event
// can be read, so that every later refusal knows whether its collector made it.
func (in *Ingest) read(c *ledger.Candidate, m *bus.Message, sender, typ string) error {
	s, err := submission.Parse(m.Body)
	if err != nil {
		return err
	}
	if c.Event, err = event.Parse(s.Envelope, in.Schemas); err != nil {
		return err
	}
	err = in.Ledger.State().CheckSignature(c.Event)
	c.Signed = err == nil
	switch p := problem.Of(err); {
	case p != nil && p.Code == "authority.key":
		// Perhaps the enrolment is still on its way: the appender asks again.
	case err != nil:
		return err
	}
	if err := s.FitsSubject(c.Event, sender, typ); err != nil {
		return err
	}
	// What is in the log already gets its receipt, whatever else came along.
	if held, err := in.Ledger.Holds(c.Event); err != nil {
		in.Logger.Error("look for an event in the log", "id", c.Event.ID, "err", err) // the appender looks again
	} else if held && c.Signed {
		return nil
	}
	if err := s.Fits(c.Event, sender, typ); err != nil {
		return err
	}
	if s.Checkpoint != "" {
		if err := in.witness(s.Checkpoint); err != nil {
			return err
		}
	}
	for _, a := range s.Artifacts {
		c.Artifacts = append(c.Artifacts, store.Artifact{SHA256: sha256.Sum256(a.Data), Data: a.Data})
	}
	return nil
}

// witness holds the note that came along against the log: every collector is a
// witness. What stops the ledger refuses nobody: the submission waits.
func (in *Ingest) witness(note string) error {
	err := in.Ledger.Witness([]byte(note))
	var conflict *ledger.ConflictError
	if errors.As(err, &conflict) {
		in.Logger.Error("CONFLICT: this node has signed two histories, or lost entries", "err", err)
		return nil
	}
	if problem.Of(err) != nil {
		in.Logger.Error("ALARM: a note that this log does not continue", "err", err, "note", note)
		return err
	}
	if err != nil {
		in.Logger.Error("compare a collector's checkpoint", "err", err)
	}
	return nil
}

func quarantined(m *bus.Message, o *origin, ev *event.Event, p *problem.Problem, signed bool) store.Quarantined {
	q := store.Quarantined{
		Collector: o.sender, Payload: o.payload, Time: syntax.FormatMicros(time.Now()), Subject: m.Subject, ID: m.ID,
		Code: p.Code, Where: p.Where, Text: p.Text, Signed: signed, Body: m.Body,
	}
	if o.sender == "" {
		q.Collector = "unknown"
	}
	if ev != nil {
		q.ID = ev.ID
	}
	return q
}

// take appends one batch, whatever it takes, then acknowledges and answers.
func (in *Ingest) take(ctx context.Context, w *work) error {
	outcomes, err := in.append(ctx, w)
	if err != nil {
		return err
	}
	for i := range w.messages {
		if err := w.messages[i].Ack(); err != nil {
			in.Logger.Warn("acknowledge a submission", "subject", w.messages[i].Subject, "err", err) // it comes again, as a duplicate
		}
	}
	in.count.Add(uint64(len(w.messages)))
	in.answer(w, outcomes)
	in.logRejections()
	return nil
}

func (in *Ingest) append(ctx context.Context, w *work) ([]ledger.Outcome, error) {
	for {
		err := in.ready()
		var outcomes []ledger.Outcome
		if err == nil {
			outcomes, err = in.Ledger.Append(w.candidates)
		}
		if err == nil {
			in.stalled.Store(nil)
			return outcomes, nil
		}
		if errors.Is(err, ledger.ErrCrashStop) {
			return nil, err
		}
		why := err.Error()
		in.stalled.Store(&why)
		in.Logger.Error("nothing is appended", "err", err, "waiting", len(w.messages))
		for i := range w.messages {
			if err := w.messages[i].InProgress(); err != nil {
				in.Logger.Warn("hold a submission", "err", err)
			}
		}
		if sleep(ctx, retryAfter); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (in *Ingest) ready() error {
	if in.Ready == nil {
		return nil
	}
	return in.Ready()
}

// answer sends receipts and refusals. None is needed for what is true already:
// a collector that misses one asks.
func (in *Ingest) answer(w *work, outcomes []ledger.Outcome) {
	proofs := in.Ledger.Prove()
	defer proofs.Close()
	for i, o := range outcomes {
		sender := w.origins[i].sender
		if sender == "" {
			continue
		}
		n, err := notice(proofs, w.candidates[i], w.messages[i].ID, w.origins[i].payload, o)
		if err == nil {
			err = in.Bus.Notify(sender, n.JSON())
		}
		if err != nil {
			in.Logger.Error("send a notice", "collector", sender, "err", err)
		}
		if o.Err != nil {
			in.Logger.Warn("refused", "collector", sender, "id", n.ID, "reason", o.Err.Error())
		}
	}
}

func notice(proofs *ledger.Proofs, c *ledger.Candidate, id, payload string, o ledger.Outcome) (*submission.Notice, error) {
	n := &submission.Notice{ID: id}
	if c.Event != nil {
		n.ID = c.Event.ID
	}
	if o.Err == nil {
		receipt, err := proofs.Receipt(o.Index)
		n.Receipt = string(receipt)
		return n, err
	}
	p := problem.Of(o.Err)
	n.Refusal = &submission.Refusal{Code: p.Code, Where: p.Where, Text: p.Text, Payload: payload, Signed: o.Signed, Time: syntax.FormatMicros(time.Now())}
	return n, nil
}

func (in *Ingest) logRejections() {
	if err := in.Ledger.LogRejections(false); err != nil {
		in.Logger.Error("log what was refused", "err", err)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
