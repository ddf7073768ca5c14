package bus

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"evidence-ledger/ledger/sign"
)

// TLS names the files, in PEM, from which the server proves who it is. They are
// read again at each handshake, so that a renewed certificate needs no restart:
// write the new files under other names, then rename them.
type TLS struct {
	// CertFile holds the server's certificate and then those between it and
	// its CA.
	CertFile string
	// KeyFile holds the certificate's private key; others must not read it.
	KeyFile string
	// ClientCAFile, where given, holds the CAs from which every client must
	// show a certificate, besides its NKEY. A CA that is taken out here closes
	// no connection: what lets nobody in any more is the log (Reauthorize).
	ClientCAFile string
}

func (t TLS) check() error {
	if t != (TLS{}) && (t.CertFile == "" || t.KeyFile == "") {
		return errors.New("bus: TLS needs both a certificate and its key")
	}
	return nil
}

// tlsTimeout is how long a handshake may take.
const tlsTimeout = 5 * time.Second

// certificates holds the newest files that were good.
type certificates struct {
	files TLS
	log   *slog.Logger

	mu      sync.Mutex
	raw     [3][]byte // what config was made from
	config  *tls.Config
	trouble string // with the files as they are now, "" where none
}

// newCertificates reads the files for the first time.
func newCertificates(files TLS, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log}
	return c, c.load()
}

// server is what the server is given; each handshake asks for the newest.
func (c *certificates) server() *tls.Config {
	config := c.current().Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil }
	return config
}

// current looks at the files again. What cannot be used changes nothing, and is
// logged once: half of a new pair may be there already (TestReload).
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	trouble := ""
	if err := c.load(); err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != c.trouble {
		c.log.Error("the new TLS files cannot be used, the old certificate stays", "error", trouble)
	}
	c.trouble = trouble
	return c.config
}

// load reads the files and, where they have changed, makes a new configuration.
func (c *certificates) load() error {
	raw, err := c.files.read()
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if c.config != nil && bytes.Equal(raw[0], c.raw[0]) && bytes.Equal(raw[1], c.raw[1]) && bytes.Equal(raw[2], c.raw[2]) {
		return nil
	}
	config, err := c.files.config(raw)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.raw, c.config = raw, config
	c.log.Info("TLS certificate", "file", c.files.CertFile, "until", config.Certificates[0].Leaf.NotAfter, "clientCertificates", config.ClientCAs != nil)
	return nil
}

func (t TLS) read() (raw [3][]byte, err error) {
	if raw[0], err = os.ReadFile(t.CertFile); err != nil {
		return raw, err
	}
	if raw[1], err = sign.ReadSecret(t.KeyFile); err != nil || t.ClientCAFile == "" {
		return raw, err
	}
	raw[2], err = os.ReadFile(t.ClientCAFile)
	return raw, err
}

// config is a configuration for connections that live long: sessions are not
// resumed, so that each connection is judged by the CAs of its own time.
func (t TLS) config(raw [3][]byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(raw[0], raw[1])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", t.CertFile, t.KeyFile, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true}
	if t.ClientCAFile == "" {
		return config, nil
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(raw[2]) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", t.ClientCAFile)
	}
	return config, nil
}
