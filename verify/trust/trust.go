// Package trust decides who may sign what at which index of a log.
//
// The answer comes from the log alone: stream `trust` begins with
// `trust.genesis` at entry 0 (the node's key and the admins) and goes on with
// actions that a quorum of admins signed. A State is the projection of that
// stream up to one entry; it is immutable, Next returns a new one, so checks
// may run beside the appender. A signer is judged by the state just before the
// entry, never by today's.
//
// Invariants, each held by a bad vector below verify/testdata:
//   - every action but genesis names in `data.basis` the payload of the action
//     before it and counts only directly after that: nothing held back or taken
//     from another ledger can be slipped in;
//   - all public keys that were ever in the state are pairwise different;
//   - a quorum counts keys, not names; every signature on an action must verify
//     under a key that counts;
//   - a key that comes in proves possession over
//     "evidence-ledger/possession@v1\n<origin>\n<name>\n<keyid>\n".
package trust

import (
	"encoding/json/v2"
	"fmt"
	"time"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// The types of stream `trust` that exist.
const (
	TypeGenesis  = "trust.genesis"
	TypeEnrolled = "trust.collector-enrolled"
	TypeRevoked  = "trust.collector-revoked"
	TypeRotated  = "trust.node-key-rotated"
	TypeAdmins   = "trust.admins-changed"
)

// nodeName is the name under which the node's key shows its possession.
const nodeName = "node"

// Node is the `node` member of genesis: one key, once as the verifier key of
// its signed notes, once as SubjectPublicKeyInfo.
type Node struct {
	VKey      string `json:"vkey"`
	PublicKey string `json:"publicKey"`
}

// Admin is one key that counts in a quorum.
type Admin struct {
	Name      string `json:"name"`
	PublicKey string `json:"publicKey"`
	// Possession stands only in trust.admins-changed; a key that is new has it.
	Possession string `json:"possession,omitzero"`
}

// Admins are the keys that may act, and how many of them it takes.
type Admins struct {
	Threshold int     `json:"threshold"`
	Keys      []Admin `json:"keys"`
}

// Predecessor names the ledger that this one goes on from.
type Predecessor struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
}

// Genesis is the `data` of trust.genesis.
type Genesis struct {
	Origin       string       `json:"origin"`
	Organisation string       `json:"organisation"`
	Node         Node         `json:"node"`
	Admins       Admins       `json:"admins"`
	Predecessor  *Predecessor `json:"predecessor,omitzero"`
}

// Enrolled is the `data` of trust.collector-enrolled. ValidFrom and ValidUntil
// bound the time of the entries that the key may sign, half-open.
type Enrolled struct {
	Basis      string   `json:"basis"`
	Name       string   `json:"name"`
	PublicKey  string   `json:"publicKey"`
	Possession string   `json:"possession"`
	Types      []string `json:"types"`
	NKey       string   `json:"nkey,omitzero"`
	ValidFrom  string   `json:"validFrom,omitzero"`
	ValidUntil string   `json:"validUntil,omitzero"`
}

// Enrolment is one key that was let in under a name.
type Enrolment struct {
	Name  string
	Key   *key.Public
	Types []string
	NKey  string
	From  time.Time // zero: from the enrolment on
	Until time.Time // zero: unbounded
	Index uint64    // the entry that let it in
	// Revoked says since when it may not sign any more; nil: it may.
	Revoked *Revocation
}

// Revocation is the end of an enrolment. Where the key was stolen, what it
// signed after the newest dated checkpoint before DoubtedSince is doubted.
type Revocation struct {
	Index        uint64
	Reason       string // retired, superseded, compromised
	DoubtedSince time.Time
}

// nodeKey is the node's key for checkpoints of more than index entries, and
// for its own events after index.
type nodeKey struct {
	index  uint64
	vkey   string
	public *key.Public
}

// State is who may sign what just after entry Index of stream `trust`.
type State struct {
	genesis    Genesis
	nodes      []nodeKey
	admins     map[string]string // key id -> name
	adminList  Admins
	threshold  int
	enrolments []Enrolment
	byKey      map[string]int         // key id -> index in enrolments
	keys       map[string]*key.Public // every key that was ever in the state
	basis      [32]byte
	index      uint64
}

// PossessionMessage is what a new key signs to prove that somebody holds it.
func PossessionMessage(origin, name, keyID string) []byte {
	return fmt.Appendf(nil, "evidence-ledger/possession@v1\n%s\n%s\n%s\n", origin, name, keyID)
}

// Begin reads the genesis event, which must be entry 0.
func Begin(ev *event.Event) (*State, error) {
	if ev.Type != TypeGenesis {
		return nil, problem.New("trust.genesis-first", "predicateType", "entry 0 is %s, it must be %s", ev.Type, TypeGenesis)
	}
	s := &State{byKey: map[string]int{}, keys: map[string]*key.Public{}}
	if err := json.Unmarshal(ev.Data, &s.genesis, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	if err := s.begin(ev); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *State) begin(ev *event.Event) error {
	g := &s.genesis
	if err := s.checkLedger(ev); err != nil {
		return err
	}
	if err := checkOriginSubject(ev, g.Origin); err != nil {
		return err
	}
	node, err := s.newNode(g.Node, 0)
	if err != nil {
		return err
	}
	if err := s.setAdmins(g.Admins); err != nil {
		return err
	}
	signers, err := s.signers(ev, node)
	if err != nil {
		return err
	}
	if !signers[node.ID()] {
		return problem.New("trust.node-signature", "signatures", "genesis is not signed by the node's own key")
	}
	s.basis = ev.Envelope.PayloadSHA256()
	return nil
}

// signers verifies every signature of an action; each must be of an admin, or
// of the node where that may sign too, and a quorum of admins must be there.
func (s *State) signers(ev *event.Event, node *key.Public) (map[string]bool, error) {
	signers, admins := map[string]bool{}, 0
	for i, sig := range ev.Envelope.Signatures {
		isAdmin := s.admins[sig.KeyID] != ""
		if !isAdmin && (node == nil || node.ID() != sig.KeyID) {
			return nil, problem.New("trust.signer", fmt.Sprintf("signatures.%d.keyid", i), "key %.16s... does not count for %s: it is no admin's", sig.KeyID, ev.Type).With("keyid", sig.KeyID)
		}
		if err := ev.Envelope.VerifySignature(i, s.keys[sig.KeyID]); err != nil {
			return nil, err
		}
		if isAdmin {
			admins++
		}
		signers[sig.KeyID] = true
	}
	if admins < s.threshold {
		return nil, problem.New("trust.quorum", "signatures", "%d of the admins signed, %d are needed", admins, s.threshold)
	}
	return signers, nil
}

func (s *State) checkLedger(ev *event.Event) error {
	if ev.Ledger != s.genesis.Origin {
		return problem.New("event.ledger", "predicate.event.ledger", "the event is for ledger %q, this one is %q", ev.Ledger, s.genesis.Origin)
	}
	return nil
}

// checkOriginSubject: an event about the ledger itself, which has no artifact,
// has the origin as its only subject.
func checkOriginSubject(ev *event.Event, origin string) error {
	if len(ev.Subject) != 1 || ev.Subject[0] != event.OriginSubject(origin) {
		return problem.New("event.subject-origin", "subject", "an event of type %s without artifacts has the origin and its SHA-256 as its one subject", ev.Type)
	}
	return nil
}

// CheckSignature verifies who signed a collector's or the node's event: the
// event is for this ledger, has exactly one signature, by a key that was
// enrolled under its collector's name (or by the node's key, where the event is
// the node's own). It does not ask whether the key was allowed to: see
// Authorize. It is the expensive part, and may run beside the appender.
func (s *State) CheckSignature(ev *event.Event) error {
	if err := s.checkLedger(ev); err != nil {
		return err
	}
	if n := len(ev.Envelope.Signatures); n != 1 {
		return problem.New("event.signatures-one", "signatures", "the envelope has %d signatures, an event of type %s has exactly one", n, ev.Type)
	}
	if ev.Own() {
		if err := checkOriginSubject(ev, s.genesis.Origin); err != nil {
			return err
		}
		node, err := s.nodeSigner(ev)
		if err != nil {
			return err
		}
		return ev.Envelope.VerifySignature(0, node.public)
	}
	e, err := s.enrolment(ev)
	if err != nil {
		return err
	}
	return ev.Envelope.VerifySignature(0, e.Key)
}

// Signed tells whether an envelope has one signature, and that of a key that was
// enrolled under this name: all that is known of an event that cannot be read.
func (s *State) Signed(envelope *event.Envelope, name string) bool {
	if len(envelope.Signatures) != 1 {
		return false
	}
	i, ok := s.byKey[envelope.Signatures[0].KeyID]
	return ok && s.enrolments[i].Name == name && envelope.VerifySignature(0, s.enrolments[i].Key) == nil
}

// nodeSigner is the node's key, in force or former, that the event names.
func (s *State) nodeSigner(ev *event.Event) (nodeKey, error) {
	keyID := ev.Envelope.Signatures[0].KeyID
	for _, n := range s.nodes {
		if n.public.ID() == keyID {
			return n, nil
		}
	}
	return nodeKey{}, problem.New("authority.node-key", "signatures.0.keyid", "%s is signed by the node only, and key %.16s... is not the node's", ev.Type, keyID).With("keyid", keyID)
}

func (s *State) enrolment(ev *event.Event) (*Enrolment, error) {
	keyID := ev.Envelope.Signatures[0].KeyID
	i, ok := s.byKey[keyID]
	if !ok || s.enrolments[i].Name != ev.Collector {
		return nil, problem.New("authority.key", "signatures.0.keyid", "key %.16s... is not enrolled under the name %q", keyID, ev.Collector).With("keyid", keyID)
	}
	return &s.enrolments[i], nil
}

// Authorize tells whether the signer of ev, whose signature CheckSignature
// verified, may sign this type in an entry of time t.
func (s *State) Authorize(ev *event.Event, t time.Time) error {
	if ev.Own() {
		node, err := s.nodeSigner(ev)
		if err == nil && node.public != s.NodeKey() {
			return problem.New("authority.node-key-old", "signatures.0.keyid", "%s is signed by a key that the node had before the rotation in entry %d", ev.Type, s.nodes[len(s.nodes)-1].index)
		}
		return err
	}
	e, err := s.enrolment(ev)
	if err != nil {
		return err
	}
	if r := e.Revoked; r != nil {
		return problem.New("authority.revoked", "predicate.event.collector", "the key of %s was revoked in entry %d (%s)", e.Name, r.Index, r.Reason)
	}
	if t.Before(e.From) {
		return problem.New("authority.not-yet", "predicate.event.collector", "the key of %s is valid from %s, the entry's time is %s", e.Name, syntax.FormatMicros(e.From), syntax.FormatMicros(t))
	}
	if !e.Until.IsZero() && !t.Before(e.Until) {
		return problem.New("authority.expired", "predicate.event.collector", "the key of %s was valid until %s, the entry's time is %s", e.Name, syntax.FormatMicros(e.Until), syntax.FormatMicros(t))
	}
	for _, pattern := range e.Types {
		if syntax.MatchType(pattern, ev.Type) {
			return nil
		}
	}
	return problem.New("authority.type", "predicateType", "%s may not publish %s, only %v", e.Name, ev.Type, e.Types)
}

// Origin is the ledger's name.
func (s *State) Origin() string { return s.genesis.Origin }

// Genesis is what entry 0 says.
func (s *State) Genesis() Genesis { return s.genesis }

// NodeVKey is the verifier key of checkpoints of the given size: that of the
// last rotation whose index is below it.
func (s *State) NodeVKey(size uint64) string {
	for i := len(s.nodes) - 1; i > 0; i-- {
		if s.nodes[i].index < size {
			return s.nodes[i].vkey
		}
	}
	return s.nodes[0].vkey
}

// NodeKey is the node's key in force.
func (s *State) NodeKey() *key.Public { return s.nodes[len(s.nodes)-1].public }

// Admins are the admins in force.
func (s *State) Admins() Admins { return s.adminList }

// Basis is what the next action must name: the SHA-256 of the payload of the
// newest one.
func (s *State) Basis() [32]byte { return s.basis }

// Index is the entry of the newest action.
func (s *State) Index() uint64 { return s.index }

// Enrolments lists every key that was let in, in the order of the log.
func (s *State) Enrolments() []Enrolment { return append([]Enrolment(nil), s.enrolments...) }

// ByNKey finds the enrolment to which a NATS key belongs.
func (s *State) ByNKey(nkey string) (Enrolment, bool) {
	for i := len(s.enrolments) - 1; i >= 0; i-- {
		if e := s.enrolments[i]; e.Revoked == nil && e.NKey != "" && e.NKey == nkey {
			return e, true
		}
	}
	return Enrolment{}, false
}

// Names gives the name behind each key that the node has or had, and of the
// admins in force.
func (s *State) Names() map[string]string {
	names := map[string]string{}
	for _, n := range s.nodes {
		names[n.public.ID()] = nodeName
	}
	for id, name := range s.admins {
		names[id] = name
	}
	return names
}
