package submission

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

// Fits checks that the parts belong together: the event is of the collector
// and type of the subject, every artifact that it names travels along and no
// other, and the checkpoint is the one that its `after` names. It verifies no
// signature, neither the event's nor the checkpoint's.
func (s *Submission) Fits(ev *event.Event, collector, typ string) error {
	if err := s.FitsSubject(ev, collector, typ); err != nil {
		return err
	}
	if err := s.fitArtifacts(ev); err != nil {
		return err
	}
	return s.fitCheckpoint(ev)
}

// FitsSubject checks the first of these alone: the event is of the collector
// and type of the subject.
func (s *Submission) FitsSubject(ev *event.Event, collector, typ string) error {
	if ev.Own() {
		return problem.New("submission.own", "predicateType", "an event of type %s is made by the ledger's node or admins and not taken from collectors", ev.Type)
	}
	if ev.Collector != collector {
		return problem.New("submission.collector", "predicate.event.collector", "the event is of collector %q, it came on the subject of %q", ev.Collector, collector)
	}
	if ev.Type != typ {
		return problem.New("submission.type", "predicateType", "the event is of type %q, it came on the subject of %q", ev.Type, typ)
	}
	return nil
}

func (s *Submission) fitArtifacts(ev *event.Event) error {
	sent := map[event.Artifact]bool{}
	for i, a := range s.Artifacts {
		named := event.Artifact{Name: a.Name, SHA256: sha256.Sum256(a.Data)} // Parse saw that it is a.SHA256
		if !slices.Contains(ev.Subject, named) {
			return problem.New("submission.artifact-extra", fmt.Sprintf("artifacts.%d", i), "artifact %q is not a subject of the event, by name and digest", a.Name).With("sha256", a.SHA256)
		}
		sent[named] = true
	}
	for i, a := range ev.Subject {
		if !sent[a] {
			return problem.New("submission.artifact-absent", fmt.Sprintf("subject.%d", i), "artifact %q does not travel with the event that names it", a.Name).With("sha256", fmt.Sprintf("%x", a.SHA256))
		}
	}
	return nil
}

func (s *Submission) fitCheckpoint(ev *event.Event) error {
	if (ev.After == nil) != (s.Checkpoint == "") {
		return problem.New("submission.checkpoint", "checkpoint", "the event names a checkpoint in after exactly when the submission carries its note")
	}
	if ev.After == nil {
		return nil
	}
	c, err := checkpoint.ParseUnverified([]byte(s.Checkpoint))
	if err != nil {
		return err
	}
	if c.Origin != ev.Ledger || c.Size != ev.After.Size || [32]byte(c.Root) != ev.After.Root {
		return problem.New("submission.checkpoint-after", "checkpoint", "the note is of %d entries with root %s, after names another checkpoint", c.Size, c.Root).With("note", s.Checkpoint)
	}
	return nil
}
