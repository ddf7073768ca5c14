package node

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"evidence-ledger/ledger/recheck"
	"evidence-ledger/ledger/store"
)

// Client talks to the node that runs on a data directory.
type Client struct{ http *http.Client }

// ErrNotRunning says that no node runs on the directory.
var ErrNotRunning = errors.New("no node runs on this directory")

// Dial finds the running node of a directory, or ErrNotRunning.
func Dial(dir string) (*Client, error) {
	path, err := filepath.Abs(filepath.Join(dir, socketName))
	if err != nil {
		return nil, err
	}
	path = shorter(path)
	conn, err := net.Dial("unix", path)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("reach the node at %s: %w", path, err)
	}
	conn.Close()
	return &Client{&http.Client{Timeout: answerWait, CheckRedirect: noRedirect, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}, nil
}

// answerWait bounds how long a node may take to answer: whoever listens on the
// socket and says nothing hangs nobody (TestSilentSocket).
var answerWait = 20 * time.Second

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (c *Client) call(method, path string, body []byte, out any) error {
	req, err := http.NewRequest(method, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("whoever listens on node.sock does not answer as a node: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return json.Unmarshal(raw, out)
	}
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil || f.Error == "" {
		return fmt.Errorf("ask the node: %s: %.200q", resp.Status, raw)
	}
	if f.Problem != nil && f.Problem.Code != "" {
		return f.Problem
	}
	return errors.New(f.Error)
}

// Status asks how the node is.
func (c *Client) Status() (s Status, err error) { return s, c.call("GET", "/v1/status", nil, &s) }

// View is a directory as it lies there, for reading.
type View struct {
	*recheck.Dir
	store *store.Store
	copy  string
}

const (
	// startWait is how long a command waits for a node that has the store open
	// and no socket yet.
	startWait = 5 * time.Second
	// copyTries is how often a copy is made again when it was not the directory's
	// own files, because the node moved them meanwhile.
	copyTries = 5
)

// Open opens a directory for reading: the store itself, or, while a node has
// it open, a copy that the node makes below DIR/snapshots and that must consist
// of the directory's own files: whoever answers on the socket cannot show us
// others (TestLyingSocket).
func Open(dir, secondPlace string) (*View, error) {
	c := Config{Dir: dir, SecondPlace: secondPlace}
	v := &View{}
	var err error
	v.Dir, err = recheck.Read(c.second(), store.NewArtifacts(nil, dir), func() (*store.Snapshot, error) {
		if err := v.open(dir); err != nil {
			return nil, err
		}
		return v.store.Snapshot(), nil
	})
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *View) open(dir string) error {
	for end := time.Now().Add(startWait); ; time.Sleep(100 * time.Millisecond) {
		client, err := Dial(dir)
		if err == nil {
			return v.openCopy(client, dir)
		}
		if !errors.Is(err, ErrNotRunning) {
			return err
		}
		v.store, err = store.Open(dir, store.Options{ReadOnly: true})
		if !errors.Is(err, store.ErrLocked) || time.Now().After(end) {
			return err
		}
	}
}

func (v *View) openCopy(client *Client, dir string) error {
	for try := 1; ; try++ {
		name := uuid.NewString()
		if err := client.call("POST", "/v1/snapshot", []byte(name), &snapshotReply{}); err != nil {
			return err
		}
		v.copy = filepath.Join(dir, "snapshots", name)
		err := store.SameFiles(v.copy, dir)
		if err == nil {
			v.store, err = store.Open(v.copy, store.Options{ReadOnly: true})
			return err
		}
		if err := os.RemoveAll(v.copy); err != nil {
			return err
		}
		if try == copyTries {
			return fmt.Errorf("the copy that the node made is not of the files in %s: %w; stop the node and verify again", dir, err)
		}
	}
}

// Close lets the files go, and removes the copy.
func (v *View) Close() error {
	var errs []error
	if v.Dir != nil && v.Snapshot != nil {
		v.Snapshot.Close()
	}
	if v.store != nil {
		errs = append(errs, v.store.Close())
	}
	if v.copy != "" {
		errs = append(errs, os.RemoveAll(v.copy))
	}
	return errors.Join(errs...)
}

// AppendTrust appends an admins' action: through the running node, or, where
// none runs, by opening the ledger itself.
func AppendTrust(c Config, envelope []byte) (index uint64, err error) {
	c = c.withDefaults()
	for end := time.Now().Add(startWait); ; time.Sleep(100 * time.Millisecond) {
		client, err := Dial(c.Dir)
		if err == nil {
			var out trustReply
			err = client.call("POST", "/v1/trust", envelope, &out)
			return out.Index, err
		}
		if !errors.Is(err, ErrNotRunning) {
			return 0, err
		}
		s, l, err := openLedger(c)
		if errors.Is(err, store.ErrLocked) && time.Now().Before(end) {
			continue
		}
		if err != nil {
			return 0, err
		}
		index, err = appendTrust(l, envelope)
		return index, errors.Join(err, s.Close())
	}
}
