// Package key holds public keys and the one rule by which their signatures
// are judged: the Go standard library's.
//
// A key is Ed25519 (RFC 8032) or ECDSA P-256 with SHA-256 and an ASN.1
// signature, and travels as base64 of its DER SubjectPublicKeyInfo (RFC 5280).
// Its key ID is the lower case hex SHA-256 of that DER.
//
// Small-order and non-canonical Ed25519 keys are refused: with one of them a
// signature verifies under messages that nobody signed. There is no batch
// verification: it accepts signatures that openssl refuses, and then a
// collector could deny its evidence. TestWeakKeysAreRefused holds this.
package key

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"filippo.io/edwards25519"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Public is a key that passed all checks. The zero value verifies nothing.
type Public struct {
	id  string
	der []byte
	ed  ed25519.PublicKey
	ec  *ecdsa.PublicKey
}

// Parse reads base64 of a DER SubjectPublicKeyInfo.
func Parse(s string) (*Public, error) {
	der, err := syntax.Base64(s)
	if err != nil {
		return nil, problem.New("key.encoding", "publicKey", "%v", err)
	}
	return ParseDER(der)
}

// ParseDER reads a DER SubjectPublicKeyInfo.
func ParseDER(der []byte) (*Public, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, problem.New("key.encoding", "publicKey", "not a DER SubjectPublicKeyInfo: %v", err)
	}
	return FromCrypto(parsed, der)
}

// FromCrypto takes a parsed key; der may be nil, else it must be canonical.
func FromCrypto(parsed any, der []byte) (*Public, error) {
	again, err := x509.MarshalPKIXPublicKey(parsed)
	if err != nil || der != nil && !bytes.Equal(again, der) {
		return nil, problem.New("key.encoding", "publicKey", "the DER is not in its one canonical form")
	}
	sum := sha256.Sum256(again)
	k := &Public{id: hex.EncodeToString(sum[:]), der: again}
	switch p := parsed.(type) {
	case ed25519.PublicKey:
		k.ed = p
		if err := checkEd25519(p); err != nil {
			return nil, err
		}
		return k, nil
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, problem.New("key.algorithm", "publicKey", "the curve is %s, only P-256 is allowed", p.Curve.Params().Name)
		}
		k.ec = p
		return k, nil
	default:
		return nil, problem.New("key.algorithm", "publicKey", "%T is neither Ed25519 nor ECDSA P-256", parsed)
	}
}

func checkEd25519(p ed25519.PublicKey) error {
	point, err := new(edwards25519.Point).SetBytes(p)
	if err != nil {
		return problem.New("key.weak", "publicKey", "the 32 bytes are no point of the curve")
	}
	if !bytes.Equal(point.Bytes(), p) {
		return problem.New("key.weak", "publicKey", "the point is not in its canonical encoding")
	}
	if new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return problem.New("key.weak", "publicKey", "the point has small order: anyone can sign for it")
	}
	return nil
}

// ID is the lower case hex SHA-256 of the DER SubjectPublicKeyInfo.
func (k *Public) ID() string { return k.id }

// DER is the canonical SubjectPublicKeyInfo.
func (k *Public) DER() []byte { return bytes.Clone(k.der) }

// String is base64 of the DER, as Parse reads it.
func (k *Public) String() string { return base64.StdEncoding.EncodeToString(k.der) }

// Ed25519 returns the 32 bytes of an Ed25519 key, or nil for another kind.
func (k *Public) Ed25519() ed25519.PublicKey { return k.ed }

// Verify returns nil when sig is a signature of message by k, else an error
// that names the key; the caller says which rule that breaks.
func (k *Public) Verify(message, sig []byte) error {
	ok := false
	switch {
	case k.ed != nil:
		ok = ed25519.Verify(k.ed, message, sig)
	case k.ec != nil:
		sum := sha256.Sum256(message)
		ok = ecdsa.VerifyASN1(k.ec, sum[:], sig)
	}
	if !ok {
		return fmt.Errorf("the signature does not verify under key %.16s...", k.id)
	}
	return nil
}
