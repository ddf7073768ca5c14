package verify

import (
	"fmt"
	"slices"
	"time"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// gapGrace is how long a collector's number may be missing before that is a
// problem: numbers may arrive out of order.
const gapGrace = time.Hour

// numbers follows each collector's own count: `seq` of one key and one type runs
// from 1 without gaps, and `prev` is the SHA-256 of the payload before. Its
// memory grows with the keys and with what is out of order, not with the log.
type numbers map[numberKey]*run

type numberKey struct{ keyID, typ string }

type run struct {
	collector string
	next      uint64          // the smallest number not seen
	last      [32]byte        // payload of next-1
	ahead     map[uint64]link // seen beyond next
}

type link struct {
	index         uint64
	time          time.Time
	payload, prev [32]byte
}

func (n numbers) add(index uint64, t time.Time, ev *event.Event) error {
	k := numberKey{ev.Envelope.Signatures[0].KeyID, ev.Type}
	r := n[k]
	if r == nil {
		r = &run{collector: ev.Collector, next: 1, ahead: map[uint64]link{}}
		n[k] = r
	}
	_, used := r.ahead[ev.Seq]
	if used || ev.Seq < r.next {
		return problem.New("collector.seq-repeated", "predicate.event.seq", "%s has used number %d of %s before", ev.Collector, ev.Seq, ev.Type)
	}
	r.ahead[ev.Seq] = link{index, t, ev.Envelope.PayloadSHA256(), ev.Prev}
	return r.advance(ev.Type)
}

// advance moves next over every number that is there now.
func (r *run) advance(typ string) (err error) {
	for {
		l, ok := r.ahead[r.next]
		if !ok {
			return err
		}
		if l.prev != r.last && err == nil {
			err = problem.At(l.index, problem.New("collector.prev", "predicate.event.prev", "number %d of %s by %s does not follow the number before it", r.next, typ, r.collector).
				With("is", fmt.Sprintf("%x", l.prev)).With("expected", fmt.Sprintf("%x", r.last)))
		}
		delete(r.ahead, r.next)
		r.next, r.last = r.next+1, l.payload
	}
}

// close reports the numbers that never came: those whose successor was logged
// more than an hour before now are a problem, younger ones a note.
func (n numbers) close(now time.Time, report *Report) {
	keys := make([]numberKey, 0, len(n))
	for k := range n {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b numberKey) int {
		return slices.Compare([]string{a.typ, a.keyID}, []string{b.typ, b.keyID})
	})
	for _, k := range keys {
		r := n[k]
		seqs := make([]uint64, 0, len(r.ahead))
		for seq := range r.ahead {
			seqs = append(seqs, seq)
		}
		slices.Sort(seqs)
		next := r.next
		for _, seq := range seqs {
			if seq > next {
				r.gap(k, next, seq-1, r.ahead[seq], now, report)
			}
			next = seq + 1
		}
	}
}

func (r *run) gap(k numberKey, from, to uint64, after link, now time.Time, report *Report) {
	if now.Sub(after.time) <= gapGrace {
		what := "not arrived yet"
		if report.Unreadable > 0 {
			what = "not seen, perhaps among the entries that cannot be read"
		}
		report.Note("%s: %s of %s by %s; what follows was logged at %s", what, span("number", from, to), k.typ, r.collector, syntax.FormatMicros(after.time))
		return
	}
	p := problem.New("collector.gap", "predicate.event.seq", "missing: %s of %s by %s", span("number", from, to), k.typ, r.collector).
		With("keyid", k.keyID).With("logged", syntax.FormatMicros(after.time))
	p.Index = int64(after.index)
	report.Add(p)
}

func span(what string, from, to uint64) string {
	if from == to {
		return fmt.Sprintf("%s %d", what, from)
	}
	return fmt.Sprintf("%ss %d to %d", what, from, to)
}
