package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"evidence-ledger/verify/key"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const (
	// PayloadType is the only DSSE payload type.
	PayloadType = "application/vnd.in-toto+json"
	// MaxPayload and MaxEnvelope bound the bytes of each, so that an entry
	// fits into the 16-bit length of an entry bundle.
	MaxPayload  = 48_000
	MaxEnvelope = 65_000
)

// Signature is one signature of an envelope; nobody has verified it.
type Signature struct {
	// KeyID is the hex SHA-256 of the key's DER SubjectPublicKeyInfo.
	KeyID string
	Sig   []byte
}

// Envelope is a DSSE envelope whose form is right. Its signatures are not
// verified: see VerifySignature.
type Envelope struct {
	// Raw is exactly as received, from "{" to "}".
	Raw        []byte
	Payload    []byte
	Signatures []Signature
}

// ParseEnvelope reads an envelope. It does not look into the payload.
func ParseEnvelope(raw []byte) (*Envelope, error) {
	if len(raw) > MaxEnvelope {
		return nil, problem.New("event.envelope-size", "", "the envelope has %d bytes, at most %d are allowed", len(raw), MaxEnvelope)
	}
	if !bytes.HasPrefix(raw, []byte("{")) || !bytes.HasSuffix(raw, []byte("}")) {
		return nil, problem.New("event.envelope-bounds", "", "the envelope does not begin with { and end with }")
	}
	var in struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   string `json:"sig"`
		} `json:"signatures"`
	}
	if err := decode(raw, &in, ""); err != nil {
		return nil, err
	}
	if in.PayloadType != PayloadType {
		return nil, problem.New("event.payload-type", "payloadType", "%.80q is not %s", in.PayloadType, PayloadType)
	}
	payload, err := syntax.Base64(in.Payload)
	if err != nil {
		return nil, problem.New("event.payload-base64", "payload", "%v", err)
	}
	if err := checkPayloadSize(len(payload)); err != nil {
		return nil, err
	}
	if len(in.Signatures) == 0 {
		return nil, problem.New("event.signature-count", "signatures", "the envelope has no signature")
	}
	env := &Envelope{Raw: bytes.Clone(raw), Payload: payload}
	before := ""
	for i, s := range in.Signatures {
		where := fmt.Sprintf("signatures.%d", i)
		if _, err := syntax.Digest(s.KeyID); err != nil {
			return nil, problem.New("event.keyid", where+".keyid", "%v", err)
		}
		if s.KeyID <= before {
			return nil, problem.New("event.keyid-order", where+".keyid", "the key IDs are not sorted, each once")
		}
		before = s.KeyID
		sig, err := syntax.Base64(s.Sig)
		if err != nil || len(sig) == 0 {
			return nil, problem.New("event.signature-base64", where+".sig", "%.60q is absent or not canonical base64 (standard alphabet, padded)", s.Sig)
		}
		env.Signatures = append(env.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	return env, nil
}

func checkPayloadSize(n int) error {
	if n == 0 || n > MaxPayload {
		return problem.New("event.payload-size", "payload", "the payload has %d bytes, 1 to %d are allowed", n, MaxPayload)
	}
	return nil
}

// checkSignatureCount: only trust.* and ledger.erased, which a quorum of
// admins signs, may have more than one signature.
func checkSignatureCount(typ string, n int) error {
	quorum := strings.HasPrefix(typ, "trust.") || typ == "ledger.erased"
	if !quorum && n != 1 {
		return problem.New("event.signature-count", "signatures", "a %s event has %d signatures, exactly one is allowed", typ, n)
	}
	return nil
}

// PAE is what a signature of the payload covers: DSSE's pre-authentication
// encoding, version 1, with PayloadType.
func PAE(payload []byte) []byte {
	head := fmt.Sprintf("DSSEv1 %d %s %d ", len(PayloadType), PayloadType, len(payload))
	return append([]byte(head), payload...)
}

// PayloadSHA256 is the payload's digest: the "prev" of the event after.
func (e *Envelope) PayloadSHA256() [32]byte { return sha256.Sum256(e.Payload) }

// VerifySignature checks signature i of the envelope under k. Whether k counts
// is for the caller to know.
func (e *Envelope) VerifySignature(i int, k *key.Public) error {
	s, where := e.Signatures[i], fmt.Sprintf("signatures.%d", i)
	if s.KeyID != k.ID() {
		return problem.New("event.signature", where, "the signature is by key %.16s..., not by %.16s...", s.KeyID, k.ID())
	}
	if err := k.Verify(PAE(e.Payload), s.Sig); err != nil {
		return problem.New("event.signature", where, "%v", err)
	}
	return nil
}

// Wrap writes the envelope around a payload, compact, signatures sorted by
// key ID.
func Wrap(payload []byte, sigs []Signature) []byte {
	sorted := slices.SortedFunc(slices.Values(sigs), func(a, b Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"payloadType":"%s","payload":"%s","signatures":[`, PayloadType, base64.StdEncoding.EncodeToString(payload))
	for i, s := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		// %q is not JSON's quoting, but a key ID is hex: Go and JSON agree.
		fmt.Fprintf(&b, `{"keyid":%q,"sig":"%s"}`, s.KeyID, base64.StdEncoding.EncodeToString(s.Sig))
	}
	b.WriteString("]}")
	return b.Bytes()
}
