package publish

import (
	"context"
	"encoding/hex"
	"encoding/json/v2"
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
		p.conflict(signed, err)
		return err
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
// for use while neither Run nor Drain is at work. It tries until ctx ends.
func (p *Publisher) Refresh(ctx context.Context) (err error) {
	if p.nc, err = p.connect(); err != nil {
		return err
	}
	defer p.nc.Close()
	for {
		if err = p.newestOfNode(ctx); err == nil {
			return nil
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
	if err := p.newestOfNode(ctx); err != nil {
		p.fault("the node's newest checkpoint: %v", err)
	}
	select {
	case <-p.fresh:
	default:
		close(p.fresh)
	}
}

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
	if err := p.follow(ctx, signed); err != nil || p.moved == nil {
		return err
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

// conflict keeps a signed checkpoint that the node could not prove consistent.
func (p *Publisher) conflict(signed *checkpoint.Signed, err error) {
	p.fault("the node's checkpoint of size %d does not continue the verified one of size %d: %v. "+
		"Both notes are kept on the spool: tell the ledger's auditors", signed.Size, p.newest.Size, err)
	if err := p.config.Spool.SetConflict(signed); err != nil {
		p.fault("keeping the conflicting checkpoint: %v", err)
	}
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
