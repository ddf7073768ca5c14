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
