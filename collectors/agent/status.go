package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify/checkpoint"
)

// Status is the machine form of `collector status --json`.
type Status struct {
	Name   string `json:"name"`
	Ledger string `json:"ledger"` // the pinned origin
	Node   string `json:"node"`
	KeyID  string `json:"keyid"`
	// Running: `collector run` holds the folder.
	Running bool     `json:"running"`
	Types   []string `json:"types"`
	// Numbers holds the last number taken of each type.
	Numbers map[string]uint64 `json:"numbers"`
	Pending int               `json:"pending"`
	Refused int               `json:"refused"`
	Bytes   int64             `json:"bytes"`
	Bound   int64             `json:"bound"`
	// Receipts holds the count and the newest verified receipt of each type.
	Receipts map[string]spool.Newest `json:"receipts"`
	// Checkpoint is the newest verified one, its text.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Note is Checkpoint as the node signed it.
	Note string `json:"note,omitempty"`
	// Conflict is a signed note of the node's that it could not prove to be of
	// the history of Checkpoint. It is kept for ever.
	Conflict string `json:"conflict,omitempty"`
	// Refusals holds the first hundred refused events.
	Refusals []Refused `json:"refusals"`
	// Publishing is there while running.
	Publishing *publish.Status      `json:"publishing,omitzero"`
	Collected  map[string]Collected `json:"collected"`
}

// Refused is one refused event, with the node's reason.
type Refused struct {
	ID    string `json:"id"`
	Type  string `json:"type"`
	Seq   uint64 `json:"seq"`
	Code  string `json:"code"`
	Where string `json:"where,omitempty"`
	Text  string `json:"text"`
	Time  string `json:"time"`
}

// Found tells whether there is something for a person to look at.
func (s *Status) Found() bool {
	return s.Refused > 0 || s.Conflict != "" || s.Publishing != nil && s.Publishing.BadReceipts > 0
}

const maxRefusals = 100

// Status gathers what a person wants to know.
func (a *Agent) Status(context.Context) (*Status, error) {
	held := a.spool.Stats()
	s := &Status{
		Name: a.config.Name, Ledger: a.identity.Origin, Node: a.config.Node, KeyID: a.key.Public().ID(),
		Running: a.running.Load(), Types: a.Types(), Numbers: map[string]uint64{}, Refusals: []Refused{},
		Pending: held.Pending, Refused: held.Refused, Bytes: held.Bytes, Bound: held.Bound,
	}
	a.mu.Lock()
	s.Collected = maps.Clone(a.collected)
	a.mu.Unlock()
	if s.Running {
		p := a.publisher.Status()
		s.Publishing = &p
	}
	return s, a.fromSpool(s)
}

func (a *Agent) fromSpool(s *Status) error {
	numbers, err := a.spool.Numbers(s.KeyID)
	if err != nil {
		return err
	}
	for typ, n := range numbers {
		s.Numbers[typ] = n.Seq
	}
	if s.Receipts, err = a.spool.Receipts(); err != nil {
		return err
	}
	note, err := a.spool.Checkpoint()
	if err != nil {
		return err
	}
	if note != nil {
		u, err := checkpoint.ParseUnverified(note)
		if err != nil {
			return err
		}
		s.Checkpoint, s.Note = u.String(), string(note)
	}
	conflict, err := a.spool.Conflict()
	if err != nil {
		return err
	}
	s.Conflict = string(conflict)
	refused, err := a.spool.Refused(0, maxRefusals)
	if err != nil {
		return err
	}
	for _, i := range refused {
		s.Refusals = append(s.Refusals, Refused{i.ID, i.Type, i.Seq, i.Refusal.Code, i.Refusal.Where, i.Refusal.Text, i.Refusal.Time})
	}
	return nil
}

// Report is what `collector once` came to.
type Report struct {
	Type string `json:"type"`
	// Events were put on the spool now; Receipts were verified meanwhile, also
	// of earlier events.
	Events   int `json:"events"`
	Receipts int `json:"receipts"`
	// Pending and Refused are what the spool holds now.
	Pending int `json:"pending"`
	Refused int `json:"refused"`
	// Problem is what could not be read or made; Fault why something is
	// still pending.
	Problem string `json:"problem,omitempty"`
	Fault   string `json:"fault,omitempty"`
	// Conflict says how the node contradicts what it has proved before.
	Conflict string `json:"conflict,omitempty"`
}

// Once collects a type now and waits until nothing is pending. What it waits
// for the node, before and after collecting, takes at most wait.
func (a *Agent) Once(ctx context.Context, typ string, wait time.Duration) (*Report, error) {
	before, err := a.receipts()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	a.refresh(ctx, min(freshWait, wait/2))
	wait -= time.Since(start)
	r := &Report{Type: typ}
	if r.Events, err = a.Collect(ctx, typ); errors.Is(err, ErrType) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		r.Problem = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = a.drain(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	after, err := a.receipts()
	if err != nil {
		return nil, err
	}
	held := a.spool.Stats()
	r.Receipts, r.Pending, r.Refused = after-before, held.Pending, held.Refused
	published := a.publisher.Status()
	r.Conflict = published.Conflict
	if r.Pending > 0 {
		r.Fault = published.LastFault
	}
	return r, nil
}

func (a *Agent) receipts() (count int, err error) {
	newest, err := a.spool.Receipts()
	for _, n := range newest {
		count += int(n.Count)
	}
	return count, err
}

// drain waits for a running publisher, or runs it.
func (a *Agent) drain(ctx context.Context) error {
	if !a.running.Load() {
		return a.publisher.Drain(ctx)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for a.spool.Stats().Pending > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Retry puts the refused events back, to be sent again.
func (a *Agent) Retry(context.Context) (int, error) {
	n, err := a.spool.Retry()
	a.publisher.Wake()
	return n, err
}
