package agent

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/robfig/cron/v3"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/verify/syntax"
)

// The files of a collector's folder.
const (
	configFile   = "config.json"
	requestFile  = "request.json"
	identityFile = "identity"
	keyFile      = "signing-key.pem"
	seedFile     = "nkey.seed"
	spoolFile    = "spool.db"
	socketFile   = "collector.sock"
)

// DefaultSchedule is how often `run` collects unless told otherwise.
const DefaultSchedule = "@every 5m"

// Config is DIR/config.json, strict JSON: an unknown or doubled member is an
// error, so that a slip of the pen does not silently mean a default.
type Config struct {
	// Name is the name that the ledger's admins enrol, as "web-1".
	Name string `json:"name"`
	// Node is the URL of the node's NATS server: "nats://127.0.0.1:4222" on the
	// same machine, "tls://ledger.example.org:4222" from any other.
	Node string `json:"node"`
	// CA is the file (PEM) of the CAs that may vouch for a tls:// node; absent,
	// the system's. Here and below a path that is not absolute is inside the
	// collector's folder.
	CA string `json:"ca,omitzero"`
	// Cert and Key are the files of our own certificate, for a node that asks
	// for one, and its key. All three are read at each connect.
	Cert string `json:"cert,omitzero"`
	Key  string `json:"key,omitzero"`
	// Types are the evidence types to collect, or patterns such as "patch.*".
	// They are a part of the enrolment: more of them need a new one.
	Types []string `json:"types"`
	// Host is the name of this server in each event's scope.
	Host string `json:"host"`
	// Timezone is the zone of the times in this server's logs, which do not say
	// it themselves, as "Europe/Berlin".
	Timezone string `json:"timezone"`
	// Schedule is when `run` collects, besides once at its start: five cron
	// fields, or "@every 5m".
	Schedule string `json:"schedule"`
	// SpoolBytes is how much may wait for its receipt; absent, 1 GiB.
	SpoolBytes int64 `json:"spoolBytes,omitzero"`
	// Sources are file patterns (globs) by the kind of log. A kind that is
	// absent has the default of its collector; `collector list` shows it.
	Sources map[string][]string `json:"sources,omitempty"`
}

// ParseConfig reads a configuration strictly and checks it.
func ParseConfig(b []byte) (*Config, error) {
	c := new(Config)
	if err := json.Unmarshal(b, c, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	return c, nil
}

func (c *Config) check() error {
	if err := syntax.Collector(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if c.Name == "node" {
		return fmt.Errorf("name: the name node is the ledger node's own (trust.name-reserved)")
	}
	if err := c.checkNode(); err != nil {
		return err
	}
	if err := checkTypes(c.Types); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	if c.Host == "" || len(c.Host) > 253 || strings.ContainsFunc(c.Host, unicode.IsControl) {
		return fmt.Errorf("host: %.80q is not a host's name", c.Host)
	}
	if _, err := c.Zone(); err != nil {
		return fmt.Errorf("timezone: %w", err)
	}
	if _, err := cron.ParseStandard(c.Schedule); err != nil {
		return fmt.Errorf("schedule: %w", err)
	}
	if c.SpoolBytes < 0 {
		return fmt.Errorf("spoolBytes: %d is negative", c.SpoolBytes)
	}
	for kind, globs := range c.Sources {
		for _, glob := range globs {
			if _, err := filepath.Match(glob, ""); err != nil || !filepath.IsAbs(glob) {
				return fmt.Errorf("sources.%s: %.120q is not the pattern of an absolute path", kind, glob)
			}
		}
	}
	return nil
}

// JSON writes the configuration, indented for people.
func (c *Config) JSON() ([]byte, error) { return indented(c) }

func indented(v any) ([]byte, error) {
	b, err := json.Marshal(v, jsontext.Multiline(true), jsontext.WithIndent("  "), json.Deterministic(true))
	return append(b, '\n'), err
}

// Zone loads Timezone. "Local" is refused: it means another thing elsewhere.
func (c *Config) Zone() (*time.Location, error) {
	if c.Timezone == "" || c.Timezone == "Local" {
		return nil, fmt.Errorf("%q is not the name of a zone such as Europe/Berlin", c.Timezone)
	}
	return time.LoadLocation(c.Timezone)
}

// tls is what publish needs to know of the folder's TLS files.
func (c *Config) tls(dir string) publish.TLS {
	path := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	return publish.TLS{CAFile: path(c.CA), CertFile: path(c.Cert), KeyFile: path(c.Key)}
}

func (c *Config) checkNode() error {
	u, err := publish.CheckURL(c.Node)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if u.Scheme != "tls" && (c.CA != "" || c.Cert != "" || c.Key != "") {
		return fmt.Errorf("node: %s is without TLS, but ca, cert or key is given; use tls://", c.Node)
	}
	if (c.Cert == "") != (c.Key == "") {
		return fmt.Errorf("cert, key: one of them makes no sense without the other")
	}
	return nil
}

func checkTypes(types []string) error {
	if len(types) == 0 {
		return fmt.Errorf("none is given, as in patch.*")
	}
	for _, t := range types {
		if err := syntax.TypePattern(t); err != nil {
			return err
		}
		if syntax.Reserved(t) {
			return fmt.Errorf("%s is reserved for the ledger itself", t)
		}
	}
	return nil
}

// hostZone guesses the zone of this server.
func hostZone() string {
	target, err := filepath.EvalSymlinks("/etc/localtime")
	if _, name, ok := strings.Cut(target, "/zoneinfo/"); err == nil && ok {
		if _, err := time.LoadLocation(name); err == nil {
			return name
		}
	}
	if b, err := os.ReadFile("/etc/timezone"); err == nil {
		name := strings.TrimSpace(string(b))
		if _, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
			return name
		}
	}
	return "UTC"
}
