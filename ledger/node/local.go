package node

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"evidence-ledger/ledger"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
)

// The local API, HTTP over DIR/node.sock, for whoever may open the socket:
//
//	POST /v1/snapshot  makes a copy of the store in DIR/snapshots/<body>, answers {}; who asked removes it
//	POST /v1/trust     appends an envelope of stream trust, answers {"index": N}
//	GET  /v1/status    answers Status
//
// Errors are {"error": "...", "problem": {...}}.
const socketName = "node.sock"

// Status is how a node is.
type Status struct {
	Origin  string `json:"origin"`
	Size    uint64 `json:"size"`
	NATS    string `json:"nats"`
	HTTP    string `json:"http"`
	Taken   uint64 `json:"taken"`
	Stalled string `json:"stalled"` // why nothing is taken just now
}

type failure struct {
	Error   string           `json:"error"`
	Problem *problem.Problem `json:"problem,omitzero"`
}

func (n *Node) listenLocal() error {
	path := filepath.Join(n.c.Dir, socketName)
	// The store is locked by us, so a socket that is there belongs to nobody.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an old socket: %w", err)
	}
	var err error
	if n.socket, err = net.Listen("unix", shorter(path)); err != nil {
		return fmt.Errorf("listen on %s (at most 107 bytes of path are allowed): %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/snapshot", reply(n.snapshot))
	mux.HandleFunc("POST /v1/trust", reply(n.trust))
	mux.HandleFunc("GET /v1/status", reply(n.status))
	n.local = server(mux)
	return nil
}

// shorter names a socket relative to the working folder where that is the
// shorter name: the system takes no more than 107 bytes.
func shorter(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

func reply[T any](handle func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var out any
		out, err := handle(r)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			out = failure{Error: err.Error(), Problem: problem.Of(err)}
		}
		json.MarshalWrite(w, out) // whoever has gone does not hear it
	}
}

func (n *Node) status(*http.Request) (Status, error) {
	head := n.ledger.Head()
	return Status{Origin: head.Origin, Size: head.Size, NATS: n.NATS(), HTTP: n.HTTP(), Taken: n.ingest.Taken(), Stalled: n.ingest.Stalled()}, nil
}

type snapshotReply struct{}

// snapshot makes a copy under the name that the client has chosen: it will open
// and remove nothing else, whoever answers.
func (n *Node) snapshot(r *http.Request) (out snapshotReply, err error) {
	name, err := io.ReadAll(io.LimitReader(r.Body, 100))
	if err != nil {
		return out, err
	}
	if err := uuid.Validate(string(name)); err != nil {
		return out, fmt.Errorf("the copy's name: %w", err)
	}
	if err := os.MkdirAll(n.snapshots(), 0o700); err != nil {
		return out, err
	}
	return out, n.store.Checkpoint(filepath.Join(n.snapshots(), string(name)))
}

type trustReply struct {
	Index uint64 `json:"index"`
}

func (n *Node) trust(r *http.Request) (out trustReply, err error) {
	envelope, err := io.ReadAll(io.LimitReader(r.Body, event.MaxEnvelope+1))
	if err != nil {
		return out, err
	}
	out.Index, err = appendTrust(n.ledger, envelope)
	n.bus.Reauthorize()
	return out, err
}

// appendTrust appends an admins' action.
func appendTrust(l *ledger.Ledger, envelope []byte) (uint64, error) {
	c := ledger.NewCandidate(envelope, event.Builtin())
	if c.Err == nil && entry.StreamOf(c.Event.Type) != "trust" {
		return 0, fmt.Errorf("%s is no admins' action", c.Event.Type)
	}
	out, err := l.Append([]*ledger.Candidate{c})
	if err != nil {
		return 0, err
	}
	return out[0].Index, out[0].Err
}
