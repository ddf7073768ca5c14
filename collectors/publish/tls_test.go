package publish_test

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/ledgertest"
)

// TestTLS: real handshakes with a real node. What does not hold delivers
// nothing, says why, and loses nothing.
func TestTLS(t *testing.T) {
	ca, other, clients := ledgertest.NewAuthority(t), ledgertest.NewAuthority(t), ledgertest.NewAuthority(t)
	var files bus.TLS
	files.CertFile, files.KeyFile = ca.Issue("node", "127.0.0.1")
	open, seed := startNodeTLS(t, files)
	files.ClientCAFile = clients.File
	closed, closedSeed := startNodeTLS(t, files)
	plain, plainSeed := startNode(t)
	unnamed := bus.TLS{}
	unnamed.CertFile, unnamed.KeyFile = ca.Issue("unnamed", "node.example")
	elsewhere, elsewhereSeed := startNodeTLS(t, unnamed)

	own := publish.TLS{CAFile: ca.File}
	own.CertFile, own.KeyFile = clients.Issue("web-1")
	strange := publish.TLS{CAFile: ca.File}
	strange.CertFile, strange.KeyFile = other.Issue("web-1")
	for name, test := range map[string]struct {
		node   *node
		seed   string
		tls    publish.TLS
		scheme string
		want   string // "" where it is delivered
	}{
		"the node's CA":                      {node: open, seed: seed, tls: publish.TLS{CAFile: ca.File}},
		"another CA":                         {node: open, seed: seed, tls: publish.TLS{CAFile: other.File}, want: "unknown authority"},
		"the system's CAs":                   {node: open, seed: seed, want: "unknown authority"},
		"another name":                       {node: elsewhere, seed: elsewhereSeed, tls: publish.TLS{CAFile: ca.File}, want: "127.0.0.1"},
		"a client certificate":               {node: closed, seed: closedSeed, tls: own},
		"no client certificate":              {node: closed, seed: closedSeed, tls: publish.TLS{CAFile: ca.File}, want: "certificate required"},
		"a client certificate of another CA": {node: closed, seed: closedSeed, tls: strange, want: "unknown certificate authority"},
		"a node without TLS":                 {node: plain, seed: plainSeed, tls: publish.TLS{CAFile: ca.File}, scheme: "tls", want: "does not look like a TLS handshake"},
		"a client without TLS":               {node: open, seed: seed, scheme: "nats", want: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, test.node, test.seed)
			s.TLS = test.tls
			if test.scheme != "" {
				_, address, _ := strings.Cut(s.URL, "://")
				s.URL = test.scheme + "://" + address
			}
			log := &log{}
			s.Log = slog.New(slog.NewTextHandler(log, nil))
			s.add(1)
			p := s.publisher()
			if test.want == "" {
				if err := drain(t, p, 30*time.Second); err != nil || s.spool.Stats().Pending != 0 {
					t.Fatalf("%v: %+v", err, p.Status())
				}
				return
			}
			for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), test.want) && time.Now().Before(end); {
				if err := drain(t, p, 3*time.Second); err == nil {
					t.Fatal("delivered")
				}
			}
			if !strings.Contains(log.String(), test.want) {
				t.Errorf("not said: %q\n%s", test.want, log)
			}
			if s.spool.Stats().Pending != 1 {
				t.Errorf("the spool: %+v", s.spool.Stats())
			}
		})
	}
}

// log is one that several goroutines write.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestRenewedFiles: at its next connect a running publisher shows and believes
// what the files hold then.
func TestRenewedFiles(t *testing.T) {
	ca, clients := ledgertest.NewAuthority(t), ledgertest.NewAuthority(t)
	files := bus.TLS{ClientCAFile: clients.File}
	files.CertFile, files.KeyFile = ca.Issue("node", "127.0.0.1")
	n, seed := startNodeTLS(t, files)
	s := newStation(t, n, seed)
	s.TLS = publish.TLS{CAFile: t.TempDir() + "/ca.pem"}
	stranger := ledgertest.NewAuthority(t)
	s.TLS.CertFile, s.TLS.KeyFile = stranger.Issue("web-1")
	copyFile(t, stranger.File, s.TLS.CAFile)
	s.add(1)
	p := s.publisher()
	if err := drain(t, p, time.Second); err == nil {
		t.Fatal("delivered")
	}
	done := make(chan error, 1)
	go func() { done <- drain(t, p, 60*time.Second) }()
	time.Sleep(200 * time.Millisecond) // the publisher is connecting
	cert, key := clients.Issue("web-1")
	copyFile(t, ca.File, s.TLS.CAFile)
	copyFile(t, cert, s.TLS.CertFile)
	copyFile(t, key, s.TLS.KeyFile)
	if err := <-done; err != nil {
		t.Fatalf("%v: %+v", err, p.Status())
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTLSFiles: what cannot work is said before anybody connects.
func TestTLSFiles(t *testing.T) {
	ca := ledgertest.NewAuthority(t)
	cert, key := ca.Issue("web-1")
	_, other := ca.Issue("web-2")
	open, openKey := ca.Issue("open")
	if err := os.Chmod(openKey, 0o604); err != nil {
		t.Fatal(err)
	}
	const node = "tls://ledger.example.org:4222"
	for name, test := range map[string]struct {
		address string
		files   publish.TLS
		want    string
	}{
		"all is right":           {node, publish.TLS{CAFile: ca.File, CertFile: cert, KeyFile: key}, ""},
		"the system's CAs":       {node, publish.TLS{}, ""},
		"this machine":           {"nats://localhost:4222", publish.TLS{}, ""},
		"this machine, IPv6":     {"nats://[::1]:4222", publish.TLS{}, ""},
		"files without TLS":      {"nats://127.0.0.1:4222", publish.TLS{CAFile: ca.File}, "use tls://"},
		"in the clear elsewhere": {"nats://ledger.example.org:4222", publish.TLS{}, "not encrypted"},
		"in the clear, address":  {"nats://192.0.2.1:4222", publish.TLS{}, "not encrypted"},
		"no host":                {"tls://:4222", publish.TLS{}, "is not an address"},
		"another scheme":         {"ws://127.0.0.1:4222", publish.TLS{}, "is not an address"},
		"a password in it":       {"tls://a:b@127.0.0.1:4222", publish.TLS{}, "is not an address"},
		"a certificate alone":    {node, publish.TLS{CertFile: cert}, "needs its key"},
		"a key alone":            {node, publish.TLS{KeyFile: key}, "needs its key"},
		"another's key":          {node, publish.TLS{CertFile: cert, KeyFile: other}, "does not match"},
		"a readable key":         {node, publish.TLS{CertFile: open, KeyFile: openKey}, "can be read by others"},
		"no such CA":             {node, publish.TLS{CAFile: "nowhere.pem"}, "nowhere.pem"},
		"a CA that is none":      {node, publish.TLS{CAFile: key}, "holds no certificate"},
	} {
		err := test.files.Check(test.address)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestNothingBeforeTheHandshake: one who answers like a NATS server in the clear
// does not hear who we are.
func TestNothingBeforeTheHandshake(t *testing.T) {
	n, seed := startNode(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan []byte, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(time.Second))
			conn.Write([]byte("INFO {\"server_id\":\"x\",\"version\":\"2.15.0\",\"nonce\":\"abc\",\"max_payload\":1048576}\r\n"))
			b := make([]byte, 4096)
			k, _ := conn.Read(b)
			heard <- b[:k]
			conn.Close()
		}
	}()
	s := newStation(t, n, seed)
	s.URL, s.TLS = "tls://"+l.Addr().String(), publish.TLS{CAFile: ledgertest.NewAuthority(t).File}
	s.add(1)
	if err := drain(t, s.publisher(), time.Second); err == nil {
		t.Error("delivered")
	}
	select {
	case b := <-heard:
		if len(b) == 0 || b[0] != 0x16 || bytes.Contains(b, []byte("CONNECT")) || bytes.Contains(b, []byte("nkey")) {
			t.Errorf("heard %q", b)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing was heard at all")
	}
}
