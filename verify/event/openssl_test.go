package event_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
)

// write puts the parts of an envelope where the openssl program finds them.
func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func openssl(dir string, args ...string) error {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	return cmd.Run()
}

// verifiers are the commands by which a person checks "sig" over "pae".
var verifiers = map[string][]string{
	"Ed25519": {"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "pae", "-sigfile", "sig"},
	"ECDSA":   {"dgst", "-sha256", "-keyform", "DER", "-verify", "key", "-signature", "sig", "pae"},
}

func sign(t *testing.T, signer crypto.Signer, payload []byte) (*event.Envelope, *key.Public) {
	t.Helper()
	public, err := key.FromCrypto(signer.Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	message, hash := event.PAE(payload), crypto.Hash(0)
	if _, ok := signer.(*ecdsa.PrivateKey); ok {
		sum := sha256.Sum256(message)
		message, hash = sum[:], crypto.SHA256
	}
	sig, err := signer.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	env, err := event.ParseEnvelope(event.Wrap(payload, []event.Signature{{KeyID: public.ID(), Sig: sig}}))
	if err != nil {
		t.Fatal(err)
	}
	return env, public
}

// TestOpenSSL: the openssl program alone and we say the same about an
// envelope, and about one whose payload was changed.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weierstrass, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"Ed25519": edwards, "ECDSA": weierstrass} {
		env, public := sign(t, signer, []byte(good))
		for _, changed := range []bool{false, true} {
			if changed {
				env.Payload[100] ^= 1
			}
			ours := env.VerifySignature(0, public)
			dir := t.TempDir()
			write(t, dir, map[string][]byte{"key": public.DER(), "pae": event.PAE(env.Payload), "sig": env.Signatures[0].Sig})
			theirs := openssl(dir, verifiers[name]...)
			if (ours != nil) != changed || (theirs != nil) != changed {
				t.Errorf("%s, changed %t: we say %v, openssl says %v", name, changed, ours, theirs)
			}
		}
	}
}

// TestOpenSSLExample: the worked example's envelope, by the openssl program.
func TestOpenSSLExample(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	env, err := event.ParseEnvelope(readExample(t, "3"))
	if err != nil {
		t.Fatal(err)
	}
	public := exampleKeys(t)[env.Signatures[0].KeyID]
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"key": public.DER(), "pae": event.PAE(env.Payload), "sig": env.Signatures[0].Sig})
	if err := openssl(dir, verifiers["Ed25519"]...); err != nil {
		t.Error(err)
	}
}

// TestVerifySignature: a key verifies only what names it.
func TestVerifySignature(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	env, public := sign(t, private, []byte(good))
	if err := env.VerifySignature(0, public); err != nil {
		t.Error(err)
	}
	env.Signatures[0].Sig[0] ^= 1
	wantProblem(t, env.VerifySignature(0, public), "event.signature", "signatures.0")
	env.Signatures[0].Sig[0] ^= 1
	env.Signatures[0].KeyID = keyA
	wantProblem(t, env.VerifySignature(0, public), "event.signature", "signatures.0")
}

func TestPAE(t *testing.T) {
	if got, want := string(event.PAE([]byte("{}"))), "DSSEv1 28 application/vnd.in-toto+json 2 {}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
