// Command plugin is a KMS plugin for the tests: it signs with the key file that
// the URI names. With PLUGIN_MODE=other its public key is that of FILE.other,
// and with PLUGIN_MODE=empty its answers are empty.
package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

type hsm struct {
	signature.SignerVerifier
	public crypto.PublicKey
}

func (h hsm) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) { return h.public, nil }
func (h hsm) DefaultAlgorithm() string                                         { return "ecdsa-p256" }
func (h hsm) SupportedAlgorithms() []string                                    { return []string{"ecdsa-p256"} }

func (h hsm) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, errors.New("not here")
}

func (h hsm) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not here")
}

func main() {
	if os.Getenv("PLUGIN_MODE") == "empty" {
		fmt.Print("{}")
		return
	}
	args, err := handler.GetPluginArgs(os.Args)
	if err == nil {
		var h *hsm
		if h, err = open(args.InitOptions.KeyResourceID, args.InitOptions.HashFunc); err == nil {
			_, err = handler.Dispatch(os.Stdout, os.Stdin, args, h)
		}
	}
	if err != nil {
		handler.WriteErrorResponse(os.Stdout, err)
		os.Exit(1)
	}
}

func open(file string, hash crypto.Hash) (*hsm, error) {
	// A file with a public key alone: an HSM that shows any key that it likes.
	if raw, err := os.ReadFile(file + ".pub"); err == nil {
		public, err := cryptoutils.UnmarshalPEMToPublicKey(raw)
		return &hsm{public: public}, err
	}
	private, err := read(file)
	if err != nil {
		return nil, err
	}
	shown := private
	if os.Getenv("PLUGIN_MODE") == "other" {
		if shown, err = read(file + ".other"); err != nil {
			return nil, err
		}
	}
	s, err := signature.LoadSignerVerifier(private, hash)
	return &hsm{s, shown.Public()}, err
}

func read(file string) (crypto.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(raw, nil)
	if err != nil {
		return nil, err
	}
	return private.(crypto.Signer), nil
}
