package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// Created is what a new ledger is known by.
type Created struct {
	Identity *checkpoint.Identity
	Admin    *sign.Key
}

// Create makes a new ledger in c.Dir: the node's key, the store, the genesis.
// The admin's key is read from adminKey, or made there; it never lies below
// the data directory, so that whoever gets the node does not get the admin.
func Create(c Config, origin, organisation, adminName, adminKey string) (*Created, error) {
	c = c.withDefaults()
	if err := syntax.Origin(origin); err != nil {
		return nil, err
	}
	if err := outside(c.Dir, adminKey); err != nil {
		return nil, err
	}
	s, err := store.Create(c.Dir, store.Options{Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	out, err := create(c, s, origin, organisation, adminName, adminKey)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, errors.Join(err, undo(c))
	}
	return out, nil
}

// undo removes what a creation that failed has made, so that the next one finds
// an empty folder again. Other things were not in it; an admin's key stays.
func undo(c Config) error {
	names, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if n.Name() != "lost+found" {
			errs = append(errs, os.RemoveAll(filepath.Join(c.Dir, n.Name())))
		}
	}
	return errors.Join(errs...)
}

func create(c Config, s *store.Store, origin, organisation, adminName, adminKey string) (*Created, error) {
	admin, err := c.Keys.Open(adminKey)
	if errors.Is(err, fs.ErrNotExist) {
		admin, err = sign.GenerateEd25519File(adminKey)
	}
	if err != nil {
		return nil, fmt.Errorf("the admin's key: %w", err)
	}
	node, err := sign.GenerateEd25519File(c.NodeKey)
	if err != nil {
		return nil, fmt.Errorf("the node's key: %w", err)
	}
	genesis := c.genesis(origin, organisation, node, trust.Admins{Threshold: 1, Keys: []trust.Admin{{Name: adminName, PublicKey: admin.Public().String()}}})
	envelope, err := ledger.Own(trust.TypeGenesis, origin, ledger.GenesisSummary(genesis), genesis, time.Now(), node, admin)
	if err != nil {
		return nil, err
	}
	id, err := begin(c, s, node, envelope)
	return &Created{Identity: id, Admin: admin}, err
}

func (c Config) genesis(origin, organisation string, node *sign.Key, admins trust.Admins) trust.Genesis {
	return trust.Genesis{
		Origin: origin, Organisation: organisation, Admins: admins, Predecessor: c.Predecessor,
		Node: trust.Node{VKey: checkpoint.VKey(origin, node.Public().Ed25519()), PublicKey: node.Public().String()},
	}
}

// begin writes the genesis into the new store, and the second place.
func begin(c Config, s *store.Store, node *sign.Key, envelope []byte) (*checkpoint.Identity, error) {
	second := c.second()
	if _, _, err := second.Read(); !errors.Is(err, store.ErrNotFound) {
		return nil, errors.Join(fmt.Errorf("%s is the second place of another ledger and is not overwritten: choose another folder with --second-place", second.Path()), err)
	}
	if err := second.Create(); err != nil {
		return nil, err
	}
	l, err := ledger.CreateFrom(ledger.Config{Store: s, Artifacts: store.NewArtifacts(nil, c.Dir), Second: second, Node: node, Clock: ledger.SystemClock()}, envelope)
	if err != nil {
		return nil, err
	}
	p := l.Prove()
	defer p.Close()
	return Identity(p.Snapshot())
}

// preparedKey is where the node's key lies between Prepare and CreateFrom.
func (c Config) preparedKey() string { return filepath.Clean(c.Dir) + ".node.key" }

// Prepare begins a ledger whose admins sign the genesis on machines of their
// own: it makes the node's key, beside the data directory, and the action file.
func Prepare(c Config, origin, organisation string, admins trust.Admins) (*action.File, error) {
	c = c.withDefaults()
	if err := syntax.Origin(origin); err != nil {
		return nil, err
	}
	node, err := sign.GenerateEd25519File(c.preparedKey())
	if err != nil {
		return nil, fmt.Errorf("the node's key: %w", err)
	}
	return action.Genesis(c.genesis(origin, organisation, node, admins), node, time.Now())
}

// CreateFrom makes the ledger that Prepare began, once the admins have signed.
// The prepared key goes when the ledger, which has it too, is complete.
func CreateFrom(c Config, f *action.File) (*checkpoint.Identity, error) {
	c = c.withDefaults()
	node, err := c.Keys.Node(c.preparedKey())
	if err != nil {
		return nil, fmt.Errorf("the node's key of `ledger init --admin`: %w", err)
	}
	if len(f.Actions) != 1 {
		return nil, errors.New("a genesis file holds exactly one action")
	}
	s, err := store.Create(c.Dir, store.Options{Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	var id *checkpoint.Identity
	if err = os.Link(c.preparedKey(), c.NodeKey); err == nil {
		id, err = begin(c, s, node, f.Envelopes()[0])
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, errors.Join(err, undo(c))
	}
	return id, os.Remove(c.preparedKey())
}

// outside refuses an admin key below the data directory.
func outside(dir, file string) error {
	if sign.IsKMS(file) {
		return nil
	}
	d, err := resolve(dir)
	if err != nil {
		return err
	}
	f, err := resolve(filepath.Dir(file))
	if err != nil {
		return err
	}
	if f == d || strings.HasPrefix(f, d+string(filepath.Separator)) {
		return fmt.Errorf("the admin's key %s would lie below the data directory %s: whoever gets hold of the node must not get the admin as well; choose another place with --admin-key", file, dir)
	}
	return nil
}

// resolve gives the absolute path without links, of which the end need not
// exist yet.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(abs) != abs {
		parent, err := resolve(filepath.Dir(abs))
		return filepath.Join(parent, filepath.Base(abs)), err
	}
	return real, err
}

// Identity is the line for verifiers, as entry 0 gives it, without a floor.
func Identity(s *store.Snapshot) (*checkpoint.Identity, error) {
	state, err := ledger.LoadTrust(s, nil)
	if err != nil {
		return nil, err
	}
	leaf, err := leafAt(s, 0)
	if err != nil {
		return nil, err
	}
	g := state.Genesis()
	return &checkpoint.Identity{Origin: g.Origin, VKey: g.Node.VKey, Genesis: leaf}, nil
}

// Floor is the newest signed checkpoint, its signature verified.
func Floor(s *store.Snapshot) (*checkpoint.Checkpoint, error) {
	state, err := ledger.LoadTrust(s, nil)
	if err != nil {
		return nil, err
	}
	_, _, noteBytes, err := s.LatestCheckpoint()
	if err != nil {
		return nil, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	signed, err := verify.Checkpoint(noteBytes, state)
	if err != nil {
		return nil, err
	}
	return &signed.Checkpoint, nil
}

// ReadPredecessor reads the last checkpoint of the ledger that a new one goes on
// from: a signed note, whose signature those who begin the new one answer for.
func ReadPredecessor(path string) (*trust.Predecessor, error) {
	note, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the predecessor's checkpoint: %w", err)
	}
	c, err := checkpoint.ParseUnverified(note)
	if err != nil {
		return nil, fmt.Errorf("%s is no signed checkpoint: %w", path, err)
	}
	return &trust.Predecessor{Origin: c.Origin, Size: c.Size, Root: c.Root.String()}, nil
}
