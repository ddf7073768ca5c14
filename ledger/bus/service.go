package bus

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/nats-io/nats.go/micro"
	"golang.org/x/mod/semver"

	"evidence-ledger/verify/syntax"
)

// ErrNotFound is a Handler's answer for what the log does not hold (404).
var ErrNotFound = errors.New("not found")

// ErrRequest is a Handler's answer for a request that makes no sense (400); its
// text, with what wraps it, is told to whoever asked.
var ErrRequest = errors.New("bad request")

// Last is the newest event of one signing key and type in the log.
type Last struct {
	Seq     uint64 `json:"seq"`
	Payload string `json:"payload"` // hex SHA-256
}

// Handler answers what collectors ask. Each endpoint calls it from a goroutine
// of its own, one call at a time; it reads only.
type Handler interface {
	// Checkpoint returns the newest signed note.
	Checkpoint() ([]byte, error)
	// Receipt returns the notice (JSON) about one event id of the collector,
	// or ErrNotFound.
	Receipt(collector, id string) ([]byte, error)
	// Consistency returns the proof between two sizes as base64 lines.
	Consistency(old, new uint64) ([]byte, error)
	// Trust returns the raw entries of stream trust with index >= since, in
	// order.
	Trust(since uint64) ([][]byte, error)
	// Refusals returns the notices (JSON) of what was refused of a collector,
	// the newest first.
	Refusals(collector string) ([][]byte, error)
	// Last returns by type the newest event in the log under one key of the
	// collector.
	Last(collector, keyID string) (map[string]Last, error)
}

// maxList bounds what a list in a reply takes, so that it fits a message. A
// longer one is cut after whole elements: of trust, ask again from the index
// after the last; of refusals, the newest come first.
const maxList = MaxPayload - 64<<10

// Serve registers the micro service "ledger" and answers from now on.
//
//	ledger.v1.checkpoint            {}                   -> {"checkpoint": "<note>"}
//	ledger.v1.receipt.<collector>   {"id": "<uuid>"}     -> notice, or error 404
//	ledger.v1.consistency           {"old": 3, "new": 7} -> {"proof": "<base64 lines>"}
//	ledger.v1.trust                 {"since": 3}         -> {"entries": ["<base64>", ...]}
//	ledger.v1.refusals.<collector>  {}                   -> {"refusals": [notice, ...]}
//	ledger.v1.last.<collector>      {"keyid": "<hex>"}   -> {"last": {"<type>": {"seq": 42, "payload": "<hex>"}}}
//
// Errors come in the headers of NATS micro: 400 what was asked is wrong, 404 it
// does not exist, 500 the node could not.
func (b *Bus) Serve(h Handler) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.service != nil {
		return errors.New("bus: the service runs already")
	}
	service, err := micro.AddService(b.conn, micro.Config{
		Name: "ledger", Version: version(), Description: "what collectors ask an evidence ledger",
	})
	if err != nil {
		return fmt.Errorf("bus: service: %w", err)
	}
	for subject, answer := range answers(h) {
		name, _, _ := strings.Cut(strings.TrimPrefix(subject, "ledger.v1."), ".")
		if err := service.AddEndpoint(name, b.endpoint(subject, answer), micro.WithEndpointSubject(subject)); err != nil {
			return errors.Join(fmt.Errorf("bus: endpoint %s: %w", subject, err), service.Stop())
		}
	}
	b.service = service
	return nil
}

// answer makes a reply to a request's body; collector is empty where the
// subject names none.
type answer func(collector string, body []byte) (any, error)

func answers(h Handler) map[string]answer {
	return map[string]answer{
		"ledger.v1.checkpoint":  answerCheckpoint(h),
		"ledger.v1.receipt.*":   answerReceipt(h),
		"ledger.v1.consistency": answerConsistency(h),
		"ledger.v1.trust":       answerTrust(h),
		"ledger.v1.refusals.*":  answerRefusals(h),
		"ledger.v1.last.*":      answerLast(h),
	}
}

func answerCheckpoint(h Handler) answer {
	return func(_ string, body []byte) (any, error) {
		if err := decode(body, &struct{}{}); err != nil {
			return nil, err
		}
		note, err := h.Checkpoint()
		return struct {
			Checkpoint string `json:"checkpoint"`
		}{string(note)}, err
	}
}

func answerReceipt(h Handler) answer {
	return func(collector string, body []byte) (any, error) {
		var in struct {
			ID string `json:"id"`
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		if err := syntax.UUID7(in.ID); err != nil {
			return nil, fmt.Errorf("%w: id: %w", ErrRequest, err)
		}
		notice, err := h.Receipt(collector, in.ID)
		return jsontext.Value(notice), err
	}
}

func answerConsistency(h Handler) answer {
	return func(_ string, body []byte) (any, error) {
		var in struct {
			Old *uint64 `json:"old"`
			New *uint64 `json:"new"`
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		if in.Old == nil || in.New == nil || *in.Old > *in.New {
			return nil, fmt.Errorf("%w: old and new are two sizes, old not larger than new", ErrRequest)
		}
		proof, err := h.Consistency(*in.Old, *in.New)
		return struct {
			Proof string `json:"proof"`
		}{string(proof)}, err
	}
}

func answerTrust(h Handler) answer {
	return func(_ string, body []byte) (any, error) {
		var in struct {
			Since *uint64 `json:"since"`
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		if in.Since == nil {
			return nil, fmt.Errorf("%w: since is missing", ErrRequest)
		}
		entries, err := h.Trust(*in.Since)
		return struct {
			Entries [][]byte `json:"entries"`
		}{fitting(entries, func(e []byte) int { return len(e)*4/3 + 8 })}, err
	}
}

func answerRefusals(h Handler) answer {
	return func(collector string, body []byte) (any, error) {
		if err := decode(body, &struct{}{}); err != nil {
			return nil, err
		}
		list, err := h.Refusals(collector)
		refusals := []jsontext.Value{}
		for _, notice := range fitting(list, func(n []byte) int { return len(n) + 1 }) {
			refusals = append(refusals, notice)
		}
		return struct {
			Refusals []jsontext.Value `json:"refusals"`
		}{refusals}, err
	}
}

func answerLast(h Handler) answer {
	return func(collector string, body []byte) (any, error) {
		var in struct {
			KeyID string `json:"keyid"`
		}
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		if _, err := syntax.Digest(in.KeyID); err != nil {
			return nil, fmt.Errorf("%w: keyid: %w", ErrRequest, err)
		}
		last, err := h.Last(collector, in.KeyID)
		return struct {
			Last map[string]Last `json:"last"`
		}{last}, err
	}
}

// decode reads a request strictly.
func decode(body []byte, in any) error {
	if err := json.Unmarshal(body, in, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return nil
}

// fitting returns the first elements that fit a reply together.
func fitting(list [][]byte, size func([]byte) int) [][]byte {
	total := 0
	for i, e := range list {
		if total += size(e); total > maxList {
			return list[:i]
		}
	}
	return list
}

// endpoint turns an answer into a handler of NATS micro.
func (b *Bus) endpoint(subject string, a answer) micro.Handler {
	prefix, named := strings.CutSuffix(subject, "*")
	return micro.HandlerFunc(func(r micro.Request) {
		collector := ""
		if named {
			collector = strings.TrimPrefix(r.Subject(), prefix)
		}
		if err := b.respond(r, a, collector); err != nil {
			b.log.Error("reply not sent", "subject", r.Subject(), "error", err)
		}
	})
}

func (b *Bus) respond(r micro.Request, a answer, collector string) error {
	out, err := a(collector, r.Data())
	switch {
	case errors.Is(err, ErrNotFound):
		return r.Error("404", "not found", nil)
	case errors.Is(err, ErrRequest):
		return r.Error("400", printable(err), nil)
	case err != nil:
		b.log.Error("request failed", "subject", r.Subject(), "error", err)
		return r.Error("500", "the node could not answer; its log says why", nil)
	}
	body, err := json.Marshal(out, json.Deterministic(true))
	if err != nil {
		b.log.Error("request failed", "subject", r.Subject(), "error", err)
		return r.Error("500", "the node could not answer; its log says why", nil)
	}
	return r.Respond(body)
}

// printable makes an error fit a header's one line.
func printable(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	return fmt.Sprintf("%.300s", text)
}

// version is the build's, in the form that NATS micro asks for.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || !semver.IsValid(info.Main.Version) {
		return "0.0.0"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}
