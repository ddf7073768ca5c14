package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evidence-ledger/collectors/agent"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/ledgertest"
)

// TestTLS: the files that config.json names reach the connection, those inside
// the folder by their bare names.
func TestTLS(t *testing.T) {
	ca, clients := ledgertest.NewAuthority(t), ledgertest.NewAuthority(t)
	files := bus.TLS{ClientCAFile: clients.File}
	files.CertFile, files.KeyFile = ca.Issue("node", "127.0.0.1")
	asked := make(chan string, 100)
	b, err := bus.Start(t.Context(), bus.Options{Listen: "127.0.0.1:0", TLS: files, StoreDir: t.TempDir(), Logger: quiet(),
		Authorize: func(nkey string) (bus.Grant, bool) { asked <- nkey; return bus.Grant{}, false }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())

	c := config()
	c.Node, c.CA = b.ClientURL(), ca.File
	c.Cert, c.Key = clients.Issue("web-1")
	dir := filepath.Join(t.TempDir(), "data")
	request, err := agent.Init(dir, c, identity())
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{c.CA: "ca.pem", c.Cert: "web-1.pem", c.Key: "web-1.key"} {
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	c = *mustConfig(t, dir)
	c.CA, c.Cert, c.Key = "ca.pem", "web-1.pem", "web-1.key"
	raw, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir, &source{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, func() {}) }()
	select {
	case nkey := <-asked: // after the handshake
		if nkey != request.NKey {
			t.Errorf("NKEY %s", nkey)
		}
	case <-time.After(20 * time.Second):
		t.Error("the collector does not get through to the node")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTLSRefused: slips in configuration and files are found at init.
func TestTLSRefused(t *testing.T) {
	ca := ledgertest.NewAuthority(t)
	cert, key := ca.Issue("web-1")
	_, open := ca.Issue("open")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*agent.Config){
		"use tls://":            func(c *agent.Config) { c.Node, c.CA = "nats://127.0.0.1:4222", ca.File },
		"is not encrypted":      func(c *agent.Config) { c.Node = "nats://ledger.example.org:4222" },
		"without the other":     func(c *agent.Config) { c.Cert = cert },
		"can be read by others": func(c *agent.Config) { c.Cert, c.Key = cert, open },
		"nowhere.pem":           func(c *agent.Config) { c.CA = "/nowhere.pem" },
		"holds no certificate":  func(c *agent.Config) { c.CA = key },
	} {
		c := config()
		c.Node = "tls://ledger.example.org:4222"
		change(&c)
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := agent.Init(dir, c, identity()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a folder was made", want)
		}
	}
}
