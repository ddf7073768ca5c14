package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/youmark/pkcs8"
)

// The labels of PEM blocks.
const (
	plainLabel    = "PRIVATE KEY"
	pbes2Label    = "ENCRYPTED PRIVATE KEY"
	sigstoreLabel = "ENCRYPTED SIGSTORE PRIVATE KEY"
	cosignLabel   = "ENCRYPTED COSIGN PRIVATE KEY"
)

// maxSecret is far more than any key file needs.
const maxSecret = 64 << 10

// Load reads a key file.
func (o Options) Load(path string) (*Key, error) {
	secret, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	private, err := o.decode(path, secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, err := New(private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Encrypted tells whether a key file needs a password.
func Encrypted(path string) (bool, error) {
	secret, err := ReadSecret(path)
	if err != nil {
		return false, err
	}
	block, err := onePEM(secret)
	return err == nil && block.Type != plainLabel, err
}

// onePEM takes the one block of a file, which must be in its canonical form.
func onePEM(secret []byte) (*pem.Block, error) {
	secret = bytes.TrimSpace(secret)
	block, rest := pem.Decode(secret)
	switch {
	case block == nil || len(rest) != 0:
		return nil, errors.New("this is not one PEM block with a private key (PKCS#8)")
	case len(block.Headers) != 0:
		return nil, errors.New("the PEM block has headers, as the old encryption of openssl writes them, which anyone can guess at: convert it with `openssl pkcs8 -topk8 -scrypt`")
	case !bytes.Equal(secret, bytes.TrimSpace(pem.EncodeToMemory(block))):
		return nil, errors.New("the PEM block is not in its canonical form: lines of 64 characters, nothing before, between and behind")
	}
	switch block.Type {
	case plainLabel, pbes2Label, sigstoreLabel, cosignLabel:
		return block, nil
	case "RSA PRIVATE KEY":
		return nil, errors.New("this is an RSA key; Ed25519 or ECDSA P-256 is needed")
	case "EC PRIVATE KEY":
		return nil, errors.New("this is a key in SEC 1; convert it to PKCS#8 with `openssl pkcs8 -topk8`")
	}
	return nil, fmt.Errorf("the PEM block is a %.40q, not a private key (PKCS#8)", block.Type)
}

func (o Options) decode(path string, secret []byte) (crypto.Signer, error) {
	block, err := onePEM(secret)
	if err != nil {
		return nil, err
	}
	var passFunc cryptoutils.PassFunc
	if block.Type != plainLabel {
		if block.Type == pbes2Label {
			if err := checkPBES2(block.Bytes); err != nil {
				return nil, err
			}
		}
		password, err := o.password(path, false)
		if err != nil {
			return nil, err
		}
		passFunc = cryptoutils.StaticPasswordFunc(password)
	}
	parsed, err := cryptoutils.UnmarshalPEMToPrivateKey(secret, passFunc)
	switch {
	case err != nil && passFunc != nil:
		return nil, fmt.Errorf("cannot be decrypted: the password is wrong, or the file was changed (%w)", err)
	case err != nil:
		return nil, err
	}
	switch private := parsed.(type) {
	case ed25519.PrivateKey:
		return private, nil
	case *ecdsa.PrivateKey:
		return private, nil
	case *rsa.PrivateKey:
		return nil, errors.New("this is an RSA key; Ed25519 or ECDSA P-256 is needed")
	}
	return nil, fmt.Errorf("this is a %T; Ed25519 or ECDSA P-256 is needed", parsed)
}

// encode makes a key file, encrypted if there is a password.
func encode(private crypto.Signer, password []byte) ([]byte, error) {
	if password == nil {
		return cryptoutils.MarshalPrivateKeyToPEM(private)
	}
	der, err := pkcs8.MarshalPrivateKey(private, password, &pkcs8.Opts{
		Cipher:  pkcs8.AES256CBC,
		KDFOpts: pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 1 << 14, BlockSize: 8, ParallelizationParameter: 5},
	})
	if err != nil {
		return nil, err
	}
	return cryptoutils.PEMEncode(pbes2Label, der), nil
}

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidScrypt     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// pbes2 is an EncryptedPrivateKeyInfo (RFC 5958) under PBES2 (RFC 8018).
type pbes2 struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				ID     asn1.ObjectIdentifier
				Params asn1.RawValue
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Encrypted []byte
}

// checkPBES2 refuses what the decryption must not get to see: parameters that
// make it panic, take memory or time without bound, or make guesses cheap.
func checkPBES2(der []byte) error {
	// The outermost algorithm first: in an older scheme all else is different.
	var outer struct {
		Algorithm struct {
			ID     asn1.ObjectIdentifier
			Params asn1.RawValue
		}
		Encrypted []byte
	}
	if err := unmarshal(der, &outer); err != nil {
		return err
	}
	if !outer.Algorithm.ID.Equal(oidPBES2) {
		return fmt.Errorf("the encryption is %v, not PBES2: convert it with `openssl pkcs8 -topk8 -scrypt`", outer.Algorithm.ID)
	}
	var p pbes2
	if err := unmarshal(der, &p); err != nil {
		return err
	}
	cipher, kdf := p.Algorithm.Params.Cipher, p.Algorithm.Params.KDF
	if !cipher.ID.Equal(oidAES256CBC) || len(cipher.IV) != 16 || len(p.Encrypted) == 0 || len(p.Encrypted)%16 != 0 {
		return fmt.Errorf("the cipher is %v, not AES-256-CBC with 16 bytes of IV and whole blocks", cipher.ID)
	}
	switch {
	case kdf.ID.Equal(oidScrypt):
		return checkScrypt(kdf.Params.FullBytes)
	case kdf.ID.Equal(oidPBKDF2):
		return checkPBKDF2(kdf.Params.FullBytes)
	}
	return fmt.Errorf("the password derivation is %v, neither scrypt nor PBKDF2", kdf.ID)
}

// Limits of what a guess at a password costs: N*r*p for scrypt, which then takes
// at most 256 MiB, and the rounds of PBKDF2.
const (
	minScrypt, maxScrypt = 1 << 17, 1 << 21
	minPBKDF2, maxPBKDF2 = 200_000, 5_000_000
)

const cheap = "a guess at the password would cost too little: encrypt it anew with `openssl pkcs8 -topk8 -scrypt`"

func checkScrypt(der []byte) error {
	var p struct {
		Salt    []byte
		N, R, P int64
	}
	if err := unmarshal(der, &p); err != nil {
		return err
	}
	switch {
	case p.N < 2 || p.R < 1 || p.P < 1 || p.N&(p.N-1) != 0,
		p.N > maxScrypt || p.R > maxScrypt/p.N || p.P > maxScrypt/(p.N*p.R):
		return fmt.Errorf("scrypt with N=%d, r=%d, p=%d is refused: it would take too much, or has no meaning", p.N, p.R, p.P)
	case p.N*p.R*p.P < minScrypt || len(p.Salt) < 8:
		return fmt.Errorf("scrypt with N=%d, r=%d, p=%d and %d bytes of salt: %s", p.N, p.R, p.P, len(p.Salt), cheap)
	}
	return nil
}

func checkPBKDF2(der []byte) error {
	var p struct {
		Salt   []byte
		Rounds int64
		PRF    struct {
			ID   asn1.ObjectIdentifier
			Null asn1.RawValue
		}
	}
	if err := unmarshal(der, &p); err != nil {
		return err
	}
	switch {
	case !p.PRF.ID.Equal(oidHMACSHA256):
		return fmt.Errorf("PBKDF2 with the function %v, not HMAC-SHA256", p.PRF.ID)
	case p.Rounds > maxPBKDF2:
		return fmt.Errorf("PBKDF2 with %d rounds is refused: it would take too long", p.Rounds)
	case p.Rounds < minPBKDF2 || len(p.Salt) < 8:
		return fmt.Errorf("PBKDF2 with %d rounds and %d bytes of salt: %s", p.Rounds, len(p.Salt), cheap)
	}
	return nil
}

// unmarshal reads DER that is in its one canonical form.
func unmarshal[T any](der []byte, out *T) error {
	rest, err := asn1.Unmarshal(der, out)
	if err == nil && len(rest) == 0 {
		var again []byte
		if again, err = asn1.Marshal(*out); err == nil && bytes.Equal(again, der) {
			return nil
		}
	}
	return errors.Join(errors.New("the encryption's parameters are not in the one form of RFC 8018 and RFC 7914 that is read here"), err)
}

// WriteSecret writes a new file with mode 0600, synced; it never overwrites.
func WriteSecret(path string, secret []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return absent(path)
	}
	if err != nil {
		return fmt.Errorf("write a key file: %w", err)
	}
	_, err = f.Write(secret)
	return errors.Join(err, f.Sync(), f.Close())
}

// absent refuses a path where something lies.
func absent(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already and is not overwritten: a key that is gone cannot be had again", path)
	}
	return nil
}

// ReadSecret reads a file that only its owner can read.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run `chmod 600 %s` and consider the key known to them", path, mode, path)
	}
	secret, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read a key file: %w", err)
	}
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes: this is no key file", path, maxSecret)
	}
	return secret, nil
}
