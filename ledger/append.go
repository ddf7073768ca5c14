package ledger

import (
	"errors"
	"fmt"
	"time"

	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// Candidate is an event on its way into the log.
type Candidate struct {
	Event     *event.Event
	Artifacts []store.Artifact
	// Signed: the signature was verified under a key of the ledger.
	Signed bool
	// Err refuses it before it is judged: what the checks beside the appender
	// have found.
	Err error
	// Quarantine is what to keep where it is refused; nil: nothing.
	Quarantine func(p *problem.Problem, signed bool) store.Quarantined

	clearsRejections bool // it is the entry that holds the counts
}

// NewCandidate reads an envelope; what is wrong with it is in Err.
func NewCandidate(envelope []byte, schemas *event.Schemas) *Candidate {
	if schemas == nil {
		schemas = event.Builtin()
	}
	ev, err := event.Parse(envelope, schemas)
	return &Candidate{Event: ev, Err: err}
}

// Outcome says what became of a candidate: an entry (new, or the one that has
// held the same event since before), or a refusal.
type Outcome struct {
	Index     uint64
	Duplicate bool
	Err       error // a *problem.Problem
	Signed    bool
}

// batch is what one Append has in hand: state as if it were committed already.
type batch struct {
	rows  *store.Batch
	snap  *store.Snapshot
	chain *entry.Chain
	tree  *checkpoint.Tree
	state *trust.State
	now   time.Time
	ids   map[string]*event.Event
	at    map[string]uint64
	seqs  map[seqKey]*event.Event

	node *nodeSigner               // who signs the checkpoint of this batch
	next func() (*sign.Key, error) // the node's next key, where one is prepared

	artifacts []store.Artifact
	refused   refusals
}

type seqKey struct {
	keyID, typ string
	seq        uint64
}

// Append judges the candidates in order and commits those that pass, together
// with one new checkpoint. The outcomes are valid only where the error is nil.
// ErrCrashStop (wrapped) means that the process must end.
func (l *Ledger) Append(candidates []*Candidate) ([]Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(candidates)
}

func (l *Ledger) append(candidates []*Candidate) ([]Outcome, error) {
	if l.stopped != nil {
		return nil, l.stopped
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	var out []Outcome
	for {
		done, err := l.appendBatch(candidates)
		if err != nil {
			return nil, err
		}
		out = append(out, done...)
		if candidates = candidates[len(done):]; len(candidates) == 0 {
			return out, nil
		}
	}
}

// appendBatch appends all candidates, or those up to a rotation of the node's
// key, which ends its batch.
func (l *Ledger) appendBatch(candidates []*Candidate) ([]Outcome, error) {
	now, err := l.clock.now(l.c.Clock, l.chain.Time())
	if err != nil {
		return nil, err
	}
	head := l.head.Load()
	b := &batch{
		rows: l.c.Store.NewBatch(), snap: l.c.Store.Snapshot(),
		chain: l.chain.Clone(), tree: head.tree.Clone(), state: l.state.Load(), now: now,
		ids: map[string]*event.Event{}, at: map[string]uint64{}, seqs: map[seqKey]*event.Event{},
		refused: refusals{}, node: l.node, next: l.c.NextNode,
	}
	defer b.snap.Close()
	var out []Outcome
	for _, c := range candidates {
		o, err := b.take(c, l.c.Schemas)
		if err != nil {
			return nil, err
		}
		if out = append(out, o); b.node != l.node {
			break
		}
	}
	return out, l.commit(head, b)
}

// take judges one candidate. An error that is no problem is the store's.
func (b *batch) take(c *Candidate, schemas *event.Schemas) (out Outcome, err error) {
	err = c.Err
	out.Signed = c.Signed
	if err == nil {
		out.Index, out.Duplicate, err = b.judge(c, &out)
	}
	p := problem.Of(err)
	if err != nil && p == nil {
		return out, err
	}
	if p == nil {
		return out, nil
	}
	out.Err = p
	if c.Quarantine != nil {
		q := c.Quarantine(p, out.Signed)
		b.rows.PutQuarantine(q)
		b.refused.count(q.Collector, p.Code, 1)
	}
	return out, nil
}

func (b *batch) judge(c *Candidate, out *Outcome) (index uint64, duplicate bool, err error) {
	ev := c.Event
	isTrust := entry.StreamOf(ev.Type) == "trust"
	if !c.Signed && !isTrust {
		if err := b.state.CheckSignature(ev); err != nil {
			return 0, false, err
		}
		out.Signed = true
	}
	if index, duplicate, err := b.duplicate(ev); err != nil || duplicate {
		return index, duplicate, err
	}
	header := b.chain.Next(entry.StreamOf(ev.Type), b.now)
	state := b.state
	switch {
	case isTrust && header.Index == 0:
		state, err = trust.Begin(ev)
	case isTrust:
		if state, err = b.state.Next(header.Index, ev); err == nil {
			err = b.follow(state)
		}
	default:
		if err = b.state.Authorize(ev, header.Time); err == nil && !ev.Own() {
			err = b.number(ev)
		}
	}
	if err != nil {
		return 0, false, err
	}
	e, err := entry.New(header, ev.Envelope.Raw)
	if err != nil {
		return 0, false, err
	}
	b.state = state
	return header.Index, false, b.add(e, c)
}

// follow takes the node's key of the new state, which this node must hold:
// else nobody could sign the next checkpoint.
func (b *batch) follow(state *trust.State) error {
	want := state.NodeKey().ID()
	if b.node.key.Public().ID() == want {
		return nil
	}
	if b.next == nil {
		return errors.New("this node has no next key prepared: `ledger propose rotate` makes one")
	}
	key, err := b.next()
	if err != nil {
		return fmt.Errorf("the node's next key: %w", err)
	}
	if key.Public().ID() != want {
		return fmt.Errorf("the node's next key is %.16s..., the action rotates to %.16s...", key.Public().ID(), want)
	}
	b.node, err = newNodeSigner(state.Origin(), key)
	return err
}

// duplicate: the same event is the same id and the same payload. It gets its
// receipt, whoever has revoked what since; another payload under its id is
// refused.
func (b *batch) duplicate(ev *event.Event) (index uint64, duplicate bool, err error) {
	earlier := [32]byte{}
	if inHand := b.ids[ev.ID]; inHand != nil {
		index, earlier = b.at[ev.ID], inHand.Envelope.PayloadSHA256()
	} else if index, err = b.snap.IndexOfID(ev.ID); errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	} else if earlier, err = payloadAt(b.snap, index); err != nil {
		return 0, false, err
	}
	if earlier != ev.Envelope.PayloadSHA256() {
		return 0, false, problem.New("event.id-repeated", "predicate.event.id", "event %s stands in the log already with another payload, as entry %d", ev.ID, index)
	}
	return index, true, nil
}

func payloadAt(snap *store.Snapshot, index uint64) ([32]byte, error) {
	e, err := readEntry(snap, index)
	if err != nil {
		return [32]byte{}, err
	}
	envelope, err := event.ParseEnvelope(e.Envelope)
	if err != nil {
		return [32]byte{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return envelope.PayloadSHA256(), nil
}

// number: each number of a key and type is used once, and links to its
// neighbours where they are there; they may arrive in any order.
func (b *batch) number(ev *event.Event) error {
	used, err := b.numbered(ev, ev.Seq)
	if err != nil {
		return err
	}
	if used != nil {
		return problem.New("collector.seq-repeated", "predicate.event.seq", "%s has used number %d of %s before, for another event", ev.Collector, ev.Seq, ev.Type)
	}
	before := [32]byte{}
	if ev.Seq > 1 {
		prev, err := b.numbered(ev, ev.Seq-1)
		if err != nil {
			return err
		}
		before = ev.Prev // not there yet: nothing to compare
		if prev != nil {
			before = prev.Envelope.PayloadSHA256()
		}
	}
	if ev.Prev != before {
		return problem.New("collector.prev", "predicate.event.prev", "number %d of %s by %s does not follow the number before it", ev.Seq, ev.Type, ev.Collector).
			With("is", fmt.Sprintf("%x", ev.Prev)).With("expected", fmt.Sprintf("%x", before))
	}
	next, err := b.numbered(ev, ev.Seq+1)
	if err != nil {
		return err
	}
	if next != nil && next.Prev != ev.Envelope.PayloadSHA256() {
		return problem.New("collector.prev", "predicate.event.prev", "number %d of %s by %s, which is in the log, follows another event than this", ev.Seq+1, ev.Type, ev.Collector)
	}
	return nil
}

// numbered returns the event of a number of ev's key and type, nil where there
// is none.
func (b *batch) numbered(ev *event.Event, seq uint64) (*event.Event, error) {
	keyID := ev.Envelope.Signatures[0].KeyID
	if other := b.seqs[seqKey{keyID, ev.Type, seq}]; other != nil {
		return other, nil
	}
	index, err := b.snap.IndexOfSeq(keyID, ev.Type, seq)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, other, err := readEvent(b.snap, index, event.Builtin())
	return other, err
}

// add puts the entry and all rows that follow from it into the batch.
func (b *batch) add(e *entry.Entry, c *Candidate) error {
	if err := b.chain.Add(e); err != nil {
		return fmt.Errorf("append entry %d: the node's own header does not fit: %v", e.Index, err)
	}
	ev := c.Event
	b.rows.PutEntry(e.Index, e.Raw)
	for _, t := range b.tree.Add(e.Leaf()) {
		b.rows.PutTile(t.Tile.L, uint64(t.Tile.N), t.Data)
	}
	b.rows.PutID(ev.ID, e.Index)
	b.rows.PutNumber(e.Stream, e.Number, e.Index)
	b.ids[ev.ID], b.at[ev.ID] = ev, e.Index
	if !ev.Own() {
		keyID := ev.Envelope.Signatures[0].KeyID
		b.rows.PutSeq(keyID, ev.Type, ev.Seq, e.Index)
		b.seqs[seqKey{keyID, ev.Type, ev.Seq}] = ev
	}
	if c.clearsRejections {
		b.rows.PutRejections(nil)
	}
	b.artifacts = append(b.artifacts, c.Artifacts...)
	return nil
}

// commit writes artifacts, then the one synced batch, then the second place.
func (l *Ledger) commit(before *Head, b *batch) error {
	if len(b.refused) > 0 {
		if err := b.putRejections(); err != nil {
			return err
		}
	}
	if b.rows.Len() == 0 {
		return nil
	}
	// Artifacts lie on disk, synced, before the entry that names them commits.
	if err := l.c.Artifacts.PutAll(b.artifacts); err != nil {
		return fmt.Errorf("write artifacts: %w", err)
	}
	head := before
	if b.chain.Size() > before.Size {
		var err error
		if head, err = signHead(before, b); err != nil {
			return err
		}
		b.rows.PutCheckpoint(head.Size, head.chain, head.Note)
	}
	// The commit point. If the process ends before it, nothing of this batch
	// has happened, and everything comes again from JetStream and the spools.
	// If it ends after it, the entries are in the log, their submissions come
	// again and are found to be duplicates. If it fails, only the next Open
	// knows which of both it was: so nothing is done or told from here on.
	err := l.c.Store.Commit(b.rows)
	if err != nil && !errors.Is(err, store.ErrFailed) {
		return fmt.Errorf("commit %d entries after entry %d: nothing was written: %w", b.chain.Size()-before.Size, before.Size, err)
	}
	if err != nil {
		return l.fail(fmt.Errorf("commit %d entries after entry %d: %w: %w", b.chain.Size()-before.Size, before.Size, err, ErrCrashStop))
	}
	if head == before {
		return nil
	}
	l.chain = b.chain
	if l.node != b.node && l.c.Rotated != nil {
		if err := l.c.Rotated(); err != nil {
			return l.fail(fmt.Errorf("put the node's new key in its place: %w: %w", err, ErrCrashStop))
		}
	}
	l.node = b.node
	if err := l.c.Second.Write(head.chain, head.Note); err != nil {
		// Committed, but nobody may be told: Open brings the second place forward.
		return l.fail(fmt.Errorf("write the checkpoint to its second place: %w: %w", err, ErrCrashStop))
	}
	l.state.Store(b.state)
	l.head.Store(head)
	return nil
}

func signHead(before *Head, b *batch) (*Head, error) {
	c := checkpoint.Checkpoint{Origin: before.Origin, Size: b.chain.Size(), Root: b.tree.Root()}
	noteBytes, err := checkpoint.Sign(c, b.node.signer)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of %d entries: %w", c.Size, err)
	}
	return &Head{Checkpoint: c, Note: noteBytes, chain: store.NextChain(before.chain, noteBytes), tree: b.tree}, nil
}
