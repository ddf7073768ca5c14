// Package ledger appends events to the log and proves what stands in it.
//
// One Ledger is the only writer of one store. Append takes candidates in the
// order of the stream and judges each against committed state plus what is in
// hand: signature and authority by the trust state just before it, the event's
// id, the collector's number and its link. What passes becomes an entry; then
// one checkpoint over all of them is signed, and entries, tiles, indexes and
// checkpoint are committed in one synced batch of the store.
//
// Invariants:
//   - The commit point is Store.Commit, and nothing else. What is told to
//     anyone (a receipt, an ack) comes after it.
//   - After a commit whose outcome is unknown nothing more is appended or told:
//     the process ends, and Open, the only load path, finds out.
//   - The second place is written after the commit and before anything is told,
//     so it is never ahead of the store by itself: a store behind it has lost
//     entries, and Open refuses to go on.
//   - A proof and the checkpoint that it leads to come from one Head.
//
// TestAppend, TestOpenAfterCrash and TestSecondPlace hold these.
package ledger

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/trust"
)

// Config is what a Ledger works with.
type Config struct {
	Store     *store.Store
	Artifacts *store.Artifacts
	Second    *store.SecondPlace
	Node      *sign.Key
	// NextNode gives the key to which the node's may be rotated, an error where
	// none is prepared; Rotated is called once it is the node's key, committed.
	NextNode func() (*sign.Key, error)
	Rotated  func() error
	// Conflicts is the folder that keeps notes which prove a fork or a
	// rollback; "" keeps none.
	Conflicts string
	Schemas   *event.Schemas // nil: the built-in ones
	Clock     Clock
}

// Ledger is an open log. Append is serial; everything else may run beside it.
type Ledger struct {
	c Config

	mu    sync.Mutex // held while appending
	node  *nodeSigner
	chain *entry.Chain
	clock clockGuard

	failed chan struct{} // closed once err is set
	err    error

	stopped  error                  // a *ConflictError
	lastNote atomic.Pointer[string] // the note that Witness saw to fit last
	rejected time.Time              // when the last ledger.rejections was logged

	state atomic.Pointer[trust.State]
	head  atomic.Pointer[Head]
}

// Head is one signed checkpoint with what it takes to prove against it.
type Head struct {
	checkpoint.Checkpoint
	Note  []byte
	chain [32]byte         // over all signed checkpoints, see store.NextChain
	tree  *checkpoint.Tree // not changed any more
}

// ErrCrashStop is returned when the outcome of a commit is unknown. The
// process must end; at the next Open it is known again.
var ErrCrashStop = errors.New("the outcome of a commit is unknown, the node must stop and open the ledger again")

// Create writes the genesis into an empty store. admins sign it beside the
// node's own key; the first ledger command that follows opens it.
func Create(c Config, genesis trust.Genesis, admins []*sign.Key) (*Ledger, error) {
	envelope, err := Own(trust.TypeGenesis, genesis.Origin, GenesisSummary(genesis), genesis, c.Clock.Now(), append([]*sign.Key{c.Node}, admins...)...)
	if err != nil {
		return nil, fmt.Errorf("make the genesis: %w", err)
	}
	return CreateFrom(c, envelope)
}

// GenesisSummary is the genesis in one line.
func GenesisSummary(g trust.Genesis) string { return "the ledger of " + g.Organisation + " begins" }

// CreateFrom writes a genesis that others have signed into an empty store.
func CreateFrom(c Config, envelope []byte) (*Ledger, error) {
	genesis := NewCandidate(envelope, c.Schemas)
	if genesis.Err != nil {
		return nil, fmt.Errorf("the genesis: %w", genesis.Err)
	}
	origin := genesis.Event.Ledger
	l := &Ledger{c: c, chain: entry.NewChain(), failed: make(chan struct{})}
	if err := l.init(origin); err != nil {
		return nil, err
	}
	l.head.Store(&Head{Checkpoint: checkpoint.Checkpoint{Origin: origin}, tree: &checkpoint.Tree{}})
	out, err := l.Append([]*Candidate{genesis})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("append the genesis: %w", err)
	}
	return l, nil
}

func (l *Ledger) init(origin string) error {
	if l.c.Schemas == nil {
		l.c.Schemas = event.Builtin()
	}
	var err error
	l.node, err = newNodeSigner(origin, l.c.Node)
	return err
}

// nodeSigner is the node's key, as it signs events and as it signs notes.
type nodeSigner struct {
	key    *sign.Key
	signer note.Signer
}

func newNodeSigner(origin string, k *sign.Key) (*nodeSigner, error) {
	private, err := k.Ed25519()
	if err != nil {
		return nil, err
	}
	signer, err := checkpoint.NewSigner(origin, private)
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	return &nodeSigner{k, signer}, nil
}

// Own makes the envelope of an event about the ledger itself.
func Own(typ, origin, summary string, data any, at time.Time, keys ...*sign.Key) ([]byte, error) {
	payload, err := OwnPayload(typ, origin, summary, data, at)
	if err != nil {
		return nil, err
	}
	return Sign(payload, keys...)
}

// OwnPayload makes the statement alone, for others to sign.
func OwnPayload(typ, origin, summary string, data any, at time.Time) ([]byte, error) {
	raw, err := json.Marshal(data, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	ev := &event.Event{
		Type: typ, Version: 1, Subject: []event.Artifact{event.OriginSubject(origin)},
		ID: id.String(), Ledger: origin, ObservedAt: at.UTC(), Summary: summary, Data: raw,
	}
	return ev.Payload()
}

// Sign wraps a payload in an envelope signed by each key.
func Sign(payload []byte, keys ...*sign.Key) ([]byte, error) {
	var sigs []event.Signature
	for _, k := range keys {
		sig, err := k.Sign(event.PAE(payload))
		if err != nil {
			return nil, fmt.Errorf("sign with key %.16s...: %w", k.Public().ID(), err)
		}
		sigs = append(sigs, event.Signature{KeyID: k.Public().ID(), Sig: sig})
	}
	return event.Wrap(payload, sigs), nil
}

// Failed is closed when the outcome of a commit is unknown, whoever asked for
// it: the process must end.
func (l *Ledger) Failed() <-chan struct{} { return l.failed }

// Err is the ErrCrashStop behind Failed, nil before.
func (l *Ledger) Err() error {
	select {
	case <-l.failed:
		return l.err
	default:
		return nil
	}
}

// fail is called once, under mu: nothing is appended after it.
func (l *Ledger) fail(err error) error {
	l.err = err
	close(l.failed)
	return err
}

// State is who may sign what, as of the newest committed entry.
func (l *Ledger) State() *trust.State { return l.state.Load() }

// Head is the newest signed checkpoint.
func (l *Ledger) Head() *Head { return l.head.Load() }
