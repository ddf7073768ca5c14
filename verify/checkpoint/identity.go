package checkpoint

import (
	"fmt"
	"strings"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const identityMagic = "evidence-ledger-identity@v1"

// Identity is the one line that a verifier must know beforehand, from somebody
// it trusts and not from what it is about to verify. Single spaces separate the
// fields:
//
//	evidence-ledger-identity@v1 <origin> <vkey> <genesis leaf hash, hex>[ <size> <base64 root>]
//
// The vkey is the node's key as the genesis entry names it; it stays the same
// when the node's key is rotated later. Size and root are a floor: a log that is
// not consistent with them is another one.
type Identity struct {
	Origin  string
	VKey    string
	Genesis [32]byte
	Floor   *Checkpoint // nil where the line has none
}

// String returns the line, without LF.
func (id *Identity) String() string {
	s := fmt.Sprintf("%s %s %s %x", identityMagic, id.Origin, id.VKey, id.Genesis)
	if id.Floor != nil {
		s += fmt.Sprintf(" %d %s", id.Floor.Size, id.Floor.Root)
	}
	return s
}

// ParseIdentity reads the line, with or without its LF.
func ParseIdentity(line string) (*Identity, error) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if f[0] != identityMagic {
		return nil, problem.New("identity.format", "", "the line begins with %.60q, expected %s", f[0], identityMagic)
	}
	if len(f) != 4 && len(f) != 6 {
		return nil, problem.New("identity.format", "", "the line has %d fields, expected 4, or 6 with a size and a root", len(f))
	}
	v, _, err := NewVerifier(f[2])
	if err != nil {
		return nil, err
	}
	if v.Name() != f[1] {
		return nil, problem.New("identity.key-name", "origin", "the origin is %.200q, the key is named %q", f[1], v.Name())
	}
	id := &Identity{Origin: f[1], VKey: f[2]}
	id.Genesis, err = syntax.Digest(f[3])
	if err != nil {
		return nil, problem.New("identity.genesis", "genesis", "%v", err)
	}
	if len(f) == 6 {
		size, root, err := parseHead(f[4], f[5])
		if err != nil {
			return nil, err
		}
		id.Floor = &Checkpoint{Origin: id.Origin, Size: size, Root: root}
	}
	return id, nil
}

// NodeVKey is the verifier key of a checkpoint of any size, for who knows of no
// rotation of the node's key.
func (id *Identity) NodeVKey(uint64) string { return id.VKey }
