package publish

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"

	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/problem"
)

// maxActions bounds what a node can make us read.
const maxActions = 10_000

// knownKeys are the node's keys as far as they were followed before.
func knownKeys(c Config) (verify.Keys, error) {
	if _, _, err := checkpoint.NewVerifier(c.Identity.VKey); err != nil {
		return nil, err
	}
	entries, err := c.Spool.Trust()
	if err != nil || entries == nil {
		return c.Identity, err
	}
	state, err := verify.Trust(entries, c.Identity)
	if err != nil {
		return nil, fmt.Errorf("the trust entries on the spool: %w", err)
	}
	return state, nil
}

// followKeys asks for the admins' actions when a checkpoint is not signed by
// the key that we know, and tells whether that brought another one. A key that
// the quorum did not sign brings none: the actions are verified from the pinned
// genesis on (TestForgedRotation).
func (p *Publisher) followKeys(ctx context.Context, why error) bool {
	bad := problem.Of(why)
	if bad == nil || bad.Code != "checkpoint.unsigned" {
		return false
	}
	entries, err := p.trustEntries(ctx)
	if err != nil {
		p.fault("the admins' actions: %v", err)
		return false
	}
	if err := p.continues(entries); err != nil {
		p.fault("the admins' actions: %v", err)
		return false
	}
	state, err := verify.Trust(entries, p.config.Identity)
	if err != nil || state == nil {
		p.fault("the admins' actions do not hold: %v", err)
		return false
	}
	if state.NodeVKey(1<<53) == p.keys.NodeVKey(1<<53) {
		return false
	}
	if err := p.config.Spool.SetTrust(entries); err != nil {
		p.fault("keeping the admins' actions: %v", err)
		return false
	}
	p.keys = state
	p.config.Log.Info("the node's key was rotated", "vkey", state.NodeVKey(1<<53), "entry", state.Index())
	return true
}

// continues holds new actions against those that were followed before: they
// must go on from them. A shorter list is what a thief of a former key would show
// (TestRotationIsNotTakenBack).
func (p *Publisher) continues(entries [][]byte) error {
	known, err := p.config.Spool.Trust()
	if err != nil {
		return err
	}
	if len(entries) < len(known) {
		return fmt.Errorf("the node shows %d of them, it has shown %d before", len(entries), len(known))
	}
	for i, k := range known {
		if !bytes.Equal(k, entries[i]) {
			return fmt.Errorf("action %d is not the one that was shown before", i)
		}
	}
	return nil
}

// trustEntries asks for all entries of stream trust, which come in parts.
func (p *Publisher) trustEntries(ctx context.Context) (all [][]byte, err error) {
	for since := uint64(0); ; {
		body, err := p.request(ctx, "ledger.v1.trust", map[string]uint64{"since": since})
		if err != nil {
			return nil, err
		}
		var reply struct {
			Entries [][]byte `json:"entries"`
		}
		if err := json.Unmarshal(body, &reply, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("the reply cannot be read: %w", err)
		}
		if len(reply.Entries) == 0 {
			return all, nil
		}
		all = append(all, reply.Entries...)
		last, err := entry.Parse(reply.Entries[len(reply.Entries)-1])
		if err != nil {
			return nil, err
		}
		if last.Index < since || len(all) > maxActions {
			return nil, fmt.Errorf("after %d actions comes entry %d, though those since %d were asked for", len(all), last.Index, since)
		}
		since = last.Index + 1
	}
}
