package bus

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"evidence-ledger/verify/syntax"
)

// Grant is what one NKEY may do: publish these types under this name, ask the
// node, and read what is said to this name.
type Grant struct {
	// Name is the collector's enrolled name.
	Name string
	// Types are evidence types and patterns such as "patch.*".
	Types []string
}

// Two accounts keep the node and the collectors apart. Only the node's has
// JetStream: in the collectors' there is no $JS.API at all, neither to publish
// to nor to name as the reply subject of a message, by which a client would
// let the server send in its place what it may not send itself. What crosses is
// listed here.
const (
	nodeAccount      = "NODE"
	collectorAccount = "COLLECTORS"
)

var requests = []string{
	"ledger.v1.checkpoint", "ledger.v1.consistency", "ledger.v1.trust",
	"ledger.v1.receipt.*", "ledger.v1.refusals.*", "ledger.v1.last.*",
}

// permissions spells a grant out for nats-server.
func (g Grant) permissions() (*server.Permissions, error) {
	if err := syntax.Collector(g.Name); err != nil {
		return nil, err
	}
	publish := []string{}
	for _, r := range requests {
		publish = append(publish, strings.Replace(r, "*", g.Name, 1))
	}
	for _, t := range g.Types {
		if err := syntax.TypePattern(t); err != nil {
			return nil, err
		}
		// "patch.*" allows every type below patch, so several levels.
		if prefix, wild := strings.CutSuffix(t, "*"); wild {
			t = prefix + ">"
		}
		publish = append(publish, "evidence.v1."+g.Name+"."+t)
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: []string{notices + g.Name, "_INBOX." + g.Name + ".>"}},
	}, nil
}

func (g Grant) equal(h Grant) bool {
	return g.Name == h.Name && slices.Equal(g.Types, h.Types)
}

// sorted returns a copy whose types stand in order, for comparing.
func (g Grant) sorted() Grant {
	return Grant{Name: g.Name, Types: slices.Sorted(slices.Values(g.Types))}
}

// access decides who may connect and remembers under which grant.
type access struct {
	own       string // the node's own public NKEY
	authorize func(nkey string) (Grant, bool)
	log       *slog.Logger
	server    *server.Server
	node      *server.Account
	collector *server.Account

	// mu also orders Check and reauthorize: a connection either is in clients
	// when reauthorize looks, or asks authorize after it.
	mu      sync.Mutex
	clients map[uint64]client
}

type client struct {
	nkey  string
	grant Grant
}

func newAccess(own nkeys.KeyPair, authorize func(string) (Grant, bool), log *slog.Logger) (*access, error) {
	pub, err := own.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return &access{own: pub, authorize: authorize, log: log, clients: map[uint64]client{}}, nil
}

// wire connects the two accounts. It is called before the server starts.
func (a *access) wire(s *server.Server) (err error) {
	a.server = s
	if a.node, err = s.LookupAccount(nodeAccount); err != nil {
		return err
	}
	if a.collector, err = s.LookupAccount(collectorAccount); err != nil {
		return err
	}
	to := []*server.Account{a.collector}
	for _, subject := range append([]string{submissions}, requests...) {
		if err := a.node.AddServiceExport(subject, to); err != nil {
			return fmt.Errorf("export %s: %w", subject, err)
		}
		if err := a.collector.AddServiceImport(a.node, subject, subject); err != nil {
			return fmt.Errorf("import %s: %w", subject, err)
		}
	}
	if err := a.node.AddStreamExport(notices+"*", to); err != nil {
		return fmt.Errorf("export %s*: %w", notices, err)
	}
	if err := a.collector.AddStreamImport(a.node, notices+"*", ""); err != nil {
		return fmt.Errorf("import %s*: %w", notices, err)
	}
	return nil
}

// Check implements server.Authentication.
func (a *access) Check(c server.ClientAuthentication) bool {
	nkey := c.GetOpts().Nkey
	if c.Kind() != server.CLIENT || !proves(nkey, c.GetOpts().Sig, c.GetNonce()) {
		a.log.Warn("connection refused", "remote", c.RemoteAddress(), "nkey", nkey, "reason", "no valid NKEY signature")
		return false
	}
	if nkey == a.own {
		c.RegisterUser(&server.User{Username: "node", Account: a.node})
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	grant, ok := a.authorize(nkey)
	if !ok {
		a.log.Warn("connection refused", "remote", c.RemoteAddress(), "nkey", nkey, "reason", "this NKEY is not enrolled")
		return false
	}
	permissions, err := grant.permissions()
	if err != nil {
		a.log.Error("connection refused", "remote", c.RemoteAddress(), "nkey", nkey, "reason", err)
		return false
	}
	c.RegisterUser(&server.User{Username: grant.Name, Account: a.collector, Permissions: permissions})
	a.forgetClosed()
	a.clients[c.GetID()] = client{nkey: nkey, grant: grant.sorted()}
	return true
}

// proves tells whether sig is the NKEY's signature of the nonce.
func proves(nkey, sig string, nonce []byte) bool {
	if !nkeys.IsValidPublicUserKey(nkey) || len(nonce) == 0 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		return false
	}
	key, err := nkeys.FromPublicKey(nkey)
	return err == nil && key.Verify(nonce, raw) == nil
}

// forgetClosed keeps clients as small as the number of connections: the server
// tells nobody when one goes.
func (a *access) forgetClosed() {
	for id := range a.clients {
		if a.server.GetClient(id) == nil {
			delete(a.clients, id)
		}
	}
}

func (a *access) reauthorize() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetClosed()
	for id, c := range a.clients {
		grant, ok := a.authorize(c.nkey)
		if ok && grant.sorted().equal(c.grant) {
			continue
		}
		delete(a.clients, id)
		a.log.Info("connection closed", "nkey", c.nkey, "collector", c.grant.Name, "reason", "its grant has changed")
		if err := a.server.DisconnectClientByID(id); err != nil {
			a.log.Debug("connection was gone already", "nkey", c.nkey, "error", err)
		}
	}
}
