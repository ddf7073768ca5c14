package key_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"testing"

	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
)

// edwardsPrefix is the DER of an Ed25519 SubjectPublicKeyInfo before its 32
// bytes.
const edwardsPrefix = "302a300506032b6570032100"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if p := problem.Of(err); p == nil || p.Code != code {
		t.Errorf("%s: got %v, want %s", what, err, code)
	}
}

// smallOrder are the eight points of small order (order 1, 2, 4, 4 and four of
// 8), and then every non-canonical encoding of a point of small order: y
// written as y+p, and x = 0 with the sign bit set.
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000", // the identity
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",

	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

// TestWeakKeysAreRefused: keys for which anybody can sign, keys that have a
// second spelling, and kinds that we do not take.
func TestWeakKeysAreRefused(t *testing.T) {
	for _, s := range smallOrder {
		_, err := key.ParseDER(unhex(t, edwardsPrefix+s))
		wantCode(t, "small order "+s, err, "key.weak")
	}
	// y = 3 + p, of large order but not canonical.
	_, err := key.ParseDER(unhex(t, edwardsPrefix+"f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"))
	wantCode(t, "y = 3 + p", err, "key.weak")
	// y = 2 is on no point.
	_, err = key.ParseDER(unhex(t, edwardsPrefix+"0200000000000000000000000000000000000000000000000000000000000000"))
	wantCode(t, "no point", err, "key.weak")

	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	for what, public := range map[string]crypto.PublicKey{"P-384": p384.Public(), "RSA": modulus} {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		_, err = key.ParseDER(der)
		wantCode(t, what, err, "key.algorithm")
	}
}

// TestIdentityKeyWouldVerify shows why: under the identity as key the library
// accepts one signature for every message.
func TestIdentityKeyWouldVerify(t *testing.T) {
	identity := unhex(t, smallOrder[0])
	sig := append(bytes.Clone(identity), make([]byte, 32)...) // R = identity, S = 0
	for _, message := range []string{"yes", "no"} {
		if !ed25519.Verify(identity, []byte(message), sig) {
			t.Errorf("the library refuses %q: then this check is no longer needed", message)
		}
	}
}

func TestEncodings(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weierstrass, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := key.FromCrypto(public, nil)
	if err != nil {
		t.Fatal(err)
	}
	der := good.DER()
	ec, err := key.FromCrypto(weierstrass.Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// A P-256 key whose point is compressed is the same key in other bytes.
	compressed, err := asn1.Marshal(struct {
		Algorithm struct{ Kind, Curve asn1.ObjectIdentifier }
		Key       asn1.BitString
	}{
		struct{ Kind, Curve asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
		asn1.BitString{Bytes: elliptic.MarshalCompressed(elliptic.P256(), weierstrass.X, weierstrass.Y), BitLength: 33 * 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	// The length written in two bytes is BER, not DER.
	long := append([]byte{0x30, 0x81, 0x2a}, der[2:]...)
	for what, bad := range map[string][]byte{
		"empty": nil, "trailing byte": append(bytes.Clone(der), 0), "cut": der[:len(der)-1],
		"long length": long, "compressed point": compressed, "raw key": public,
	} {
		_, err := key.ParseDER(bad)
		wantCode(t, what, err, "key.encoding")
	}
	// DER of one key, given for another.
	_, err = key.FromCrypto(public, ec.DER())
	wantCode(t, "another key's DER", err, "key.encoding")
	_, err = key.FromCrypto("no key", nil)
	wantCode(t, "no key", err, "key.encoding")

	s := base64.StdEncoding.EncodeToString(der)
	for _, bad := range []string{"", "!", s[:len(s)-1], s + "\n", base64.RawURLEncoding.EncodeToString(der)} {
		_, err := key.Parse(bad)
		wantCode(t, bad, err, "key.encoding")
	}
	again, err := key.Parse(good.String())
	if err != nil || again.String() != s || !bytes.Equal(again.Ed25519(), public) {
		t.Errorf("%v %v", again, err)
	}
	if sum := sha256.Sum256(der); good.ID() != hex.EncodeToString(sum[:]) {
		t.Errorf("key ID %s", good.ID())
	}
	if ec.Ed25519() != nil {
		t.Error("an ECDSA key has Ed25519 bytes")
	}
}

func TestVerify(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weierstrass, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	sum := sha256.Sum256(message)
	ecSig, err := ecdsa.SignASN1(rand.Reader, weierstrass, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		public crypto.PublicKey
		sig    []byte
	}{{public, ed25519.Sign(private, message)}, {weierstrass.Public(), ecSig}} {
		k, err := key.FromCrypto(c.public, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Verify(message, c.sig); err != nil {
			t.Error(err)
		}
		for what, bad := range map[string][]byte{
			"empty": nil, "cut": c.sig[:len(c.sig)-1], "longer": append(bytes.Clone(c.sig), 0),
		} {
			if k.Verify(message, bad) == nil {
				t.Errorf("%T: %s signature verifies", c.public, what)
			}
		}
		if k.Verify([]byte("other"), c.sig) == nil {
			t.Errorf("%T: verifies another message", c.public)
		}
	}
	if new(key.Public).Verify(message, ecSig) == nil {
		t.Error("the zero key verifies")
	}
}

// TestMalleableSignature: S + L is the same signature to a lax verifier; the
// library's strict rule refuses it.
func TestMalleableSignature(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := key.FromCrypto(public, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig := ed25519.Sign(private, []byte("message"))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).Add(new(big.Int).SetBytes(reversed(sig[32:])), order)
	copy(sig[32:], reversed(s.FillBytes(make([]byte, 32))))
	if k.Verify([]byte("message"), sig) == nil {
		t.Error("S + L verifies")
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, x := range b {
		out[len(b)-1-i] = x
	}
	return out
}

// FuzzParseDER: a key that parses has exactly these bytes.
func FuzzParseDER(f *testing.F) {
	f.Add(unhex(f, edwardsPrefix+smallOrder[0]))
	f.Add(unhex(f, edwardsPrefix+"be5b91fe0c83d2052d0707731b1e154f16eea0667d2b9fe3bf8f0f4768effa4e"))
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := key.ParseDER(der)
		if err != nil {
			return
		}
		if !bytes.Equal(k.DER(), der) {
			t.Fatalf("%x reads as %x", der, k.DER())
		}
	})
}
