package sign_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/youmark/pkcs8"

	"evidence-ledger/ledger/sign"
)

const password = "correct horse battery"

func with(password string) sign.Options {
	return sign.Options{Password: func(string, bool) ([]byte, error) { return []byte(password), nil }}
}

// checkSigns holds that a key signs what its public half verifies, and nothing else.
func checkSigns(t testing.TB, k *sign.Key) {
	t.Helper()
	message := []byte("a message")
	sig, err := k.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Public().Verify(message, sig); err != nil {
		t.Error(err)
	}
	if k.Public().Verify([]byte("another message"), sig) == nil {
		t.Error("the signature verifies under another message")
	}
}

// refuses holds that the error says each of the words.
func refuses(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("not refused, want %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

func write(t testing.TB, secret []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	cmd := exec.Command("openssl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, &stderr)
	}
	return out
}

// TestKeyFiles: what we write, we read, and so do openssl and sigstore.
func TestKeyFiles(t *testing.T) {
	for _, algorithm := range []string{sign.AlgorithmEd25519, sign.AlgorithmECDSAP256} {
		for _, encrypt := range []bool{false, true} {
			name := algorithm
			if encrypt {
				name += " encrypted"
			}
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "key.pem")
				made, err := with(password).Generate(path, algorithm, encrypt)
				if err != nil {
					t.Fatal(err)
				}
				checkSigns(t, made)
				k, err := with(password).Open(path)
				if err != nil {
					t.Fatal(err)
				}
				checkSigns(t, k)
				if k.Public().ID() != made.Public().ID() {
					t.Error("another key was read than was made")
				}
				if got, err := sign.Encrypted(path); got != encrypt || err != nil {
					t.Errorf("Encrypted is %v, %v", got, err)
				}
				if _, err := sign.Load(path); encrypt {
					refuses(t, err, "encrypted", "--password-file", "LEDGER_KEY_PASSWORD")
				} else if err != nil {
					t.Error(err)
				}

				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := cryptoutils.UnmarshalPEMToPrivateKey(raw, cryptoutils.StaticPasswordFunc([]byte(password)))
				if err != nil {
					t.Fatal(err)
				}
				public, err := x509.MarshalPKIXPublicKey(theirs.(crypto.Signer).Public())
				if err != nil || !bytes.Equal(public, k.Public().DER()) {
					t.Errorf("sigstore reads another key: %v", err)
				}
				if der := openssl(t, "pkey", "-in", path, "-passin", "pass:"+password, "-pubout", "-outform", "DER"); !bytes.Equal(der, k.Public().DER()) {
					t.Error("openssl reads another key")
				}
			})
		}
	}
	_, err := sign.Options{}.Generate(filepath.Join(t.TempDir(), "key.pem"), "rsa", false)
	refuses(t, err, `no algorithm "rsa"`, "ed25519", "ecdsa-p256")
	_, err = sign.Options{}.Generate("hashivault://key", sign.AlgorithmEd25519, false)
	refuses(t, err, "with the tools of the KMS")
}

// foreign are encrypted files that others make.
func foreign(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	dir := t.TempDir()
	for algorithm, args := range map[string][]string{"ed25519": {"-algorithm", "ed25519"}, "p256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}} {
		plain := filepath.Join(dir, algorithm)
		openssl(t, append([]string{"genpkey", "-out", plain}, args...)...)
		kdf := map[string][]string{"ed25519": {"-scrypt"}, "p256": {"-iter", "600000"}}[algorithm]
		files["openssl "+algorithm+" "+kdf[0]] = openssl(t, append([]string{"pkcs8", "-topk8", "-in", plain, "-passout", "pass:" + password}, kdf...)...)
	}
	raw, _, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), cryptoutils.StaticPasswordFunc([]byte(password)))
	if err != nil {
		t.Fatal(err)
	}
	files["sigstore"] = raw
	files["cosign"] = bytes.ReplaceAll(raw, []byte("SIGSTORE"), []byte("COSIGN"))
	path := filepath.Join(dir, "ours.pem")
	if _, err := with(password).Generate(path, sign.AlgorithmEd25519, true); err != nil {
		t.Fatal(err)
	}
	if files["ours"], err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return files
}

// TestWrongPassword: the right one opens each kind of file, a wrong one does not,
// and each guess takes its time, which is the derivation's.
func TestWrongPassword(t *testing.T) {
	for name, raw := range foreign(t) {
		t.Run(name, func(t *testing.T) {
			path := write(t, raw)
			k, err := with(password).Load(path)
			if err != nil {
				t.Fatal(err)
			}
			checkSigns(t, k)
			for _, wrong := range []string{"correct horse batterz", "x"} {
				begin := time.Now()
				_, err := with(wrong).Load(path)
				if took := time.Since(begin); took < 20*time.Millisecond {
					t.Errorf("a guess took only %v", took)
				}
				refuses(t, err, "the password is wrong")
			}
			_, err = with("").Load(path)
			refuses(t, err, "the password is empty")
			_, err = sign.Load(path)
			refuses(t, err, "the key is encrypted")
		})
	}
}

// TestCostOfAGuess: a derivation that makes guesses cheap is refused, and one
// that takes memory or time without bound, and both before anything is derived.
func TestCostOfAGuess(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scrypt := func(salt, n, r, p int) pkcs8.KDFOpts {
		return pkcs8.ScryptOpts{SaltSize: salt, CostParameter: n, BlockSize: r, ParallelizationParameter: p}
	}
	pbkdf2 := func(salt, rounds int, hash crypto.Hash) pkcs8.KDFOpts {
		return pkcs8.PBKDF2Opts{SaltSize: salt, IterationCount: rounds, HMACHash: hash}
	}
	cases := map[string]struct {
		kdf    pkcs8.KDFOpts
		cipher pkcs8.Cipher
		want   string // "" for well
	}{
		"least scrypt":      {scrypt(8, 1<<14, 8, 1), pkcs8.AES256CBC, ""},
		"half of it":        {scrypt(8, 1<<13, 8, 1), pkcs8.AES256CBC, "too little"},
		"no salt":           {scrypt(0, 1<<14, 8, 1), pkcs8.AES256CBC, "too little"},
		"least pbkdf2":      {pbkdf2(8, 200_000, crypto.SHA256), pkcs8.AES256CBC, ""},
		"one round less":    {pbkdf2(8, 199_999, crypto.SHA256), pkcs8.AES256CBC, "too little"},
		"pbkdf2 short salt": {pbkdf2(7, 200_000, crypto.SHA256), pkcs8.AES256CBC, "too little"},
		"pbkdf2 sha-1":      {pbkdf2(8, 200_000, crypto.SHA1), pkcs8.AES256CBC, "HMAC-SHA256"},
		"aes-128":           {scrypt(8, 1<<14, 8, 1), pkcs8.AES128CBC, "AES-256-CBC"},
		"3des":              {scrypt(8, 1<<14, 8, 1), pkcs8.TripleDESCBC, "AES-256-CBC"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: c.cipher, KDFOpts: c.kdf})
			if err != nil {
				t.Fatal(err)
			}
			k, err := with(password).Load(write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})))
			if c.want != "" {
				refuses(t, err, c.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkSigns(t, k)
		})
	}
	// What nobody can afford to make is made by changing the numbers in the DER.
	der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: scrypt(8, 1<<14, 8, 5)})
	if err != nil {
		t.Fatal(err)
	}
	numbers := "\x02\x02\x40\x00\x02\x01\x08\x02\x01\x05"
	if bytes.Count(der, []byte(numbers)) != 1 {
		t.Fatal("the parameters are not where they should be")
	}
	for name, c := range map[string]struct{ numbers, want string }{
		"much memory":        {"\x02\x02\x40\x00\x02\x01\x7f\x02\x01\x05", "too much"},
		"much time":          {"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x7f", "too much"},
		"not a power of two": {"\x02\x02\x40\x01\x02\x01\x08\x02\x01\x05", "no meaning"},
		"zero":               {"\x02\x02\x40\x00\x02\x01\x00\x02\x01\x05", "no meaning"},
		"negative":           {"\x02\x02\xc0\x00\x02\x01\x08\x02\x01\x05", "no meaning"},
		"not minimal":        {"\x02\x02\x00\x40\x02\x01\x08\x02\x01\x05", "RFC 7914"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := bytes.Replace(der, []byte(numbers), []byte(c.numbers), 1)
			begin := time.Now()
			_, err := with(password).Load(write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: changed})))
			refuses(t, err, c.want)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("the refusal took %v", took)
			}
		})
	}
	salt := []byte("salt salt")
	t.Run("many rounds", func(t *testing.T) {
		der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: pbkdf2(8, 200_000, crypto.SHA256)})
		if err != nil {
			t.Fatal(err)
		}
		der = bytes.Replace(der, []byte("\x02\x03\x03\x0d\x40"), []byte("\x02\x03\x7f\xff\xff"), 1)
		_, err = with(password).Load(write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})))
		refuses(t, err, "8388607 rounds", "too long")
	})
	t.Run("more parameters", func(t *testing.T) {
		der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: says{scrypt(8, 1<<14, 8, 1), longParameters{salt, 1 << 14, 8, 1, 32}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = with(password).Load(write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})))
		refuses(t, err, "RFC 7914")
	})
	t.Run("products that overflow", func(t *testing.T) {
		for _, p := range []parameters{{salt, 1 << 14, 1 << 50, 1}, {salt, 1 << 14, 8, 1 << 60}, {salt, 1 << 62, 8, 1}} {
			der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: says{scrypt(8, 1<<14, 8, 1), p}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = with(password).Load(write(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})))
			refuses(t, err, "too much")
		}
	})
	t.Run("openssl's default", func(t *testing.T) {
		plain := filepath.Join(t.TempDir(), "plain")
		openssl(t, "genpkey", "-algorithm", "ed25519", "-out", plain)
		_, err := with(password).Load(write(t, openssl(t, "pkcs8", "-topk8", "-in", plain, "-passout", "pass:"+password)))
		refuses(t, err, "2048 rounds", "openssl pkcs8 -topk8 -scrypt")
		_, err = with(password).Load(write(t, openssl(t, "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", plain, "-passout", "pass:"+password)))
		refuses(t, err, "not PBES2")
	})
}

// says writes other parameters into the file than the key was derived with.
type says struct {
	pkcs8.KDFOpts
	parameters pkcs8.KDFParameters
}

func (s says) DeriveKey(password, salt []byte, size int) ([]byte, pkcs8.KDFParameters, error) {
	k, _, err := s.KDFOpts.DeriveKey(password, salt, size)
	return k, s.parameters, err
}

type parameters struct {
	Salt    []byte
	N, R, P int
}

func (parameters) DeriveKey([]byte, int) ([]byte, error) { return nil, errors.New("never") }

// longParameters have a fifth one, which pkcs8 reads over.
type longParameters struct {
	Salt       []byte
	N, R, P, L int
}

func (longParameters) DeriveKey([]byte, int) ([]byte, error) { return nil, errors.New("never") }

// TestRefusedKeys: each with its reason.
func TestRefusedKeys(t *testing.T) {
	ed := pkcs8Of(t, must(ed25519.GenerateKey(rand.Reader)))
	plain := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}) }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) []byte {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return plain(pkcs8Of(t, k))
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := plain(ed)
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"well":             {good, ""},
		"space around":     {[]byte("\n" + string(good) + "\n\n"), ""},
		"rsa":              {plain(pkcs8Of(t, rsaKey)), "RSA"},
		"rsa pkcs#1":       {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}), "RSA"},
		"p-224":            {curve(elliptic.P224()), "P-224"},
		"p-384":            {curve(elliptic.P384()), "P-384"},
		"p-521":            {curve(elliptic.P521()), "P-521"},
		"x25519":           {plain(pkcs8Of(t, x25519)), "Ed25519 or ECDSA P-256 is needed"},
		"sec 1":            {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), "openssl pkcs8 -topk8"},
		"public":           {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), `"PUBLIC KEY", not a private key`},
		"old encryption":   {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"DEK-Info": "DES-CBC,00"}, Bytes: ed}), "headers"},
		"two":              {append(bytes.Clone(good), good...), "not one PEM block"},
		"text before":      {append([]byte("Bag Attributes\n"), good...), "canonical"},
		"text behind":      {append(bytes.Clone(good), "secret\n"...), "not one PEM block"},
		"long line":        {[]byte("-----BEGIN PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(pkcs8Of(t, p256)) + "\n-----END PRIVATE KEY-----\n"), "canonical"},
		"carriage returns": {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), "canonical"},
		"cut off":          {good[:len(good)-40], "not one PEM block"},
		"half a key":       {plain(ed[:len(ed)/2]), "asn1"},
		"empty":            {nil, "not one PEM block"},
		"binary":           {ed, "not one PEM block"},
		"large":            {bytes.Repeat([]byte("x"), 1<<20), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := with(password).Load(write(t, c.raw))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refuses(t, err, c.want)
		})
	}
	// A key in memory, as some device shows it.
	for name, c := range map[string]struct{ point, want string }{
		"identity":      {"01" + strings.Repeat("00", 31), "small order"},
		"order 4":       {strings.Repeat("00", 32), "small order"},
		"non-canonical": {"f0" + strings.Repeat("ff", 30) + "7f", "canonical"},
		"not on curve":  {"02" + strings.Repeat("00", 31), "no point"},
	} {
		t.Run(name, func(t *testing.T) {
			point, err := hex.DecodeString(c.point)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sign.New(shows{ed25519.PublicKey(point)})
			refuses(t, err, c.want)
		})
	}
}

// shows is a signer with a public key of one's choice.
type shows struct{ public crypto.PublicKey }

func (s shows) Public() crypto.PublicKey { return s.public }
func (s shows) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("never")
}

func must(_ ed25519.PublicKey, k ed25519.PrivateKey, err error) ed25519.PrivateKey {
	if err != nil {
		panic(err)
	}
	return k
}

func pkcs8Of(t testing.TB, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestMode: a file that others can read is refused, key or password.
func TestMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if _, err := with(password).Generate(path, sign.AlgorithmEd25519, true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("made with %v, %v", info.Mode(), err)
	}
	secret := write(t, []byte(password))
	for mode, well := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o660: false, 0o610: false, 0o601: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := with(password).Load(path); !well {
			refuses(t, err, "can be read by others", "chmod 600")
		} else if err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
		if err := os.Chmod(secret, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := sign.PasswordFrom(secret, nil)("key", false); !well {
			refuses(t, err, "the password file", "can be read by others")
		} else if err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

// TestNeverOverwritten: neither a key, nor anything else, nor what a link names;
// and before anyone is asked for a password.
func TestNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	there, dangling := filepath.Join(dir, "there"), filepath.Join(dir, "dangling")
	if err := errors.Join(os.WriteFile(there, []byte("precious"), 0o600), os.Symlink(filepath.Join(dir, "nowhere"), dangling)); err != nil {
		t.Fatal(err)
	}
	asks := sign.Options{Password: func(string, bool) ([]byte, error) {
		t.Error("asked for a password in vain")
		return nil, errors.New("asked")
	}}
	for _, path := range []string{there, dangling, dir} {
		_, err := asks.Generate(path, sign.AlgorithmEd25519, true)
		refuses(t, err, "exists already")
		refuses(t, sign.WriteSecret(path, []byte("x")), "exists already")
	}
	if raw, err := os.ReadFile(there); string(raw) != "precious" {
		t.Errorf("now it is %q, %v", raw, err)
	}
}

// TestPassword: from the file before the environment before a person; once.
func TestPassword(t *testing.T) {
	asked := 0
	ask := func(answers ...string) func(string) ([]byte, error) {
		asked = 0
		return func(string) ([]byte, error) {
			asked++
			return []byte(answers[(asked-1)%len(answers)]), nil
		}
	}
	for name, c := range map[string]struct {
		file, environment string
		fresh             bool
		answers           []string
		want, refused     string
		asked             int
	}{
		"file":              {"from the file\n", "from the environment", false, []string{"from a person"}, "from the file", "", 0},
		"spaces count":      {" a b \r\n", "", false, nil, " a b ", "", 0},
		"one end of line":   {"a\n\n", "", false, nil, "a\n", "", 0},
		"environment":       {"", "from the environment", false, []string{"from a person"}, "from the environment", "", 0},
		"person":            {"", "", false, []string{"from a person"}, "from a person", "", 1},
		"nobody":            {"", "", false, nil, "", "--password-file", 0},
		"fresh, asked":      {"", "", true, []string{"a long password"}, "a long password", "", 2},
		"fresh, mistyped":   {"", "", true, []string{"a long password", "a long passwort"}, "", "differ", 2},
		"fresh, short":      {"", "", true, []string{"elevenchars"}, "", "at least 12", 2},
		"fresh, short file": {"elevenchars\n", "", true, nil, "", "at least 12", 0},
		"old and short":     {"elevenchars\n", "", false, nil, "elevenchars", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(sign.PasswordVariable, c.environment)
			file := ""
			if c.file != "" {
				file = write(t, []byte(c.file))
			}
			asked = 0
			var someone func(string) ([]byte, error)
			if c.answers != nil {
				someone = ask(c.answers...)
			}
			get := sign.PasswordFrom(file, someone)
			got, err := get("key.pem", c.fresh)
			if c.refused != "" {
				refuses(t, err, c.refused)
			} else if again, _ := get("next.pem", c.fresh); err != nil || string(got) != c.want || string(again) != c.want {
				t.Errorf("got %q, %q, %v", got, again, err)
			}
			if asked != c.asked {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
		})
	}
}

// TestNodeKey: a file, and Ed25519.
func TestNodeKey(t *testing.T) {
	dir := t.TempDir()
	ed, ec := filepath.Join(dir, "ed.pem"), filepath.Join(dir, "ec.pem")
	o := with(password)
	if _, err := o.Generate(ed, sign.AlgorithmEd25519, true); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Generate(ec, sign.AlgorithmECDSAP256, false); err != nil {
		t.Fatal(err)
	}
	if k, err := o.Node(ed); err != nil {
		t.Error(err)
	} else if private, err := k.Ed25519(); err != nil || !bytes.Equal(private.Public().(ed25519.PublicKey), k.Public().Ed25519()) {
		t.Error(err)
	}
	_, err := o.Node(ec)
	refuses(t, err, "not Ed25519")
	for _, uri := range []string{"hashivault://node", "testhsm://node"} {
		_, err := o.Node(uri)
		refuses(t, err, "cannot be in a KMS")
	}
}

// FuzzLoad: no bytes of a key file end the process; what is read signs, and the
// file was in its one form.
func FuzzLoad(f *testing.F) {
	private := must(ed25519.GenerateKey(rand.Reader))
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8Of(f, private)}), true)
	f.Add(pkcs8Of(f, private), false)
	f.Add(pkcs8Of(f, p256), false)
	for _, kdf := range []pkcs8.KDFOpts{
		pkcs8.ScryptOpts{SaltSize: 8, CostParameter: 1 << 14, BlockSize: 8, ParallelizationParameter: 1},
		pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 200_000, HMACHash: crypto.SHA256},
	} {
		der, err := pkcs8.MarshalPrivateKey(private, []byte(password), &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: kdf})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der, false)
	}
	raw, _, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), cryptoutils.StaticPasswordFunc([]byte(password)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, true)
	block, _ := pem.Decode(raw)
	f.Add(block.Bytes, false)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		files := [][]byte{data}
		if !whole {
			files = nil
			for _, label := range []string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"} {
				files = append(files, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: data}))
			}
		}
		for _, raw := range files {
			k, err := with(password).Load(write(t, raw))
			if err != nil {
				continue
			}
			checkSigns(t, k)
			block, _ := pem.Decode(raw)
			if !bytes.Equal(bytes.TrimSpace(raw), bytes.TrimSpace(pem.EncodeToMemory(block))) {
				t.Errorf("read, but not canonical: %q", raw)
			}
		}
	})
}
