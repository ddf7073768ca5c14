package agent

import (
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"evidence-ledger/collectors/publish"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/syntax"
	"evidence-ledger/verify/trust"
)

// Request is what a new collector asks the ledger's admins to enrol: the file
// that `ledger collector enrol` reads. Its members are those of the data of
// trust.collector-enrolled.
type Request struct {
	Name      string `json:"name"`
	PublicKey string `json:"publicKey"`
	// Possession is the key's signature over trust.PossessionMessage.
	Possession string   `json:"possession"`
	Types      []string `json:"types"`
	NKey       string   `json:"nkey"`
}

// ParseRequest reads a request strictly. Whether the possession holds depends
// on the ledger: see CheckPossession.
func ParseRequest(b []byte) (*Request, error) {
	r := new(Request)
	if err := json.Unmarshal(b, r, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the enrolment request: %w", err)
	}
	if err := syntax.Collector(r.Name); err != nil {
		return nil, fmt.Errorf("the enrolment request: name: %w", err)
	}
	if err := checkTypes(r.Types); err != nil {
		return nil, fmt.Errorf("the enrolment request: types: %w", err)
	}
	if _, err := key.Parse(r.PublicKey); err != nil {
		return nil, fmt.Errorf("the enrolment request: %w", err)
	}
	if _, err := syntax.Base64(r.Possession); err != nil {
		return nil, fmt.Errorf("the enrolment request: possession: %w", err)
	}
	return r, nil
}

// CheckPossession tells whether the key in the request signed for this name in
// this ledger.
func (r *Request) CheckPossession(origin string) error {
	k, err := key.Parse(r.PublicKey)
	if err != nil {
		return err
	}
	sig, err := syntax.Base64(r.Possession)
	if err != nil {
		return err
	}
	return k.Verify(trust.PossessionMessage(origin, r.Name, k.ID()), sig)
}

// JSON writes the request, indented for people.
func (r *Request) JSON() ([]byte, error) { return indented(r) }

// ReadIdentity takes an identity line, or the path of a file that holds one.
func ReadIdentity(fileOrLine string) (*checkpoint.Identity, error) {
	line := fileOrLine
	if !strings.HasPrefix(line, "evidence-ledger-identity@") {
		b, err := os.ReadFile(fileOrLine)
		if err != nil {
			return nil, fmt.Errorf("the ledger's identity: %w", err)
		}
		line = string(b)
	}
	return checkpoint.ParseIdentity(strings.TrimSuffix(line, "\n"))
}

// Init makes a collector's folder with new keys and returns its enrolment
// request. An empty Host, Timezone or Schedule is filled in, and nats:// before a
// Node that is host:port. TLS files are there already, so their paths are absolute.
// The folder appears under its name complete or not at all, and none is ever
// overwritten: with a spool its numbers would be lost.
func Init(dir string, c Config, id *checkpoint.Identity) (_ *Request, err error) {
	if err := c.fillIn(); err != nil {
		return nil, err
	}
	if err := c.tls(dir).Check(c.Node); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s exists already and is not overwritten", dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".collector-init-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work) // nothing is there any more when all went well
	request, err := fill(work, c, id)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return request, os.Rename(work, dir)
}

func (c *Config) fillIn() (err error) {
	if c.Node != "" && !strings.Contains(c.Node, "://") {
		c.Node = "nats://" + c.Node
	}
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			return err
		}
	}
	if c.Timezone == "" {
		c.Timezone = hostZone()
	}
	if c.Schedule == "" {
		c.Schedule = DefaultSchedule
	}
	return c.check()
}

func fill(dir string, c Config, id *checkpoint.Identity) (*Request, error) {
	signing, err := sign.GenerateEd25519File(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	nkey, err := publish.GenerateSeed(filepath.Join(dir, seedFile))
	if err != nil {
		return nil, err
	}
	possession, err := signing.Sign(trust.PossessionMessage(id.Origin, c.Name, signing.Public().ID()))
	if err != nil {
		return nil, err
	}
	request := &Request{c.Name, signing.Public().String(), base64.StdEncoding.EncodeToString(possession), c.Types, nkey}
	requestJSON, err := request.JSON()
	if err != nil {
		return nil, err
	}
	configJSON, err := c.JSON()
	if err != nil {
		return nil, err
	}
	return request, errors.Join(
		os.WriteFile(filepath.Join(dir, requestFile), requestJSON, 0o644),
		os.WriteFile(filepath.Join(dir, identityFile), []byte(id.String()+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, configFile), configJSON, 0o644))
}
