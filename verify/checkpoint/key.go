package checkpoint

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// algEd25519 is the type byte of a key that signs notes. Other types, as 0x04
// of witnesses, are no keys of a node.
const algEd25519 = 0x01

// NewVerifier reads a verifier key. The key's name is an origin, its type is
// Ed25519, and weak keys are refused as everywhere (see package key).
func NewVerifier(vkey string) (note.Verifier, ed25519.PublicKey, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, encoded, _ := strings.Cut(rest, "+")
	if err := syntax.Origin(name); err != nil {
		return nil, nil, problem.New("vkey.name", "vkey", "%v", err)
	}
	data, err := syntax.Base64(encoded)
	if err != nil {
		return nil, nil, problem.New("vkey.encoding", "vkey", "%v", err)
	}
	if len(data) != 1+ed25519.PublicKeySize || data[0] != algEd25519 {
		return nil, nil, problem.New("vkey.type", "vkey", "the key is not type 0x01 (Ed25519) with 32 bytes")
	}
	pub := ed25519.PublicKey(data[1:])
	if _, err := key.FromCrypto(pub, nil); err != nil {
		return nil, nil, err
	}
	if again := VKey(name, pub); again != vkey {
		return nil, nil, problem.New("vkey.encoding", "vkey", "the key ID is not that of the key, or not in lower case hex: expected %s", again)
	}
	v, err := note.NewVerifier(vkey)
	return v, pub, err
}

// VKey returns the verifier key of an Ed25519 public key, which has 32 bytes,
// under the name origin.
func VKey(origin string, pub ed25519.PublicKey) string {
	s, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		panic("checkpoint: " + err.Error()) // a key of another length is no key
	}
	return s
}

// NewSigner returns a signer of notes under the name origin. The key may be an
// ed25519.PrivateKey, or stand for one that lies elsewhere.
func NewSigner(origin string, private crypto.Signer) (note.Signer, error) {
	pub, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("checkpoint: a %T does not sign notes, only Ed25519 does", private.Public())
	}
	v, _, err := NewVerifier(VKey(origin, pub))
	if err != nil {
		return nil, err
	}
	return &signer{v, private}, nil
}

type signer struct {
	v       note.Verifier
	private crypto.Signer
}

func (s *signer) Name() string    { return s.v.Name() }
func (s *signer) KeyHash() uint32 { return s.v.KeyHash() }

func (s *signer) Sign(msg []byte) ([]byte, error) {
	// Ed25519 takes the message itself (no hash) and no randomness.
	return s.private.Sign(nil, msg, crypto.Hash(0))
}
