package submission_test

import (
	"crypto/sha256"
	"testing"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

// note is a checkpoint's form; nobody has signed it.
const note = "ledger.example.org/evidence\n3\nJPD2rWd3a0oigJmJ+cPtE6gJ1hAxydJgQOhizcdCaVI=\n\n" +
	"— ledger.example.org/evidence AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

// fitting returns a submission and the event in it, which fit each other.
func fitting() (*submission.Submission, *event.Event) {
	root := [32]byte{0x24, 0xf0, 0xf6, 0xad, 0x67, 0x77, 0x6b, 0x4a, 0x22, 0x80, 0x99, 0x89, 0xf9, 0xc3, 0xed, 0x13,
		0xa8, 0x09, 0xd6, 0x10, 0x31, 0xc9, 0xd2, 0x60, 0x40, 0xe8, 0x62, 0xcd, 0xc7, 0x42, 0x69, 0x52}
	s := &submission.Submission{
		Artifacts:  []submission.Artifact{{Name: "history.log", MediaType: "text/plain", SHA256: hello, Data: []byte("hello")}},
		Checkpoint: note,
	}
	e := &event.Event{
		Type: "patch.run.completed", Collector: "web-1", Ledger: "ledger.example.org/evidence",
		Subject: []event.Artifact{{Name: "history.log", SHA256: sha256.Sum256([]byte("hello"))}},
		After:   &event.After{Size: 3, Root: root},
	}
	return s, e
}

func TestFits(t *testing.T) {
	s, e := fitting()
	if err := s.Fits(e, "web-1", "patch.run.completed"); err != nil {
		t.Error(err)
	}
	s.Checkpoint, e.After = "", nil
	if err := s.Fits(e, "web-1", "patch.run.completed"); err != nil {
		t.Errorf("before the first checkpoint: %v", err)
	}
	for _, c := range []struct {
		spoil       func(*submission.Submission, *event.Event)
		code, where string
	}{
		{func(_ *submission.Submission, e *event.Event) { e.Type = "trust.genesis" }, "submission.own", "predicateType"},
		{func(_ *submission.Submission, e *event.Event) { e.Collector = "web-2" }, "submission.collector", "predicate.event.collector"},
		{func(_ *submission.Submission, e *event.Event) { e.Type = "patch.run.failed" }, "submission.type", "predicateType"},
		{func(_ *submission.Submission, e *event.Event) { e.Subject[0].Name = "other.log" }, "submission.artifact-extra", "artifacts.0"},
		{func(s *submission.Submission, _ *event.Event) { s.Artifacts = nil }, "submission.artifact-absent", "subject.0"},
		{func(s *submission.Submission, _ *event.Event) { s.Checkpoint = "" }, "submission.checkpoint", "checkpoint"},
		{func(_ *submission.Submission, e *event.Event) { e.After = nil }, "submission.checkpoint", "checkpoint"},
		{func(_ *submission.Submission, e *event.Event) { e.After.Size = 4 }, "submission.checkpoint-after", "checkpoint"},
		{func(_ *submission.Submission, e *event.Event) { e.After.Root[0] ^= 1 }, "submission.checkpoint-after", "checkpoint"},
		{func(_ *submission.Submission, e *event.Event) { e.Ledger = "other" }, "submission.checkpoint-after", "checkpoint"},
	} {
		s, e := fitting()
		c.spoil(s, e)
		wantProblem(t, s.Fits(e, "web-1", "patch.run.completed"), c.code, c.where)
	}
}
