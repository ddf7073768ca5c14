package ledger

import (
	"encoding/json/v2"
	"fmt"
	"time"

	"evidence-ledger/verify/syntax"
)

// rejectionsEvery is the least time between two ledger.rejections entries.
const rejectionsEvery = time.Minute

// refusals counts broken rules by collector; "unknown" stands for senders
// without a name.
type refusals map[string]map[string]uint64

func (r refusals) count(collector, code string, n uint64) {
	if r[collector] == nil {
		r[collector] = map[string]uint64{}
	}
	r[collector][code] += n
}

// rejections is the `data` of ledger.rejections, and, without `to`, what the
// store keeps until the entry is made.
type rejections struct {
	From       string   `json:"from"`
	To         string   `json:"to,omitzero"`
	Collectors refusals `json:"collectors"`
}

// putRejections adds what this batch refuses to the counts that are not in the
// log yet: the same commit keeps the messages in quarantine.
func (b *batch) putRejections() error {
	row, err := b.snap.Rejections()
	if err != nil {
		return err
	}
	sum := rejections{From: syntax.FormatMicros(b.now), Collectors: refusals{}}
	if len(row) > 0 {
		if err := json.Unmarshal(row, &sum); err != nil {
			return fmt.Errorf("read the counts of refused submissions: %w", err)
		}
	}
	for collector, codes := range b.refused {
		for code, n := range codes {
			sum.Collectors.count(collector, code, n)
		}
	}
	raw, err := json.Marshal(sum, json.Deterministic(true))
	if err != nil {
		return err
	}
	b.rows.PutRejections(raw)
	return nil
}

// LogRejections appends what was refused since the last such entry, at most
// once a minute; force does not wait for the minute.
func (l *Ledger) LogRejections(force bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	snap := l.c.Store.Snapshot()
	row, err := snap.Rejections()
	snap.Close()
	now := l.c.Clock.Now()
	if err != nil || len(row) == 0 || !force && now.Sub(l.rejected) < rejectionsEvery {
		return err
	}
	sum := rejections{}
	if err := json.Unmarshal(row, &sum); err != nil {
		return fmt.Errorf("read the counts of refused submissions: %w", err)
	}
	sum.To = syntax.FormatMicros(now)
	total := uint64(0)
	for _, codes := range sum.Collectors {
		for _, n := range codes {
			total += n
		}
	}
	c, err := l.own("ledger.rejections", fmt.Sprintf("%d submissions were refused", total), sum, now)
	if err != nil {
		return err
	}
	c.clearsRejections = true
	out, err := l.append([]*Candidate{c})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		return fmt.Errorf("log what was refused: %w", err)
	}
	l.rejected = now
	return nil
}

func (l *Ledger) own(typ, summary string, data any, now time.Time) (*Candidate, error) {
	envelope, err := Own(typ, l.head.Load().Origin, summary, data, now, l.node.key)
	if err != nil {
		return nil, fmt.Errorf("make a %s event: %w", typ, err)
	}
	return NewCandidate(envelope, l.c.Schemas), nil
}
