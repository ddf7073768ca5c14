package submission

import (
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

// Refusal says why the node has not appended a submission.
type Refusal struct {
	// Code, Where and Text are those of the problem.
	Code  string `json:"code"`
	Where string `json:"where"`
	Text  string `json:"text"`
	// Payload is the hex SHA-256 of the refused payload; empty where none
	// could be read.
	Payload string `json:"payload"`
	// Signed: the payload is correctly signed under a key that was enrolled.
	// Only then may the collector give up the number.
	Signed bool `json:"signed"`
	// Time is the node's clock.
	Time string `json:"time"`
}

// Notice is what the node tells a collector about one submission: exactly one
// of Receipt and Refusal is there.
type Notice struct {
	// ID is the event's id; a refusal may not know it.
	ID string `json:"id"`
	// Receipt is the text of a tlog-proof; nobody has verified it yet.
	Receipt string   `json:"receipt,omitzero"`
	Refusal *Refusal `json:"refusal,omitzero"`
}

// ParseNotice reads a notice.
func ParseNotice(raw []byte) (*Notice, error) {
	if len(raw) > MaxBody {
		return nil, problem.New("submission.size", "", "the notice has %d bytes, at most %d are allowed", len(raw), MaxBody)
	}
	n := &Notice{}
	if err := decode(raw, n); err != nil {
		return nil, err
	}
	if (n.Receipt == "") == (n.Refusal == nil) {
		return nil, problem.New("submission.notice", "", "the notice does not have exactly one of receipt and refusal")
	}
	if n.Refusal != nil {
		if err := n.Refusal.check(); err != nil {
			return nil, err
		}
		return n, nil
	}
	if err := syntax.UUID7(n.ID); err != nil {
		return nil, problem.New("submission.notice", "id", "%v", err)
	}
	return n, nil
}

func (r *Refusal) check() error {
	if r.Code == "" || r.Text == "" {
		return problem.New("submission.notice", "refusal", "the refusal has no code or no text")
	}
	if _, err := syntax.Digest(r.Payload); err != nil && r.Payload != "" {
		return problem.New("submission.notice", "refusal.payload", "%v", err)
	}
	if _, err := syntax.Time(r.Time); err != nil {
		return problem.New("submission.notice", "refusal.time", "%v", err)
	}
	return nil
}

// JSON writes the notice.
func (n *Notice) JSON() []byte { return encode(n) }
