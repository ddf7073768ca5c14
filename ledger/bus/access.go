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

// An account is a subject space of its own. The node has one, which alone has
// JetStream, and each collector has one, named as it is; what crosses between
// them is listed in wire and join. Permissions alone would not do: they do not
// look at the reply subject of a message, to which the server and the node
// send. In one common space a collector could name there what it may not
// publish to itself: $JS.API, or another collector's notices
// (TestReplySubjectReachesNothing). In its own space there is nobody but itself.
const nodeAccount = "NODE"

// requests are the subjects of Serve; the last level stands for the collector.
var requests = []string{
	"ledger.v1.checkpoint", "ledger.v1.consistency", "ledger.v1.trust",
	"ledger.v1.receipt.*", "ledger.v1.refusals.*", "ledger.v1.last.*",
}

// requests returns the requests that a collector may make.
func (g Grant) requests() []string {
	var out []string
	for _, r := range requests {
		out = append(out, strings.Replace(r, "*", g.Name, 1))
	}
	return out
}

// permissions spells a grant out for nats-server.
func (g Grant) permissions() (*server.Permissions, error) {
	if err := syntax.Collector(g.Name); err != nil {
		return nil, err
	}
	publish := g.requests()
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

	// mu also orders Check and reauthorize: a connection either is in clients
	// when reauthorize looks, or asks authorize after it.
	mu       sync.Mutex
	clients  map[uint64]client
	accounts map[string]*server.Account // by collector
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
	return &access{own: pub, authorize: authorize, log: log,
		clients: map[uint64]client{}, accounts: map[string]*server.Account{}}, nil
}

// wire lets the node's account take and give what crosses. It is called before
// the server starts.
func (a *access) wire(s *server.Server) (err error) {
	a.server = s
	if a.node, err = s.LookupAccount(nodeAccount); err != nil {
		return err
	}
	for _, subject := range append([]string{submissions}, requests...) {
		if err := a.node.AddServiceExport(subject, nil); err != nil {
			return fmt.Errorf("export %s: %w", subject, err)
		}
	}
	if err := a.node.AddStreamExport(notices+"*", nil); err != nil {
		return fmt.Errorf("export %s*: %w", notices, err)
	}
	return nil
}

// join returns the collector's account, made when it first connects. One that
// could not be wired stays unusable: its name is taken then.
func (a *access) join(g Grant) (*server.Account, error) {
	if account, ok := a.accounts[g.Name]; ok {
		return account, nil
	}
	account, err := a.server.RegisterAccount(g.Name)
	if err != nil {
		return nil, err
	}
	for _, subject := range append(g.requests(), "evidence.v1."+g.Name+".>") {
		if err := account.AddServiceImport(a.node, subject, subject); err != nil {
			return nil, fmt.Errorf("import %s: %w", subject, err)
		}
	}
	if err := account.AddStreamImport(a.node, notices+g.Name, ""); err != nil {
		return nil, fmt.Errorf("import %s%s: %w", notices, g.Name, err)
	}
	a.accounts[g.Name] = account
	return account, nil
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
	if err := a.admit(c, grant); err != nil {
		a.log.Error("connection refused", "remote", c.RemoteAddress(), "nkey", nkey, "reason", err)
		return false
	}
	a.forgetClosed()
	a.clients[c.GetID()] = client{nkey: nkey, grant: grant.sorted()}
	return true
}

// admit gives a connection its account and permissions.
func (a *access) admit(c server.ClientAuthentication, g Grant) error {
	permissions, err := g.permissions()
	if err != nil {
		return err
	}
	account, err := a.join(g)
	if err != nil {
		return err
	}
	c.RegisterUser(&server.User{Username: g.Name, Account: account, Permissions: permissions})
	return nil
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
