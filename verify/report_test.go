package verify_test

import (
	"strings"
	"testing"

	"evidence-ledger/verify"
	"evidence-ledger/verify/problem"
)

// TestReportDoesNotSteerTheTerminal: what comes from evidence is foreign.
func TestReportDoesNotSteerTheTerminal(t *testing.T) {
	r := &verify.Report{Origin: "o", Organisation: "\x1b[2Jgone\u202e", From: "f", Size: 1}
	r.Add(problem.New("log.root", "a\rb", "text").With("note", "one\ntwo\x07\u009b"))
	r.Decide(false)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexAny(b.String(), "\x1b\r\x07\u009b\u202e"); i >= 0 {
		t.Errorf("%q at %d of the report", b.String()[i], i)
	}
	if !strings.Contains(b.String(), "one\n") {
		t.Error("line feeds are kept")
	}
}

// TestSigners: a key that comes in later has its name, one that left keeps it.
func TestSigners(t *testing.T) {
	r, err := changingLog().done().verify()
	if err != nil || r.Verdict != verify.Verified {
		t.Fatal(r, err)
	}
	names := map[string]string{}
	for _, s := range r.Signers {
		names[s.KeyID] = s.Name
	}
	for name, keys := range map[string][]testKey{"node": {nodeKey, node2}, "alice": {alice}, "bob": {bob}, "carol": {carol}, "dave": {dave}, "web-1": {web1}, "db-1": {db1}} {
		for _, k := range keys {
			if got := names[k.public.ID()]; got != name {
				t.Errorf("a key of %s is listed as %q", name, got)
			}
		}
	}
}
