package node

import (
	"errors"
	"fmt"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

// answers is what collectors are told when they ask.
type answers struct{ l *ledger.Ledger }

func (a answers) Checkpoint() ([]byte, error) { return a.l.Head().Note, nil }

// Receipt: only the collector's own events, and what was refused of it.
func (a answers) Receipt(collector, id string) ([]byte, error) {
	p := a.l.Prove()
	defer p.Close()
	index, err := p.Snapshot().IndexOfID(id)
	if errors.Is(err, store.ErrNotFound) {
		return refusal(p.Snapshot(), collector, id)
	}
	if err != nil {
		return nil, err
	}
	ev, err := eventAt(p.Snapshot(), index)
	if err != nil {
		return nil, err
	}
	if ev.Collector != collector {
		return nil, bus.ErrNotFound
	}
	receipt, err := p.Receipt(index)
	if err != nil {
		return nil, err
	}
	return (&submission.Notice{ID: id, Receipt: string(receipt)}).JSON(), nil
}

func refusal(s *store.Snapshot, collector, id string) ([]byte, error) {
	var newest *submission.Notice
	err := s.Quarantine(collector, func(q store.Quarantined) error {
		if q.ID == id {
			newest = refused(q)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if newest == nil {
		return nil, bus.ErrNotFound
	}
	return newest.JSON(), nil
}

func refused(q store.Quarantined) *submission.Notice {
	return &submission.Notice{ID: q.ID, Refusal: &submission.Refusal{Code: q.Code, Where: q.Where, Text: q.Text, Payload: q.Payload, Signed: q.Signed, Time: q.Time}}
}

func eventAt(s *store.Snapshot, index uint64) (*event.Event, error) {
	raw, err := s.Entry(index)
	if err != nil {
		return nil, err
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, err
	}
	return event.Parse(e.Envelope, event.Builtin())
}

func (a answers) Consistency(from, to uint64) ([]byte, error) {
	p := a.l.Prove()
	defer p.Close()
	proof, err := p.Consistency(from, to)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", err, bus.ErrNotFound)
	}
	return checkpoint.FormatConsistency(proof), err
}

// maxTrust bounds one answer; who needs more asks again.
const maxTrust = 8

func (a answers) Trust(since uint64) (out [][]byte, err error) {
	p := a.l.Prove()
	defer p.Close()
	streams, err := p.Snapshot().Streams()
	if err != nil {
		return nil, err
	}
	for number := range streams["trust"].Count {
		index, err := p.Snapshot().IndexOfNumber("trust", number)
		if err != nil {
			return nil, err
		}
		if index < since {
			continue
		}
		raw, err := p.Snapshot().Entry(index)
		if err != nil {
			return nil, err
		}
		if out = append(out, raw); len(out) == maxTrust {
			break
		}
	}
	return out, nil
}

// maxRefusals is how many of the newest refusals are told.
const maxRefusals = 100

func (a answers) Refusals(collector string) (out [][]byte, err error) {
	p := a.l.Prove()
	defer p.Close()
	var all []*submission.Notice
	if err := p.Snapshot().Quarantine(collector, func(q store.Quarantined) error {
		all = append(all, refused(q))
		return nil
	}); err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0 && len(out) < maxRefusals; i-- {
		out = append(out, all[i].JSON())
	}
	return out, nil
}

func (a answers) Last(collector, keyID string) (map[string]bus.Last, error) {
	p := a.l.Prove()
	defer p.Close()
	out := map[string]bus.Last{}
	for _, e := range a.l.State().Enrolments() {
		if e.Key.ID() != keyID || e.Name != collector {
			continue
		}
		seqs, err := p.Snapshot().LastSeqs(keyID)
		if err != nil {
			return nil, err
		}
		for typ, last := range seqs {
			ev, err := eventAt(p.Snapshot(), last.Index)
			if err != nil {
				return nil, err
			}
			out[typ] = bus.Last{Seq: last.Seq, Payload: fmt.Sprintf("%x", ev.Envelope.PayloadSHA256())}
		}
		return out, nil
	}
	return nil, bus.ErrNotFound
}

func leafAt(s *store.Snapshot, index uint64) ([32]byte, error) {
	raw, err := s.Entry(index)
	if err != nil {
		return [32]byte{}, fmt.Errorf("read entry %d: %w", index, err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return [32]byte{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return e.Leaf(), nil
}
