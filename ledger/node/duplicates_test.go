package node_test

import (
	"fmt"
	"testing"

	"evidence-ledger/verify"
	"evidence-ledger/verify/submission"
)

// TestLoggedAlready: a payload that is in the log gets its receipt, is never
// quarantined and makes no second entry, also where what came along with it was
// lost or damaged.
func TestLoggedAlready(t *testing.T) {
	r := start(t)
	web := r.newStation("web-1", "patch.*")
	r.connect(web)
	m := web.Event("logged")
	damaged := artifact(m)
	damaged.Name = "another.log"
	for i, again := range []*submission.Submission{
		{Envelope: m.Envelope, Artifacts: []submission.Artifact{artifact(m)}},
		{Envelope: m.Envelope},
		{Envelope: m.Envelope, Artifacts: []submission.Artifact{damaged}},
		{Envelope: m.Envelope, Artifacts: []submission.Artifact{artifact(m)}, Checkpoint: "no note"},
	} {
		r.send(web, fmt.Sprintf("%s %d", m.ID, i), again.Body())
		n := r.notice(web)
		if n.Receipt == "" {
			t.Fatalf("submission %d: %+v", i, n.Refusal)
		}
		if got, err := verify.Receipt([]byte(n.Receipt), m.Event, r.identity); err != nil || got.Index != 2 {
			t.Errorf("submission %d: %+v, %v", i, got, err)
		}
	}
	quarantined(t, r, nil)
	r.verified()
}
