package sign

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault" // hashivault:// and openbao://
	"github.com/sigstore/sigstore/pkg/signature/options"

	"evidence-ledger/verify/key"
)

// SchemesVariable is the environment variable with the KMS schemes, separated
// by commas, for which a plugin may be run.
const SchemesVariable = "LEDGER_KMS_SCHEMES"

// builtIn are the schemes for which no program of others is run.
var builtIn = []string{"hashivault", "openbao"}

// kmsTimeout bounds one call of a plugin.
const kmsTimeout = 30 * time.Second

func (o Options) openKMS(uri string) (*Key, error) {
	if err := o.allowed(uri); err != nil {
		return nil, err
	}
	// Without a deadline: a plugin would be told that of now with each signature.
	remote, err := kms.Get(context.Background(), uri, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", uri, err)
	}
	public, err := publicOf(remote)
	if err != nil {
		return nil, fmt.Errorf("the public key of %s: %w", uri, err)
	}
	return &Key{public: public, sign: func(message []byte) ([]byte, error) {
		sig, err := signRemote(remote, message)
		if err == nil {
			err = public.Verify(message, sig)
		}
		if err != nil {
			return nil, fmt.Errorf("sign with %s: %w", uri, err)
		}
		return sig, nil
	}}, nil
}

// allowed refuses the schemes that nobody listed: for another one the first
// program of that name on PATH would be run.
func (o Options) allowed(uri string) error {
	scheme, _, _ := strings.Cut(uri, "://")
	for _, listed := range o.Plugins {
		if !isScheme(listed) {
			return fmt.Errorf("%q is no KMS scheme: a to z, 0 to 9 and - in between", listed)
		}
	}
	if isScheme(scheme) && (slices.Contains(builtIn, scheme) || slices.Contains(o.Plugins, scheme)) {
		return nil
	}
	return fmt.Errorf("%s: the KMS scheme %q is not on the list (%s): list it with --kms-scheme or in %s if the program sigstore-kms-%[2]s may be run",
		uri, scheme, strings.Join(slices.Concat(builtIn, o.Plugins), ", "), SchemesVariable)
}

func isScheme(s string) bool {
	return s != "" && strings.Trim(s, "-") == s && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func publicOf(remote kms.SignerVerifier) (public *key.Public, err error) {
	defer incomplete(&err)
	ctx, cancel := context.WithTimeout(context.Background(), kmsTimeout)
	defer cancel()
	raw, err := remote.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return key.FromCrypto(raw, nil)
}

func signRemote(remote kms.SignerVerifier, message []byte) (sig []byte, err error) {
	defer incomplete(&err)
	ctx, cancel := context.WithTimeout(context.Background(), kmsTimeout)
	defer cancel()
	return remote.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
}

// incomplete turns a panic into an error: cliplugin takes for granted that a
// plugin's answer has the part that was asked for.
func incomplete(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the answer lacks what was asked for (%v)", p)
	}
}
