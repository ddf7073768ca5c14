package ledger_test

import (
	"testing"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/verify/event"
)

// BenchmarkAppend appends batches of 256 events that were signed beforehand:
// judge, chain, tree, artifacts, one synced batch, second place.
func BenchmarkAppend(b *testing.B) {
	const batch = 256
	l := ledgertest.Create(b, b.TempDir(), nil)
	defer l.Close()
	c := l.Enrol("web-1", "patch.*")
	for b.Loop() {
		b.StopTimer()
		candidates := make([]*ledger.Candidate, batch)
		for i := range candidates {
			candidates[i] = c.Event("a run").Candidate()
			if err := l.State().CheckSignature(candidates[i].Event); err != nil {
				b.Fatal(err)
			}
			candidates[i].Signed = true
		}
		b.StartTimer()
		l.Must(candidates...)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCheck is the part that runs beside the appender: parse, schema,
// signature.
func BenchmarkCheck(b *testing.B) {
	l := ledgertest.Create(b, b.TempDir(), nil)
	defer l.Close()
	made := l.Enrol("web-1", "patch.*").Event("a run")
	for b.Loop() {
		ev, err := event.Parse(made.Envelope, event.Builtin())
		if err != nil {
			b.Fatal(err)
		}
		if err := l.State().CheckSignature(ev); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceipt proves one entry of a few thousand against the newest
// checkpoint.
func BenchmarkReceipt(b *testing.B) {
	l := manyRuns(b)
	defer l.Close()
	for b.Loop() {
		p := l.Prove()
		if _, err := p.Receipt(1234); err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}

// BenchmarkVerify verifies a whole ledger of 4,002 entries.
func BenchmarkVerify(b *testing.B) {
	l := manyRuns(b)
	defer l.Close()
	for b.Loop() {
		l.Verified(4002)
	}
	b.ReportMetric(4002*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// manyRuns is a ledger of 4,002 entries.
func manyRuns(b *testing.B) *ledgertest.Ledger {
	l := ledgertest.Create(b, b.TempDir(), nil)
	c := l.Enrol("web-1", "patch.*")
	for range 8 {
		var candidates []*ledger.Candidate
		for range 500 {
			candidates = append(candidates, c.Event("a run").Candidate())
		}
		l.Must(candidates...)
	}
	return l
}
