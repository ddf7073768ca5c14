// Package sign is the only one that holds private keys.
//
// A key file is one PKCS#8 block in PEM (RFC 5958, RFC 7468), mode 0600; one
// that others can read is refused, and none is ever overwritten. Ed25519 and
// ECDSA P-256 keys are read; we make Ed25519.
package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"evidence-ledger/verify/key"
)

// Key is a private key together with its checked public half.
type Key struct {
	public *key.Public
	signer crypto.Signer
}

// Public is the key's public half.
func (k *Key) Public() *key.Public { return k.public }

// Ed25519 returns the private key where it is Ed25519, else an error: signed
// notes (C2SP signed-note) know no other kind here.
func (k *Key) Ed25519() (ed25519.PrivateKey, error) {
	if p, ok := k.signer.(ed25519.PrivateKey); ok {
		return p, nil
	}
	return nil, fmt.Errorf("key %.16s... is not Ed25519; checkpoints are signed with Ed25519 only", k.public.ID())
}

// Sign signs the message: Ed25519 over the message itself, ECDSA over its
// SHA-256 in ASN.1.
func (k *Key) Sign(message []byte) ([]byte, error) {
	if _, ok := k.signer.(ed25519.PrivateKey); ok {
		return k.signer.Sign(nil, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// New takes a private key that is in memory already.
func New(private crypto.Signer) (*Key, error) {
	public, err := key.FromCrypto(private.Public(), nil)
	if err != nil {
		return nil, err
	}
	return &Key{public: public, signer: private}, nil
}

// GenerateEd25519File makes a new Ed25519 key and writes it to path, which
// must not exist.
func GenerateEd25519File(path string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	return New(private)
}

// WriteSecret writes a new file with mode 0600, synced; it never overwrites.
func WriteSecret(path string, secret []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten: a key that is gone cannot be had again", path)
	}
	if err != nil {
		return fmt.Errorf("write a key file: %w", err)
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadSecret reads a file that only its owner can read.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read a key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run `chmod 600 %s` and consider the key known to them", path, mode, path)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a key file: %w", err)
	}
	return secret, nil
}

// Load reads a key file.
func Load(path string) (*Key, error) {
	secret, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(secret)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%s is not one PEM block PRIVATE KEY (PKCS#8)", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch private := parsed.(type) {
	case ed25519.PrivateKey:
		return New(private)
	case *ecdsa.PrivateKey:
		return New(private)
	default:
		return nil, fmt.Errorf("%s holds a %T; Ed25519 or ECDSA P-256 is needed", path, parsed)
	}
}
