package ledger_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// enrolment lets a collector in for a time.
func enrolment(t *testing.T, l *ledgertest.Ledger, c *ledgertest.Collector, from, until time.Time) *ledger.Candidate {
	t.Helper()
	proof, err := c.Key.Sign(trust.PossessionMessage(ledgertest.Origin, c.Name, c.Key.Public().ID()))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := ledger.Own(trust.TypeEnrolled, ledgertest.Origin, "for a time", trust.Enrolled{
		Basis: fmt.Sprintf("%x", l.State().Basis()), Name: c.Name, PublicKey: c.Key.Public().String(),
		Possession: base64.StdEncoding.EncodeToString(proof), Types: c.Types,
		ValidFrom: syntax.FormatMicros(from), ValidUntil: syntax.FormatMicros(until),
	}, l.Clock.Now(), l.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.NewCandidate(envelope, nil)
}

// revoked ends what a key may do.
func revoked(t *testing.T, l *ledgertest.Ledger, c *ledgertest.Collector) *ledger.Candidate {
	t.Helper()
	envelope, err := ledger.Own(trust.TypeRevoked, ledgertest.Origin, "no more", trust.Revoked{
		Basis: fmt.Sprintf("%x", l.State().Basis()), Name: c.Name, KeyID: c.Key.Public().ID(), Reason: "retired",
	}, l.Clock.Now(), l.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.NewCandidate(envelope, nil)
}

// TestAuthorityAtTheTime: the entry's time decides, to the microsecond, and the
// actions before it, also those of its own batch. What is in the log already
// keeps its receipt, and what was right at its time verifies later.
func TestAuthorityAtTheTime(t *testing.T) {
	l := ledgertest.Create(t, t.TempDir(), nil)
	defer l.Close()
	c := ledgertest.NewCollector(t, "web-1", "patch.*")
	from, until := ledgertest.Begin.Add(time.Hour), ledgertest.Begin.Add(2*time.Hour)
	l.Must(enrolment(t, l, c, from, until))

	events := c.Event("made while it may not be logged yet")
	try := func(want string) {
		t.Helper()
		out, err := l.Append([]*ledger.Candidate{events.Candidate()})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p := problem.Of(out[0].Err); p != nil {
			got = p.Code
		}
		if got != want {
			t.Errorf("at %s: %q (%v), want %q", l.Clock.Now(), got, out[0].Err, want)
		}
	}
	to := func(at time.Time) { l.Clock.Pass(at.Sub(l.Clock.Now())) }
	to(from.Add(-10 * time.Millisecond))
	try("authority.not-yet")
	to(from)
	try("")
	to(until.Add(-10 * time.Millisecond))
	events = c.Event("just before the end")
	try("")
	logged := events
	to(until)
	events = c.Event("just after the end")
	try("authority.expired")
	events = logged
	try("") // the same event: its receipt

	// A revocation counts from its entry on, within one batch as well.
	d := l.Enrol("db-1", "patch.*")
	before, after := d.Event("before"), d.Event("after")
	out, err := l.Append([]*ledger.Candidate{before.Candidate(), revoked(t, l, d), after.Candidate(), before.Candidate()})
	if err != nil {
		t.Fatal(err)
	}
	if p := problem.Of(out[2].Err); out[0].Err != nil || out[1].Err != nil || p == nil || p.Code != "authority.revoked" || !out[3].Duplicate {
		t.Errorf("%+v", out)
	}
	l.Verified(7)
}
