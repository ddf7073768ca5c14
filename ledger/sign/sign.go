// Package sign is the only one that holds private keys.
//
// A key is a file or, for admins and collectors, a URI of a key management
// system (KMS) that signs without giving the key away.
//
// # Key files
//
// One PEM block (RFC 7468) in its one canonical form, and nothing around it but
// white space: decoded and encoded again it is the same. Its label says what it is:
//
//	PRIVATE KEY                     PKCS#8 (RFC 5958), not encrypted
//	ENCRYPTED PRIVATE KEY           PKCS#8 under PBES2 (RFC 8018) with AES-256-CBC and a
//	                                key from scrypt (RFC 7914) or PBKDF2-HMAC-SHA256
//	ENCRYPTED SIGSTORE PRIVATE KEY  scrypt and NaCl's secretbox, in JSON: what cosign and
//	ENCRYPTED COSIGN PRIVATE KEY    sigstore write
//
// All are read, for Ed25519 and ECDSA P-256. We write the first two, which
// openssl reads, and sigstore/sigstore as well; cosign reads only the last two.
// What we encrypt has scrypt with N=2^14, r=8, p=5: as costly as OWASP asks for,
// and openssl's limit of 32 MiB leaves no larger N.
//
// Invariants, each with the test that holds it:
//
//   - A file that others can read is refused, and none is overwritten
//     (TestMode, TestNeverOverwritten).
//   - Every guess at a password costs tens of milliseconds: a file whose
//     derivation is cheaper than scrypt with N=2^14, r=8, p=1 or 200,000 rounds
//     of PBKDF2 is refused, and so is one that would take memory and time without
//     bound (TestWrongPassword, TestCostOfAGuess).
//   - A key of another kind, another curve, of small order or in a second
//     encoding is refused with the reason (TestRefusedKeys, TestKMSRefusedKeys).
//   - No bytes of a file end the process (FuzzLoad).
//
// # KMS
//
// SCHEME://KEY. hashivault:// and openbao:// are built in; VAULT_ADDR and
// VAULT_TOKEN, or BAO_ADDR and BAO_TOKEN, say where (package hashivault of
// sigstore/sigstore). Every other scheme is the program sigstore-kms-SCHEME on
// PATH (package cliplugin there), and runs only if the scheme is listed in
// Options.Plugins (TestPluginNotListed).
//
// What a KMS signs is verified before it leaves this package: a KMS that has
// switched to another version of its key is an error at once, instead of a
// submission that nobody accepts (TestPluginOtherKey).
//
// The node's key is a file, and Ed25519: it signs each batch's checkpoint, and
// signed notes know no other kind here (TestNodeKey).
package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"evidence-ledger/verify/key"
)

// Key is a private key, or what signs with one, and its checked public half.
type Key struct {
	public  *key.Public
	private ed25519.PrivateKey // nil for another kind, and for a KMS
	sign    func(message []byte) ([]byte, error)
}

// Public is the key's public half.
func (k *Key) Public() *key.Public { return k.public }

// Ed25519 returns the private key where it is Ed25519 and in our hands, else an
// error: signed notes (C2SP signed-note) know no other kind here.
func (k *Key) Ed25519() (ed25519.PrivateKey, error) {
	switch {
	case k.private != nil:
		return k.private, nil
	case k.public.Ed25519() != nil:
		return nil, fmt.Errorf("key %.16s... stays in its KMS; checkpoints are signed with a key from a file", k.public.ID())
	}
	return nil, fmt.Errorf("key %.16s... is not Ed25519; checkpoints are signed with Ed25519 only", k.public.ID())
}

// Sign signs the message: Ed25519 over the message itself, ECDSA over its
// SHA-256 in ASN.1.
func (k *Key) Sign(message []byte) ([]byte, error) { return k.sign(message) }

// New takes a private key that is in memory already.
func New(private crypto.Signer) (*Key, error) {
	public, err := key.FromCrypto(private.Public(), nil)
	if err != nil {
		return nil, err
	}
	k := &Key{public: public}
	if ed, ok := private.(ed25519.PrivateKey); ok {
		k.private = ed
	}
	k.sign = func(message []byte) ([]byte, error) {
		if public.Ed25519() != nil {
			return private.Sign(nil, message, crypto.Hash(0))
		}
		sum := sha256.Sum256(message)
		return private.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	return k, nil
}

// Options say how keys are opened. The zero value reads files that are not
// encrypted and the KMS that are built in.
type Options struct {
	// Password is asked for the password of an encrypted file, fresh for one
	// that is being made. PasswordFrom makes one. Nil: there is none.
	Password func(file string, fresh bool) ([]byte, error)
	// Plugins are the KMS schemes for which a program of others may be run.
	Plugins []string
}

// Open opens a key file or a KMS URI.
func (o Options) Open(name string) (*Key, error) {
	if IsKMS(name) {
		return o.openKMS(name)
	}
	return o.Load(name)
}

// Node opens the node's key: a file, and Ed25519.
func (o Options) Node(path string) (*Key, error) {
	if IsKMS(path) {
		return nil, fmt.Errorf("%s: the node's key cannot be in a KMS: it signs every batch; only keys of admins and collectors can", path)
	}
	k, err := o.Load(path)
	if err != nil {
		return nil, err
	}
	if _, err := k.Ed25519(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// IsKMS tells a KMS URI from a file name.
func IsKMS(name string) bool { return strings.Contains(name, "://") }

// The algorithms of keys that we make.
const (
	AlgorithmEd25519   = "ed25519"
	AlgorithmECDSAP256 = "ecdsa-p256"
)

// Generate makes a new key and writes it to path, which must not exist.
func (o Options) Generate(path, algorithm string, encrypt bool) (*Key, error) {
	if IsKMS(path) {
		return nil, fmt.Errorf("%s: a key in a KMS is made with the tools of the KMS", path)
	}
	private, err := generate(algorithm)
	if err != nil {
		return nil, err
	}
	k, err := New(private)
	if err != nil {
		return nil, err
	}
	if err := absent(path); err != nil { // before anyone is asked for a password
		return nil, err
	}
	var password []byte
	if encrypt {
		if password, err = o.password(path, true); err != nil {
			return nil, err
		}
	}
	secret, err := encode(private, password)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return k, WriteSecret(path, secret)
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case AlgorithmEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case AlgorithmECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return nil, fmt.Errorf("there is no algorithm %q: %s or %s", algorithm, AlgorithmEd25519, AlgorithmECDSAP256)
}

// GenerateEd25519File makes a new Ed25519 key that is not encrypted and writes
// it to path, which must not exist.
func GenerateEd25519File(path string) (*Key, error) {
	return Options{}.Generate(path, AlgorithmEd25519, false)
}

// Load reads a key file that is not encrypted.
func Load(path string) (*Key, error) { return Options{}.Load(path) }

var errNoPassword = errors.New("the key is encrypted: give the password with --password-file, or in the environment variable " + PasswordVariable)

func (o Options) password(file string, fresh bool) ([]byte, error) {
	if o.Password == nil {
		return nil, errNoPassword
	}
	password, err := o.Password(file, fresh)
	if err == nil && len(password) == 0 {
		err = errors.New("the password is empty")
	}
	return password, err
}
