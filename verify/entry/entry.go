// Package entry frames what is appended to the log, and holds the rule by
// which one entry follows another.
//
// # Bytes
//
// An entry is a text header, one empty line, and the bytes of one DSSE
// envelope up to the end. Each header line ends with one LF:
//
//	evidence-ledger/entry@v1
//	index <N>
//	time <RFC 3339 with Z and six decimals>
//	previous <leaf hash, hex>
//	stream <name> <number> <leaf hash, hex>
//	<empty line>
//	<envelope>
//
// Numbers are decimal without sign or leading zero, hashes are 64 lower case
// hex digits, single spaces separate the fields, and there is nothing else:
// every header has exactly one spelling (FuzzParseEntry). A header has at most
// 512 bytes, an entry at most 65,535, because entry bundles carry 16-bit
// lengths.
//
// For example, entry 3 of a log, which is number 1 of its stream:
//
//	evidence-ledger/entry@v1
//	index 3
//	time 2026-03-04T08:00:00.250004Z
//	previous fd188e159760cfb1a92c37cb4050ed529c9c4bb5d59df14c6f7312a30a94523c
//	stream patch.run.completed 1 fd188e159760cfb1a92c37cb4050ed529c9c4bb5d59df14c6f7312a30a94523c
//
//	{"payloadType":"application/vnd.in-toto+json","payload":"eyJfdH...
//
// # One hash
//
// The leaf hash of an entry is SHA-256(0x00 || entry), as in RFC 6962. The
// same hash is the leaf of the Merkle tree and the link of the chain, so that
// both can be checked by hand:
//
//	{ printf '\0'; cat ENTRY; } | sha256sum
//
// prints what the next entry must have after "previous"
// (TestLeafHashBySha256sum).
//
// # The rule
//
// A log begins with index 0, previous 64 zeros. Each further entry has the
// next index, a time that is not earlier, and as previous the leaf hash of the
// entry before it. A stream is all entries of one evidence type; all trust.*
// types together are the stream "trust". The entries of a stream are numbered
// from 0 without gaps, and each names the leaf hash of the one before it in
// the stream, 64 zeros at number 0. So who is shown one stream only still sees
// whether anything was left out of it. [Chain] holds this rule.
//
// This package looks at no byte of the envelope, and it checks no signature:
// see the packages event and trust.
package entry

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const (
	// MaxEntry is the largest number of bytes of one entry.
	MaxEntry = 65_535

	// maxHeader bounds the search for the empty line. The longest header that
	// the syntax allows is shorter.
	maxHeader = 512

	magic       = "evidence-ledger/entry@v1"
	trustStream = "trust"
)

// Header is what the node says about an envelope by appending it.
type Header struct {
	Index    uint64
	Time     time.Time // the node's clock, UTC, microseconds
	Previous [32]byte  // leaf hash of entry Index-1, zero at 0

	Stream         string   // see StreamOf
	Number         uint64   // of the entry within its stream
	StreamPrevious [32]byte // leaf hash of number Number-1, zero at 0
}

// Bytes returns the header up to and including the empty line.
func (h Header) Bytes() []byte {
	return fmt.Appendf(nil, "%s\nindex %d\ntime %s\nprevious %x\nstream %s %d %x\n\n", magic,
		h.Index, syntax.FormatMicros(h.Time), h.Previous, h.Stream, h.Number, h.StreamPrevious)
}

// ParseHeader reads the header at the beginning of b and returns what follows
// its empty line.
func ParseHeader(b []byte) (h Header, rest []byte, err error) {
	end := bytes.Index(b[:min(len(b), maxHeader)], []byte("\n\n"))
	if end < 0 {
		return Header{}, nil, problem.New("entry.header", "header", "no empty line ends the header within %d bytes", maxHeader)
	}
	lines := strings.Split(string(b[:end]), "\n")
	if len(lines) != 5 {
		return Header{}, nil, problem.New("entry.header", "header", "the header has %d lines, expected 5", len(lines))
	}
	if lines[0] != magic {
		return Header{}, nil, problem.New("entry.header", "header", "the first line is %.40q, expected %q", lines[0], magic)
	}
	if err := h.parseLines(lines[1], lines[2], lines[3]); err != nil {
		return Header{}, nil, err
	}
	if err := h.parseStream(lines[4]); err != nil {
		return Header{}, nil, err
	}
	return h, b[end+2:], nil
}

func (h *Header) parseLines(index, at, previous string) (err error) {
	h.Index, err = syntax.Decimal(cutName(index, "index "))
	if err != nil {
		return problem.New("entry.header", "index", "the second line must be index and a number: %v", err)
	}
	h.Time, err = syntax.Micros(cutName(at, "time "))
	if err != nil {
		return problem.New("entry.header", "time", "the third line must be time and a time: %v", err)
	}
	h.Previous, err = syntax.Digest(cutName(previous, "previous "))
	if err != nil {
		return problem.New("entry.header", "previous", "the fourth line must be previous and a hash: %v", err)
	}
	if (h.Index == 0) != (h.Previous == [32]byte{}) {
		return problem.New("entry.zeros", "previous", "64 zeros must stand at index 0 and nowhere else")
	}
	return nil
}

func (h *Header) parseStream(line string) (err error) {
	f := strings.Split(cutName(line, "stream "), " ")
	if len(f) != 3 {
		return problem.New("entry.header", "stream", "the fifth line must be stream, a name, a number and a hash")
	}
	h.Stream = f[0]
	if err := checkStream(h.Stream); err != nil {
		return problem.New("entry.stream", "stream", "%v", err)
	}
	h.Number, err = syntax.Decimal(f[1])
	if err != nil {
		return problem.New("entry.header", "stream", "the number: %v", err)
	}
	h.StreamPrevious, err = syntax.Digest(f[2])
	if err != nil {
		return problem.New("entry.header", "stream", "the hash: %v", err)
	}
	if (h.Number == 0) != (h.StreamPrevious == [32]byte{}) {
		return problem.New("entry.zeros", "stream", "64 zeros must stand at number 0 and nowhere else")
	}
	return nil
}

// cutName returns the value of a line, or "", which is no value anywhere here,
// where the line has another name.
func cutName(line, name string) string {
	value, found := strings.CutPrefix(line, name)
	if !found {
		return ""
	}
	return value
}

// checkStream reports why no entry can be of this stream, or nil. A trust.*
// type is never a stream of its own, and the statement of type bundle signs a
// bundle and is no entry.
func checkStream(name string) error {
	if name == trustStream {
		return nil
	}
	if name == "bundle" || StreamOf(name) != name {
		return fmt.Errorf("%.140q is no stream", name)
	}
	return syntax.Type(name)
}

// StreamOf returns the stream of an evidence type: "trust" for every trust.*
// type, else the type itself.
func StreamOf(typ string) string {
	if strings.HasPrefix(typ, trustStream+".") {
		return trustStream
	}
	return typ
}

// Entry is one parsed entry. It comes from Parse or New, and its bytes are not
// changed afterwards.
type Entry struct {
	Header
	Envelope []byte // part of Raw; not parsed here
	Raw      []byte // the whole entry

	leaf tlog.Hash
}

// Parse reads one entry. The result refers to raw.
func Parse(raw []byte) (*Entry, error) {
	if len(raw) > MaxEntry {
		return nil, problem.New("entry.size", "", "the entry has %d bytes, at most %d are allowed", len(raw), MaxEntry)
	}
	h, envelope, err := ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	return &Entry{Header: h, Envelope: envelope, Raw: raw, leaf: tlog.RecordHash(raw)}, nil
}

// New makes an entry of a header (see Chain.Next) and an envelope's bytes. It
// refuses what Parse would refuse.
func New(h Header, envelope []byte) (*Entry, error) {
	return Parse(append(h.Bytes(), envelope...))
}

// Leaf returns SHA-256(0x00 || Raw): the entry's leaf in the tree, and what
// the entry after it has as Previous.
func (e *Entry) Leaf() tlog.Hash { return e.leaf }

// hexOf writes a hash as it stands in a header.
func hexOf(d [32]byte) string { return hex.EncodeToString(d[:]) }
