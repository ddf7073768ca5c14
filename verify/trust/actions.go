package trust

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"time"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Revoked is the `data` of trust.collector-revoked. DoubtedSince is there
// exactly where the reason is compromised.
type Revoked struct {
	Basis        string `json:"basis"`
	Name         string `json:"name"`
	KeyID        string `json:"keyid"`
	Reason       string `json:"reason"`
	DoubtedSince string `json:"doubtedSince,omitzero"`
}

// Rotated is the `data` of trust.node-key-rotated.
type Rotated struct {
	Basis      string `json:"basis"`
	Node       Node   `json:"node"`
	Possession string `json:"possession"`
}

// AdminsChanged is the `data` of trust.admins-changed: all admins from then on,
// those whose key is new with its possession.
type AdminsChanged struct {
	Basis  string `json:"basis"`
	Admins Admins `json:"admins"`
}

// action is the data of one kind of action, with what it does to the state.
type action interface {
	basis() string
	apply(s *State, index uint64) error
}

func (d *Enrolled) basis() string      { return d.Basis }
func (d *Revoked) basis() string       { return d.Basis }
func (d *Rotated) basis() string       { return d.Basis }
func (d *AdminsChanged) basis() string { return d.Basis }

// readAction reads the data of an action, whose form its schema has checked.
func readAction(index uint64, ev *event.Event) (action, error) {
	actions := map[string]action{
		TypeEnrolled: &Enrolled{}, TypeRevoked: &Revoked{}, TypeRotated: &Rotated{}, TypeAdmins: &AdminsChanged{},
	}
	a := actions[ev.Type]
	if a == nil {
		return nil, problem.New("trust.action", "predicateType", "%s is no action that may stand at index %d of a log", ev.Type, index)
	}
	if err := json.Unmarshal(ev.Data, a, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read %s: %w", ev.Type, err)
	}
	return a, nil
}

// Next returns the state after the action ev at the given index, at which the
// node appended it. It checks everything: form, basis, quorum, possession.
func (s *State) Next(index uint64, ev *event.Event) (*State, error) {
	a, err := readAction(index, ev)
	if err != nil {
		return nil, err
	}
	if err := s.checkLedger(ev); err != nil {
		return nil, err
	}
	if err := checkOriginSubject(ev, s.genesis.Origin); err != nil {
		return nil, err
	}
	// The node's old key may sign its own replacement, where it is not lost.
	var node *key.Public
	if ev.Type == TypeRotated {
		node = s.NodeKey()
	}
	if _, err := s.signers(ev, node); err != nil {
		return nil, err
	}
	if want := fmt.Sprintf("%x", s.basis); a.basis() != want {
		return nil, problem.New("trust.basis", "predicate.data.basis", "the action was signed on another state of stream trust: sign it again on top of the newest action").
			With("is", a.basis()).With("expected", want)
	}
	next := s.clone()
	if err := a.apply(next, index); err != nil {
		return nil, err
	}
	next.basis, next.index = ev.Envelope.PayloadSHA256(), index
	return next, nil
}

func (d *Enrolled) apply(s *State, index uint64) error {
	if d.Name == nodeName {
		return problem.New("trust.name-reserved", "predicate.data.name", "the name node is the ledger node's own")
	}
	k, err := s.newKey(d.PublicKey, "predicate.data.publicKey")
	if err != nil {
		return err
	}
	if err := s.possession(k, d.Name, d.Possession, "predicate.data.possession"); err != nil {
		return err
	}
	e := Enrolment{Name: d.Name, Key: k, Types: d.Types, NKey: d.NKey, Index: index}
	if e.From, e.Until, err = validity(d); err != nil {
		return err
	}
	for i, pattern := range d.Types {
		// "ledger.*" begins like any type below it, so it is reserved as they are.
		if pattern != "ledger.verified" && syntax.Reserved(pattern) {
			return problem.New("trust.types-reserved", fmt.Sprintf("predicate.data.types.%d", i), "%s is reserved for the ledger itself", pattern)
		}
	}
	s.byKey[k.ID()] = len(s.enrolments)
	s.enrolments = append(s.enrolments, e)
	return nil
}

// validity reads the two ends, the zero time where one is absent. (The
// schema lets a leap second pass, which is no time here.)
func validity(data *Enrolled) (from, until time.Time, err error) {
	if from, err = validEnd("validFrom", data.ValidFrom); err != nil {
		return from, until, err
	}
	if until, err = validEnd("validUntil", data.ValidUntil); err != nil {
		return from, until, err
	}
	if data.ValidUntil != "" && !from.Before(until) {
		return from, until, problem.New("trust.validity", "predicate.data.validUntil", "the key would never be valid: from %q until %q", data.ValidFrom, data.ValidUntil)
	}
	return from, until, nil
}

func validEnd(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := syntax.Micros(s)
	if err != nil {
		return t, problem.New("trust.time", "predicate.data."+name, "%v", err)
	}
	return t, nil
}

func (d *Revoked) apply(s *State, index uint64) error {
	i, ok := s.byKey[d.KeyID]
	if !ok || s.enrolments[i].Name != d.Name {
		return problem.New("trust.revoke-unknown", "predicate.data.keyid", "key %.16s... was never enrolled under the name %q", d.KeyID, d.Name).With("keyid", d.KeyID)
	}
	e := &s.enrolments[i]
	if e.Revoked != nil {
		return problem.New("trust.revoke-again", "predicate.data.keyid", "key %.16s... was revoked already, in entry %d", d.KeyID, e.Revoked.Index).With("keyid", d.KeyID)
	}
	since, err := validEnd("doubtedSince", d.DoubtedSince)
	if err != nil {
		return err
	}
	e.Revoked = &Revocation{Index: index, Reason: d.Reason, DoubtedSince: since}
	return nil
}

func (d *Rotated) apply(s *State, index uint64) error {
	k, err := s.newNode(d.Node, index)
	if err != nil {
		return err
	}
	return s.possession(k, nodeName, d.Possession, "predicate.data.possession")
}

func (d *AdminsChanged) apply(s *State, _ uint64) error {
	return s.setAdmins(d.Admins)
}

// newNode takes in the node's next key, as genesis or a rotation names it.
func (s *State) newNode(n Node, index uint64) (*key.Public, error) {
	k, err := s.newKey(n.PublicKey, "predicate.data.node.publicKey")
	if err != nil {
		return nil, err
	}
	if k.Ed25519() == nil {
		return nil, problem.New("trust.vkey", "predicate.data.node.publicKey", "the node's key is not Ed25519, which signs notes")
	}
	if want := checkpoint.VKey(s.genesis.Origin, k.Ed25519()); n.VKey != want {
		return nil, problem.New("trust.vkey", "predicate.data.node.vkey", "the verifier key is not that of node.publicKey under the origin").
			With("is", n.VKey).With("expected", want)
	}
	s.nodes = append(slices.Clip(s.nodes), nodeKey{index, n.VKey, k})
	return k, nil
}

// setAdmins replaces the admins. For those of the genesis its signers vouch; a
// key that comes in later shows its possession.
func (s *State) setAdmins(a Admins) error {
	names, before, now := map[string]bool{}, s.admins, map[string]string{}
	for i, admin := range a.Keys {
		where := fmt.Sprintf("predicate.data.admins.keys.%d", i)
		if names[admin.Name] {
			return problem.New("trust.names-distinct", where+".name", "the admin name %q occurs twice", admin.Name)
		}
		names[admin.Name] = true
		if admin.Name == nodeName {
			return problem.New("trust.name-reserved", where+".name", "the name node is the ledger node's own")
		}
		k, err := s.adminKey(admin, before, now, where)
		if err != nil {
			return err
		}
		now[k.ID()] = admin.Name
	}
	if a.Threshold < 1 || a.Threshold > len(a.Keys) {
		return problem.New("trust.threshold", "predicate.data.admins.threshold", "the threshold is %d, it must be 1 to %d, the number of admin keys", a.Threshold, len(a.Keys))
	}
	s.admins, s.threshold = now, a.Threshold
	s.adminList = a
	return nil
}

// adminKey is one that stays an admin's, or a new one with its possession. Where
// one that stays shows its possession too, that holds as well.
func (s *State) adminKey(admin Admin, before, now map[string]string, where string) (*key.Public, error) {
	k, err := key.Parse(admin.PublicKey)
	stays := err == nil && before[k.ID()] != "" && now[k.ID()] == ""
	if !stays {
		if k, err = s.newKey(admin.PublicKey, where+".publicKey"); err != nil {
			return nil, err
		}
	}
	if before == nil || stays && admin.Possession == "" {
		return k, nil // of genesis, or shown before
	}
	return k, s.possession(k, admin.Name, admin.Possession, where+".possession")
}

// newKey reads a key that comes into the state and remembers it for ever.
func (s *State) newKey(encoded, where string) (*key.Public, error) {
	k, err := key.Parse(encoded)
	if err != nil {
		p := *problem.Of(err)
		p.Where = where
		return nil, &p
	}
	if s.keys[k.ID()] != nil {
		return nil, problem.New("trust.keys-distinct", where, "this key is or was in the ledger already; a new one is needed").With("keyid", k.ID())
	}
	s.keys[k.ID()] = k
	return k, nil
}

// possession: somebody has shown to hold the key, under this name, here.
func (s *State) possession(k *key.Public, name, proof, where string) error {
	sig, err := syntax.Base64(proof)
	if err == nil {
		err = k.Verify(PossessionMessage(s.genesis.Origin, name, k.ID()), sig)
	}
	if err != nil {
		return problem.New("trust.possession", where, "nobody has shown to hold the key for this name in this ledger: %v", err)
	}
	return nil
}

func (s *State) clone() *State {
	c := *s
	c.enrolments = slices.Clone(s.enrolments)
	c.byKey, c.keys = maps.Clone(s.byKey), maps.Clone(s.keys)
	return &c // admins and nodes are replaced, never changed
}
