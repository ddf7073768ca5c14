package bus_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/ledgertest"
)

// startTLS runs a bus whose certificate is for 127.0.0.1 and node.example.
func startTLS(t *testing.T, listen string, clientCA *ledgertest.Authority) (*world, *ledgertest.Authority) {
	w, ca := start(t, 0), ledgertest.NewAuthority(t)
	w.down()
	w.options.Listen = listen
	w.options.TLS.CertFile, w.options.TLS.KeyFile = ca.Issue("node", "127.0.0.1", "node.example")
	if clientCA != nil {
		w.options.TLS.ClientCAFile = clientCA.File
	}
	w.up()
	return w, ca
}

// client is how one connects: whom it believes, and what it shows.
type client struct {
	ca   *ledgertest.Authority
	show *ledgertest.Authority // nil: no certificate
	name string                // "" means the address
	max  uint16                // version of TLS
}

func (c client) config(t *testing.T) *tls.Config {
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: c.name, MaxVersion: c.max}
	if c.max != 0 {
		config.MinVersion = tls.VersionTLS10
	}
	config.RootCAs.AppendCertsFromPEM(contents(t, c.ca.File))
	if c.show != nil {
		pair, err := tls.LoadX509KeyPair(c.show.Issue("web-1"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dial connects to the port as web-1.
func (w *world) dial(t *testing.T, options ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	_, port, err := net.SplitHostPort(w.ClientURL()[strings.Index(w.ClientURL(), "://")+3:])
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("127.0.0.1:"+port, append([]nats.Option{withKey(t, w.keys["web-1"]), nats.NoReconnect(), nats.Timeout(10 * time.Second)}, options...)...)
	if err == nil {
		t.Cleanup(nc.Close)
		err = nc.Flush()
	}
	return nc, err
}

func (w *world) dialTLS(t *testing.T, c client) (*nats.Conn, error) {
	t.Helper()
	return w.dial(t, nats.Secure(c.config(t)), nats.TLSHandshakeFirst())
}

func TestTLS(t *testing.T) {
	other, clients := ledgertest.NewAuthority(t), ledgertest.NewAuthority(t)
	for _, required := range []*ledgertest.Authority{nil, clients} {
		w, ca := startTLS(t, "0.0.0.0:0", required)
		if !strings.HasPrefix(w.ClientURL(), "tls://") {
			t.Errorf("the address is %s", w.ClientURL())
		}
		for name, test := range map[string]struct {
			client  client
			want    string // "" where it is let in
			without string // the same where no client certificate is required
		}{
			"all is right":                       {client: client{ca: ca, show: clients}},
			"the node by its name":               {client: client{ca: ca, show: clients, name: "node.example"}},
			"TLS 1.2":                            {client: client{ca: ca, show: clients, max: tls.VersionTLS12}},
			"TLS 1.1":                            {client: client{ca: ca, show: clients, max: tls.VersionTLS11}, want: "protocol version", without: "protocol version"},
			"another name":                       {client: client{ca: ca, show: clients, name: "other.example"}, want: "not other.example", without: "not other.example"},
			"another CA vouches for the node":    {client: client{ca: other, show: clients}, want: "unknown authority", without: "unknown authority"},
			"no client certificate":              {client: client{ca: ca}, want: "certificate required"},
			"a client certificate of another CA": {client: client{ca: ca, show: other}, want: "unknown certificate authority"},
			"one of the node's own CA":           {client: client{ca: ca, show: ca}, want: "unknown certificate authority"},
		} {
			want := test.want
			if required == nil {
				want = test.without
			}
			nc, err := w.dialTLS(t, test.client)
			switch {
			case want == "" && err != nil:
				t.Errorf("%s, client CA %t: %v\n%s", name, required != nil, err, w.logged)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s, client CA %t: %v, want %q", name, required != nil, err, want)
			case want == "" && test.client.max == 0:
				if s, err := nc.TLSConnectionState(); err != nil || s.Version != tls.VersionTLS13 || s.DidResume {
					t.Errorf("%s: version %x, resumed %t, %v", name, s.Version, s.DidResume, err)
				}
			}
		}
		// The certificate does not stand for the NKEY.
		if _, err := nats.Connect(strings.Replace(w.ClientURL(), "0.0.0.0", "127.0.0.1", 1), nats.Secure(client{ca: ca, show: clients}.config(t)), nats.TLSHandshakeFirst(), nats.NoReconnect()); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("without an NKEY: %v", err)
		}
		// The node's own connection works.
		if err := w.Own().Flush(); err != nil {
			t.Error(err)
		}
	}
}

// TestServerCertificateIsNoClient: what says "server" lets no client in.
func TestServerCertificateIsNoClient(t *testing.T) {
	clients := ledgertest.NewAuthority(t)
	w, ca := startTLS(t, "127.0.0.1:0", clients)
	config := client{ca: ca}.config(t)
	pair, err := tls.LoadX509KeyPair(clients.Issue("web-1", "web-1.example"))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	if _, err := w.dial(t, nats.Secure(config), nats.TLSHandshakeFirst()); err == nil {
		t.Error("a server's certificate was taken for a client's")
	}
}

// TestClientWithoutTLS: it is told nothing and can say nothing.
func TestClientWithoutTLS(t *testing.T) {
	w, ca := startTLS(t, "127.0.0.1:0", nil)
	if _, err := w.dial(t, nats.Timeout(time.Second)); err == nil {
		t.Error("connected in the clear")
	}
	// Nor in the clear first and with TLS later: nothing precedes the handshake.
	if _, err := w.dial(t, nats.Secure(client{ca: ca}.config(t)), nats.Timeout(time.Second)); err == nil {
		t.Error("connected with a beginning in the clear")
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.ClientURL(), "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":true}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	said, err := io.ReadAll(conn)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("the connection stays open")
	}
	if strings.Contains(string(said), "INFO") || strings.Contains(string(said), "PONG") {
		t.Errorf("the server says %q", said)
	}
	if _, err := w.dialTLS(t, client{ca: ca}); err != nil {
		t.Errorf("with TLS: %v", err)
	}
}

// serial is the number of the certificate that the server shows now.
func (w *world) serial(t *testing.T, c client) int64 {
	t.Helper()
	nc, err := w.dialTLS(t, c)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.logged)
	}
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestReload(t *testing.T) {
	clients := ledgertest.NewAuthority(t)
	w, ca := startTLS(t, "127.0.0.1:0", clients)
	good := client{ca: ca, show: clients}
	running, err := w.dialTLS(t, good)
	if err != nil {
		t.Fatal(err)
	}
	first := w.serial(t, good)

	// A broken file, and half of a new pair: the old one stays.
	old, files := contents(t, w.options.TLS.CertFile), w.options.TLS
	for name, breakIt := range map[string]func(){
		"no certificate":       func() { os.WriteFile(files.CertFile, []byte("no certificate"), 0o600) },
		"cut off":              func() { os.WriteFile(files.CertFile, old[:len(old)/2], 0o600) },
		"gone":                 func() { os.Remove(files.CertFile) },
		"another key":          func() { ca.Issue("node", "127.0.0.1"); os.WriteFile(files.CertFile, old, 0o600) },
		"a readable key":       func() { os.Chmod(files.KeyFile, 0o644) },
		"no client CA":         func() { os.WriteFile(files.ClientCAFile, []byte("\n"), 0o600) },
		"the client CA's gone": func() { os.Remove(files.ClientCAFile) },
	} {
		key, clientCA := contents(t, files.KeyFile), contents(t, files.ClientCAFile)
		w.logged.Reset()
		breakIt()
		for range 3 {
			if got := w.serial(t, good); got != first {
				t.Errorf("%s: certificate %d is shown, not %d", name, got, first)
			}
		}
		if n := strings.Count(w.logged.String(), "the old certificate stays"); n != 1 {
			t.Errorf("%s: logged %d times:\n%s", name, n, w.logged)
		}
		for path, b := range map[string][]byte{files.CertFile: old, files.KeyFile: key, files.ClientCAFile: clientCA} {
			if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chmod(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		w.Reauthorize()
	}

	// A new pair is taken, what runs goes on.
	ca.Issue("node", "127.0.0.1")
	if got := w.serial(t, good); got == first {
		t.Error("the new certificate is not shown")
	}
	if err := running.Flush(); err != nil || running.Stats().Reconnects != 0 {
		t.Errorf("the running connection: %v, %d reconnects", err, running.Stats().Reconnects)
	}
	if _, err := w.dialTLS(t, client{ca: ca}); err == nil {
		t.Error("no client certificate is asked for any more")
	}

	// So is another CA for clients: who has a certificate of the old one stays
	// and does not come in again.
	next := ledgertest.NewAuthority(t)
	if err := os.WriteFile(files.ClientCAFile, contents(t, next.File), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dialTLS(t, client{ca: ca, show: next}); err != nil {
		t.Errorf("of the new CA: %v", err)
	}
	if _, err := w.dialTLS(t, good); err == nil {
		t.Error("the old CA still lets clients in")
	}
	if err := running.Flush(); err != nil {
		t.Error(err)
	}

	// And what is broken is logged though nobody connects.
	w.logged.Reset()
	os.Remove(files.KeyFile)
	w.Reauthorize()
	if !strings.Contains(w.logged.String(), "the old certificate stays") {
		t.Errorf("logged: %s", w.logged)
	}
}

func TestTLSFiles(t *testing.T) {
	ca := ledgertest.NewAuthority(t)
	cert, key := ca.Issue("node", "127.0.0.1")
	_, other := ca.Issue("other", "127.0.0.1")
	open, _ := ca.Issue("open", "127.0.0.1")
	openKey := strings.TrimSuffix(open, ".pem") + ".key"
	if err := os.Chmod(openKey, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		files bus.TLS
		want  string
	}{
		"no key":               {bus.TLS{CertFile: cert}, "both"},
		"no certificate":       {bus.TLS{KeyFile: key}, "both"},
		"only a client CA":     {bus.TLS{ClientCAFile: ca.File}, "both"},
		"another's key":        {bus.TLS{CertFile: cert, KeyFile: other}, "does not match"},
		"a readable key":       {bus.TLS{CertFile: open, KeyFile: openKey}, "can be read by others"},
		"no such certificate":  {bus.TLS{CertFile: cert + "x", KeyFile: key}, "no such file"},
		"no such client CA":    {bus.TLS{CertFile: cert, KeyFile: key, ClientCAFile: "nowhere.pem"}, "nowhere.pem"},
		"a client CA's no PEM": {bus.TLS{CertFile: cert, KeyFile: key, ClientCAFile: key}, "holds no certificate"},
	} {
		_, err := bus.Start(t.Context(), bus.Options{Listen: "0.0.0.0:0", TLS: test.files, StoreDir: t.TempDir(), Authorize: func(string) (bus.Grant, bool) { return bus.Grant{}, false }})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
