package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/trust"
)

// The node's next key lies beside its key until the rotation to it is
// committed; then it takes its place. A crash between both is finished by the
// next start (TestRotation).
func (c Config) nextKey() string {
	return filepath.Join(filepath.Dir(c.NodeKey), "node-next.key")
}

// PrepareKey makes the node's next key, or loads the one that is prepared.
func PrepareKey(c Config) (*sign.Key, error) {
	c = c.withDefaults()
	k, err := c.Keys.Node(c.nextKey())
	if errors.Is(err, fs.ErrNotExist) {
		k, err = c.makeNext()
	}
	if err != nil {
		return nil, fmt.Errorf("the node's next key: %w", err)
	}
	return k, nil
}

// makeNext makes the next key, encrypted if the node's key is, and with the same
// password: the running node knows no other.
func (c Config) makeNext() (*sign.Key, error) {
	encrypted, err := sign.Encrypted(c.NodeKey)
	if err != nil {
		return nil, err
	}
	if encrypted {
		if _, err := c.Keys.Node(c.NodeKey); err != nil {
			return nil, fmt.Errorf("the node's key, which has the password of the next: %w", err)
		}
	}
	return c.Keys.Generate(c.nextKey(), sign.AlgorithmEd25519, encrypted)
}

// Rotation is the action that rotates the node's key to next.
func Rotation(s *trust.State, next *sign.Key) (*trust.Rotated, error) {
	proof, err := next.Sign(trust.PossessionMessage(s.Origin(), "node", next.Public().ID()))
	return &trust.Rotated{
		Basis:      action.Basis(s),
		Node:       trust.Node{VKey: checkpoint.VKey(s.Origin(), next.Public().Ed25519()), PublicKey: next.Public().String()},
		Possession: base64.StdEncoding.EncodeToString(proof),
	}, err
}

// rotated puts the next key into the place of the node's key, synced.
func (c Config) rotated() error {
	if err := os.Rename(c.nextKey(), c.NodeKey); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(c.NodeKey))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
