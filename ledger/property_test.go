package ledger_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

// TestAnySequence: whatever comes, good, again, in other JSON, or bad, in any
// batches and over restarts: the outcome is the expected one, and the ledger
// that it leaves verifies, with every row of every table.
func TestAnySequence(t *testing.T) {
	if err := flag.Set("rapid.checks", fmt.Sprint(80/thin)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{t: t, l: ledgertest.Create(t, dir, vfs.NewMem()), entries: 1, index: map[string]uint64{}}
		m.enrol()
		rt.Repeat(map[string]func(*rapid.T){
			"batch": func(rt *rapid.T) {
				var batch []step
				for range rapid.IntRange(1, 6).Draw(rt, "size") {
					batch = append(batch, m.step(rt))
				}
				m.append(rt, batch)
			},
			"time": func(rt *rapid.T) {
				m.l.Clock.Pass(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
			},
			"rejections": func(rt *rapid.T) {
				if err := m.l.LogRejections(true); err != nil {
					rt.Fatal(err)
				}
				if m.refused {
					m.entries, m.refused = m.entries+1, false
				}
			},
			"restart": func(rt *rapid.T) {
				m.l.Close()
				if err := m.l.Open(); err != nil {
					rt.Fatal(err)
				}
			},
			"enrol": func(rt *rapid.T) {
				if len(m.collectors) < 4 {
					m.enrol()
				}
			},
			"": func(rt *rapid.T) {
				if got := m.l.Head().Size; got != m.entries {
					rt.Fatalf("%d entries, want %d", got, m.entries)
				}
			},
		})
		// An hour has not passed since the newest gap: gaps are notes.
		r := m.l.Verify()
		for _, p := range r.Problems {
			if p.Code != "collector.gap" {
				rt.Fatal(p)
			}
		}
		if r.Size != m.entries {
			rt.Fatalf("%d entries verified, want %d", r.Size, m.entries)
		}
		m.l.Close()
	})
}

type model struct {
	t          *testing.T
	l          *ledgertest.Ledger
	collectors []*ledgertest.Collector
	logged     []*ledgertest.Made // in the log
	late       []*ledgertest.Made // numbered, and not sent yet
	index      map[string]uint64  // event id -> entry
	entries    uint64
	refused    bool
}

// step is one candidate and what must become of it: a code, or "".
type step struct {
	made *ledgertest.Made
	c    *ledger.Candidate
	code string
}

func (m *model) enrol() {
	m.collectors = append(m.collectors, m.l.Enrol(fmt.Sprintf("web-%d", len(m.collectors)+1), "patch.*"))
	m.entries++
}

func (m *model) step(rt *rapid.T) step {
	c := rapid.SampledFrom(m.collectors).Draw(rt, "collector")
	kinds := []string{"good", "good", "late", "signature", "ledger", "unknown key", "name"}
	if len(m.late) > 0 {
		kinds = append(kinds, "arrives")
	}
	if len(m.logged) > 0 {
		kinds = append(kinds, "again", "rewrapped", "id", "number", "garbage")
	}
	kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
	bad := func(code string, change func(ev *event.Event)) step {
		ev, data := c.Draft(kind)
		change(ev)
		made := c.Sign(ev, data)
		return step{made, made.Candidate(), code}
	}
	switch kind {
	case "good", "late":
		made := c.Event(kind)
		if kind == "late" {
			m.late = append(m.late, made)
			made = c.Event("after " + kind)
		}
		return step{made, made.Candidate(), ""}
	case "arrives":
		i := rapid.IntRange(0, len(m.late)-1).Draw(rt, "which")
		made := m.late[i]
		m.late = append(m.late[:i], m.late[i+1:]...)
		return step{made, made.Candidate(), ""}
	case "again", "rewrapped":
		made := rapid.SampledFrom(m.logged).Draw(rt, "which")
		if kind == "rewrapped" {
			return step{made, rewrapped(m.t, made), ""}
		}
		return step{made, made.Candidate(), ""}
	case "id":
		id := rapid.SampledFrom(m.logged).Draw(rt, "which").ID
		return bad("event.id-repeated", func(ev *event.Event) { ev.ID = id })
	case "number":
		used := rapid.SampledFrom(m.logged).Draw(rt, "which")
		for _, other := range m.collectors {
			if other.Name == used.Collector {
				c = other
			}
		}
		return bad("collector.seq-repeated", func(ev *event.Event) { ev.Seq, ev.Prev = used.Seq, used.Prev })
	case "ledger":
		return bad("event.ledger", func(ev *event.Event) { ev.Ledger = "another.example" })
	case "name":
		return bad("authority.key", func(ev *event.Event) { ev.Collector = "somebody" })
	case "unknown key":
		made := ledgertest.NewCollector(m.t, c.Name).Event(kind)
		return step{made, made.Candidate(), "authority.key"}
	case "garbage":
		made := &ledgertest.Made{Envelope: rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")}
		return step{made, made.Candidate(), "event."}
	default:
		ev, data := c.Draft(kind)
		made := c.Sign(ev, data)
		made.Envelope = forged(m.t, made.Envelope)
		return step{made, made.Candidate(), "event.signature"}
	}
}

// forged is the envelope with one bit of its signature changed.
func forged(t *testing.T, envelope []byte) []byte {
	t.Helper()
	env, err := event.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	env.Signatures[0].Sig[7] ^= 1
	return event.Wrap(env.Payload, env.Signatures)
}

func (m *model) append(rt *rapid.T, batch []step) {
	var candidates []*ledger.Candidate
	for _, s := range batch {
		candidates = append(candidates, s.c)
	}
	out, err := m.l.Append(candidates)
	if err != nil {
		rt.Fatal(err)
	}
	for i, o := range out {
		s := batch[i]
		if s.code != "" {
			m.refused = true
			if p := problem.Of(o.Err); p == nil || len(p.Code) < len(s.code) || p.Code[:len(s.code)] != s.code {
				rt.Fatalf("want %s: %v", s.code, o.Err)
			}
			continue
		}
		if o.Err != nil {
			rt.Fatal(o.Err)
		}
		known, duplicate := m.index[s.made.ID]
		if !duplicate {
			known = m.entries
			m.entries++
			m.index[s.made.ID] = known
			m.logged = append(m.logged, s.made)
		}
		if o.Index != known || o.Duplicate != duplicate {
			rt.Fatalf("%+v, want entry %d, duplicate %v", o, known, duplicate)
		}
	}
}
