package publish

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"

	"github.com/nats-io/nats.go"

	"evidence-ledger/ledger/sign"
)

// TLS names the files of a tls:// address, in PEM. They are read at each
// connect, so that renewed ones need no restart.
type TLS struct {
	// CAFile holds the CAs that may vouch for the node; "" means the system's.
	CAFile string
	// CertFile and KeyFile are our own certificate with those between it and
	// its CA, and its key, which others must not read: for a node that asks for
	// one; "" where it does not.
	CertFile, KeyFile string
}

// CheckURL takes the address of a node apart. What is not encrypted stays on
// this machine.
func CheckURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.120q is not an address such as nats://127.0.0.1:4222 or tls://ledger.example.org:4222", address)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "nats" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%.120q: nats:// is not encrypted and only for this machine; use tls:// with the same host and port", address)
	}
	return u, nil
}

// Check tells whether the files fit the address and can be used.
func (t TLS) Check(address string) error {
	_, err := t.options(address)
	return err
}

// options are none for nats://. For tls:// the connection begins with the
// handshake: whoever stands between cannot talk us out of it. The node's
// certificate must be for the address's host.
func (t TLS) options(address string) ([]nats.Option, error) {
	u, err := CheckURL(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "tls" {
		if t != (TLS{}) {
			return nil, fmt.Errorf("%s is without TLS, for which files are given; use tls://", address)
		}
		return nil, nil
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a client certificate needs its key, and the other way round")
	}
	out := []nats.Option{nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}), nats.TLSHandshakeFirst()}
	var own nats.TLSCertHandler
	var cas nats.RootCAsHandler
	if t.CertFile != "" {
		own = t.own
		if _, err := own(); err != nil {
			return nil, err
		}
	}
	if t.CAFile != "" {
		cas = t.cas
		if _, err := cas(); err != nil {
			return nil, err
		}
	}
	if own != nil || cas != nil {
		out = append(out, nats.ClientTLSConfig(own, cas))
	}
	return out, nil
}

func (t TLS) own() (tls.Certificate, error) {
	cert, err := os.ReadFile(t.CertFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := sign.ReadSecret(t.KeyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("%s and %s: %w", t.CertFile, t.KeyFile, err)
	}
	return pair, nil
}

func (t TLS) cas() (*x509.CertPool, error) {
	b, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", t.CAFile)
	}
	return pool, nil
}
