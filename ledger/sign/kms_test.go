package sign_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json/v2"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"evidence-ledger/ledger/sign"
)

var plugin struct {
	sync.Once
	raw []byte
	err error
}

// withPlugin puts the program of testdata/plugin on PATH as the plugin of
// testhsm, and returns a folder for its keys.
func withPlugin(t *testing.T) string {
	t.Helper()
	plugin.Do(func() {
		path := filepath.Join(t.TempDir(), "plugin")
		if out, err := exec.Command("go", "build", "-o", path, "./testdata/plugin").CombinedOutput(); err != nil {
			plugin.err = fmt.Errorf("%w\n%s", err, out)
			return
		}
		plugin.raw, plugin.err = os.ReadFile(path)
	})
	if plugin.err != nil {
		t.Fatal(plugin.err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "sigstore-kms-testhsm"), plugin.raw, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return t.TempDir()
}

var listed = sign.Options{Plugins: []string{"testhsm"}}

func makeKey(t *testing.T, path, algorithm string) *sign.Key {
	t.Helper()
	k, err := sign.Options{}.Generate(path, algorithm, false)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestPlugin: a real program on PATH signs; the key is the one that it shows.
func TestPlugin(t *testing.T) {
	dir := withPlugin(t)
	for _, algorithm := range []string{sign.AlgorithmECDSAP256, sign.AlgorithmEd25519} {
		t.Run(algorithm, func(t *testing.T) {
			made := makeKey(t, filepath.Join(dir, algorithm), algorithm)
			k, err := listed.Open("testhsm://" + filepath.Join(dir, algorithm))
			if err != nil {
				t.Fatal(err)
			}
			if k.Public().ID() != made.Public().ID() {
				t.Error("another key")
			}
			checkSigns(t, k)
			_, err = k.Ed25519()
			refuses(t, err, "key "+k.Public().ID()[:16])
		})
	}
	_, err := listed.Open("testhsm://" + filepath.Join(dir, "missing"))
	refuses(t, err, "testhsm://", "no such file")
}

// TestPluginNotListed: a scheme that nobody listed runs no program, though one of
// its name is on PATH; a listed one without a program says so.
func TestPluginNotListed(t *testing.T) {
	dir := withPlugin(t)
	makeKey(t, filepath.Join(dir, "key"), sign.AlgorithmECDSAP256)
	ran := filepath.Join(t.TempDir(), "ran")
	bin := t.TempDir()
	for _, name := range []string{"sigstore-kms-evil", "sigstore-kms-", "sigstore-kms-Evil"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, uri := range []string{
		"testhsm://" + filepath.Join(dir, "key"), "evil://key", "Evil://key", "://key", "../evil://key", "hashivault-evil://key", "evil ://key", "evil\n://key", "test://key",
	} {
		for _, o := range []sign.Options{{}, {Plugins: []string{"other"}}} {
			_, err := o.Open(uri)
			refuses(t, err, "is not on the list", "--kms-scheme", "LEDGER_KMS_SCHEMES")
		}
	}
	for _, scheme := range []string{"", "../evil", "Evil", "-evil", "a/b"} {
		_, err := sign.Options{Plugins: []string{scheme}}.Open(scheme + "://key")
		refuses(t, err, "is no KMS scheme")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program was run")
	}
	_, err := sign.Options{Plugins: []string{"absent"}}.Open("absent://key")
	refuses(t, err, "sigstore-kms-absent", "executable file not found")
	if _, err := (sign.Options{Plugins: []string{"evil"}}).Open("evil://key"); err == nil {
		t.Error("a program that answers nothing gives a key")
	}
	if _, err := os.Stat(ran); err != nil {
		t.Error("the program that is listed was not run: the test shows nothing")
	}
}

// TestPluginOtherKey: what a plugin signs with another key than it shows does not
// leave the package.
func TestPluginOtherKey(t *testing.T) {
	dir := withPlugin(t)
	file := filepath.Join(dir, "key")
	makeKey(t, file, sign.AlgorithmECDSAP256)
	other := makeKey(t, file+".other", sign.AlgorithmECDSAP256)
	t.Setenv("PLUGIN_MODE", "other")
	k, err := listed.Open("testhsm://" + file)
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().ID() != other.Public().ID() {
		t.Fatal("the plugin does not lie: the test shows nothing")
	}
	sig, err := k.Sign([]byte("a message"))
	refuses(t, err, "does not verify")
	if sig != nil {
		t.Error("the signature is given away nevertheless")
	}
}

// TestPluginEmptyAnswer: cliplugin panics on it.
func TestPluginEmptyAnswer(t *testing.T) {
	dir := withPlugin(t)
	file := filepath.Join(dir, "key")
	makeKey(t, file, sign.AlgorithmECDSAP256)
	k, err := listed.Open("testhsm://" + file)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PLUGIN_MODE", "empty")
	_, err = k.Sign([]byte("a message"))
	refuses(t, err, "the answer lacks")
	_, err = listed.Open("testhsm://" + file)
	refuses(t, err, "the answer lacks")
}

// TestKMSRefusedKeys: a KMS has no say in which keys are good.
func TestKMSRefusedKeys(t *testing.T) {
	dir := withPlugin(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		public any
		want   string
	}{
		"identity": {ed25519.PublicKey("\x01" + strings.Repeat("\x00", 31)), "small order"},
		"p-384":    {p384.Public(), "P-384"},
		"rsa":      {rsaKey.Public(), "neither Ed25519 nor ECDSA P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := x509.MarshalPKIXPublicKey(c.public)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = listed.Open("testhsm://" + file)
			refuses(t, err, "the public key of testhsm://", c.want)
		})
	}
}

// transit is as much of Vault's transit engine as signing takes.
func transit(t *testing.T, private func() *ecdsa.PrivateKey) {
	t.Helper()
	shown, err := x509.MarshalPKIXPublicKey(private().Public())
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, data any) {
		if err := json.MarshalWrite(w, map[string]any{"data": data}); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/transit/keys/admin", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"latest_version": 1, "keys": map[string]any{"1": map[string]any{
			"name": "P-256", "public_key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: shown})),
		}}})
	})
	mux.HandleFunc("PUT /v1/transit/sign/admin/sha2-256", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Input     string `json:"input"`
			Prehashed bool   `json:"prehashed"`
		}
		if err := json.UnmarshalRead(r.Body, &in); err != nil || !in.Prehashed || r.Header.Get("X-Vault-Token") != "token" {
			http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
			return
		}
		digest, err := base64.StdEncoding.DecodeString(in.Input)
		if err != nil {
			t.Error(err)
		}
		sig, err := ecdsa.SignASN1(rand.Reader, private(), digest)
		if err != nil {
			t.Error(err)
		}
		answer(w, map[string]any{"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(sig)})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
}

// TestVault: HashiCorp's Vault over HTTP, with as much of it as signing takes;
// after its key has got another version the old public half is not signed for.
func TestVault(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	transit(t, func() *ecdsa.PrivateKey { return private })
	for _, scheme := range []string{"hashivault", "openbao"} {
		k, err := sign.Options{}.Open(scheme + "://admin")
		if err != nil {
			t.Fatal(err)
		}
		checkSigns(t, k)
	}
	k, err := sign.Options{}.Open("hashivault://admin")
	if err != nil {
		t.Fatal(err)
	}
	if private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign([]byte("a message"))
	refuses(t, err, "hashivault://admin", "does not verify")

	t.Setenv("VAULT_TOKEN", "another")
	if k, err = (sign.Options{}).Open("hashivault://admin"); err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign([]byte("a message"))
	refuses(t, err, "permission denied")
	t.Setenv("VAULT_ADDR", "")
	_, err = sign.Options{}.Open("hashivault://admin")
	refuses(t, err, "VAULT_ADDR")
}
