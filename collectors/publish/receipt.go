package publish

import (
	"context"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"time"

	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/submission"
)

// receipt is one that verified by itself: its entry holds exactly the spooled
// envelope and is in the tree of a checkpoint that the node signed. Whether
// that tree is the one we know is for follow to say.
type receipt struct {
	received   spool.Received
	checkpoint *checkpoint.Signed
}

// checkReceipt verifies a receipt's text against the spooled item.
func (p *Publisher) checkReceipt(ctx context.Context, item *spool.Item, text string) (*receipt, error) {
	made := &event.Event{Type: item.Type, Envelope: &event.Envelope{Raw: item.Envelope}}
	r, err := verify.Receipt([]byte(text), made, p.keys)
	if p.followKeys(ctx, err) {
		r, err = verify.Receipt([]byte(text), made, p.keys)
	}
	if err != nil {
		return nil, err
	}
	return &receipt{spool.Received{ID: item.ID, Index: r.Index, Receipt: text}, r.Checkpoint}, nil
}

// start is the checkpoint that the first one must be consistent with: the
// identity's floor, else the tree of size 1, whose root is the pinned genesis.
func start(id *checkpoint.Identity) checkpoint.Checkpoint {
	if id.Floor != nil {
		return *id.Floor
	}
	return checkpoint.Checkpoint{Origin: id.Origin, Size: 1, Root: id.Genesis}
}

// follow returns nil when the checkpoint belongs to the history that we know:
// the node must prove it consistent with the newest verified one, whichever of
// both is larger. A larger one becomes the newest; it never moves back.
func (p *Publisher) follow(ctx context.Context, signed *checkpoint.Signed) error {
	old, new := p.newest, signed.Checkpoint
	if new.Size < old.Size {
		old, new = new, old
	}
	var proof checkpointProof
	if old.Size != new.Size {
		var err error
		if proof, err = p.consistency(ctx, old.Size, new.Size); err != nil {
			return err
		}
	}
	if err := checkpoint.CheckConsistency(old, new, proof); err != nil {
		return p.conflict(signed, err)
	}
	if signed.Size > p.newest.Size {
		p.newest, p.moved = signed.Checkpoint, signed
	}
	return nil
}

// Fresh is closed once Run or Drain has followed the node's newest checkpoint,
// so that what is signed from then on can name it.
func (p *Publisher) Fresh() <-chan struct{} { return p.fresh }

// Refresh follows the node's newest checkpoint over a connection of its own,
// for use while neither Run nor Drain is at work. It tries until ctx ends, or
// the node contradicts itself.
func (p *Publisher) Refresh(ctx context.Context) (err error) {
	if p.nc, err = p.connect(); err != nil {
		return err
	}
	defer p.nc.Close()
	for {
		err = p.newestOfNode(ctx)
		if _, contradicts := errors.AsType[*Conflict](err); err == nil || contradicts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// refresh does what it can: without it, events name an older checkpoint.
func (p *Publisher) refresh(ctx context.Context) {
	err := p.newestOfNode(ctx)
	if _, told := errors.AsType[*Conflict](err); err != nil && !told {
		p.fault("the node's newest checkpoint: %v", err)
	}
	select {
	case <-p.fresh:
	default:
		close(p.fresh)
	}
}

// newestOfNode follows what the node shows as its newest checkpoint. A node that
// shows less than it has proved before, and knows no proof up to there, has lost
// entries (TestOlderCopy). A 404 about anything else accuses nobody: damage to
// its tiles may be the reason.
func (p *Publisher) newestOfNode(ctx context.Context) error {
	body, err := p.request(ctx, "ledger.v1.checkpoint", struct{}{})
	if err != nil {
		return err
	}
	var reply struct {
		Checkpoint string `json:"checkpoint"`
	}
	if err := json.Unmarshal(body, &reply, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("the reply cannot be read: %w", err)
	}
	signed, err := verify.Checkpoint([]byte(reply.Checkpoint), p.keys)
	if p.followKeys(ctx, err) {
		signed, err = verify.Checkpoint([]byte(reply.Checkpoint), p.keys)
	}
	if err != nil {
		return err
	}
	err = p.follow(ctx, signed)
	switch {
	case notFound(err) && signed.Size < p.newest.Size:
		return p.conflict(signed, err)
	case notFound(err):
		return fmt.Errorf("the node cannot prove that its %d entries continue the %d that it has proved before: %w", signed.Size, p.newest.Size, err)
	case err != nil:
		return err
	}
	p.mu.Lock()
	p.status.Conflict = ""
	p.mu.Unlock()
	if p.moved == nil {
		return nil
	}
	if _, err := p.config.Spool.Release(p.moved); err != nil {
		return err
	}
	p.moved = nil
	return nil
}

func (p *Publisher) consistency(ctx context.Context, old, new uint64) (checkpointProof, error) {
	body, err := p.request(ctx, "ledger.v1.consistency", map[string]uint64{"old": old, "new": new})
	if err != nil {
		return nil, err
	}
	var reply struct {
		Proof string `json:"proof"`
	}
	if err := json.Unmarshal(body, &reply, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the consistency proof from %d to %d: %w", old, new, err)
	}
	return checkpoint.ParseConsistency([]byte(reply.Proof))
}

// Conflict says that the node signed a checkpoint of Shown entries that does not
// belong to the history of the Proved ones. Both notes are on the spool.
type Conflict struct {
	Shown, Proved uint64
	Err           error // of the proof, or of asking for one
}

func (c *Conflict) Error() string {
	if c.Shown < c.Proved {
		return fmt.Sprintf("the node shows %d entries, it has proved %d before: it went back to an older copy or shows another history (%v)", c.Shown, c.Proved, c.Err)
	}
	return fmt.Sprintf("the node shows %d entries that do not continue the %d it has proved before: it shows another history (%v)", c.Shown, c.Proved, c.Err)
}

func (c *Conflict) Unwrap() error { return c.Err }

// conflict keeps a signed checkpoint that the node could not prove consistent.
func (p *Publisher) conflict(signed *checkpoint.Signed, err error) error {
	c := &Conflict{signed.Size, p.newest.Size, err}
	p.mu.Lock()
	p.status.Conflict = c.Error()
	p.mu.Unlock()
	p.fault("%v. Both signed notes are kept on the spool, `collector status` shows them: give them to the ledger's auditors", c)
	if err := p.config.Spool.SetConflict(signed); err != nil {
		p.fault("keeping the conflicting checkpoint: %v", err)
	}
	return c
}

// counts tells whether a refusal is about the very payload that is spooled
// and is the payload's fault: it was correctly signed under an enrolled key, or
// the code is about what we sent. Any other one may be forged, or about a
// damaged copy: the event stays pending and is sent again.
func counts(item *spool.Item, r *submission.Refusal) bool {
	if r.Payload != hex.EncodeToString(item.Payload[:]) {
		return false
	}
	content := strings.HasPrefix(r.Code, "submission.") ||
		strings.HasPrefix(r.Code, "event.") && r.Code != "event.signature"
	return r.Signed || content
}
