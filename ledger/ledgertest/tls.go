package ledgertest

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a CA. Its files lie in a folder of the test.
type Authority struct {
	// File holds the CA's own certificate.
	File string

	t      testing.TB
	cert   *x509.Certificate
	key    ed25519.PrivateKey
	serial int64
}

// NewAuthority makes a CA.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, File: filepath.Join(t.TempDir(), "ca.pem")}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a.key = private
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "a CA for tests"}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(a.cert, public, a.File)
	return a
}

// Issue writes NAME.pem and NAME.key, over those that are there, and returns
// their paths. With hosts (names or addresses) it is a server's certificate,
// without them a client's.
func (a *Authority) Issue(name string, hosts ...string) (certFile, keyFile string) {
	a.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, host := range hosts {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	base := filepath.Join(filepath.Dir(a.File), name)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(base+".key", "PRIVATE KEY", der)
	a.sign(c, public, base+".pem")
	return base + ".pem", base + ".key"
}

func (a *Authority) sign(c *x509.Certificate, public ed25519.PublicKey, path string) *x509.Certificate {
	a.t.Helper()
	a.serial++
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(a.serial), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(nil, c, a.cert, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(path, "CERTIFICATE", der)
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

func (a *Authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}
