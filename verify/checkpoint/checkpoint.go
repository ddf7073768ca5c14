// Package checkpoint holds the signed head of the log and what is proved
// against it: signed notes, inclusion and consistency proofs, tiles, and the
// identity line that tells a verifier whom to believe.
//
// The formats are those of C2SP (signed-note, tlog-checkpoint, tlog-proof,
// tlog-tiles) with one spelling for every value. The tree is that of RFC 6962.
// Hashing, proofs and signature checks are those of golang.org/x/mod/sumdb;
// this package adds strictness, bounds, and errors that say what is wrong.
//
// # Tree
//
//	leaf  = SHA-256(0x00 || entry)
//	node  = SHA-256(0x01 || left || right)
//	empty = SHA-256("")
//
// A tree has at most 2^53 leaves ([MaxSize]): sizes also stand in JSON.
//
// # Checkpoint
//
// A checkpoint is three lines, each ended by one LF: the log's origin, the
// number of its entries, and the base64 root of its tree. It travels as a
// signed note: the text, an empty line, and one line for each signature:
//
//	ledger.example.org/evidence
//	7
//	hDngOd6XdA5X2nc/5O4OhNPJDUy/3WWSMvcYuHRyOkM=
//
//	— ledger.example.org/evidence cKxTVa2vzD3X7zTk+V3JwXTlt7jd6boRxX4G2ogv5qKQigmKm0EPMa+ydwBkVsaddC/cYc6GrqClUah6vbZwRV/lHQM=
//
// A signature line is an em dash (U+2014), a space, the key's name, a space,
// and base64 of
//
//	key ID (4 bytes) || Ed25519 signature (64 bytes) over the text with its last LF
//
// and the key ID is the first 4 bytes of SHA-256(name || 0x0A || 0x01 || public
// key). The node's key has the log's origin as its name. Lines of other keys
// (cosignatures of witnesses) are ignored here; a line of the node's key that
// does not verify refuses the note. A note has at most 64 KiB.
//
// # Verifier key
//
// A verifier key (vkey) is the public key in one word, as it stands in an
// identity line and in the genesis entry:
//
//	<name>+<key ID in hex>+<base64 of 0x01 || public key>
//
// # Receipt and proof file
//
// See [Proof].
//
// # Compatibility
//
// What one version of this package accepts, later ones accept. The tests hold
// it against two other implementations, filippo.io/torchwood and
// github.com/transparency-dev/merkle (TestTorchwoodAgrees, TestMerkleAgrees),
// and against a log written by a third in another language (TestExample).
package checkpoint

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const (
	// MaxSize is the largest number of leaves. The functions of tlog do not
	// return for trees beyond 2^62 leaves, so a bound there must be.
	MaxSize = 1 << 53

	// MaxNote is the largest number of bytes of a signed note.
	MaxNote = 64 << 10
)

// Checkpoint is the head of a log: all of its entries in one hash. A value by
// itself says nothing about who vouches for it: see Signed and Unverified.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
}

// String returns the text of c, three lines. It is what is signed.
func (c Checkpoint) String() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// Parse reads the text of a checkpoint, without signatures.
func Parse(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, problem.New("checkpoint.lines", "", "the text is not exactly three lines (origin, size, root)")
	}
	if err := syntax.Origin(lines[0]); err != nil {
		return Checkpoint{}, problem.New("checkpoint.origin", "origin", "%v", err)
	}
	size, root, err := parseHead(lines[1], lines[2])
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// parseHead reads a size and a root as they stand in checkpoints and identity
// lines.
func parseHead(size, root string) (uint64, tlog.Hash, error) {
	n, err := syntax.Decimal(size)
	if err != nil {
		return 0, tlog.Hash{}, problem.New("checkpoint.size", "size", "%v", err)
	}
	if err := checkSize(n); err != nil {
		return 0, tlog.Hash{}, err
	}
	h, err := parseHash(root)
	if err != nil {
		return 0, tlog.Hash{}, problem.New("checkpoint.root", "root", "%v", err)
	}
	return n, h, nil
}

func checkSize(n uint64) error {
	if n > MaxSize {
		return problem.New("checkpoint.size", "size", "the size is %d, at most 2^53 is allowed", n)
	}
	return nil
}

// parseHash reads one hash in canonical base64. (tlog.ParseHash also accepts
// other spellings of the same hash.)
func parseHash(s string) (tlog.Hash, error) {
	b, err := syntax.Base64(s)
	if err != nil || len(b) != tlog.HashSize {
		return tlog.Hash{}, fmt.Errorf("%.60q is not a hash in canonical base64", s)
	}
	return tlog.Hash(b), nil
}

// Sign returns c as a note signed by signer, whose name must be the origin.
func Sign(c Checkpoint, signer note.Signer) ([]byte, error) {
	if _, err := Parse(c.String()); err != nil {
		return nil, err
	}
	if signer.Name() != c.Origin {
		return nil, problem.New("checkpoint.key-name", "signature", "the key is named %.200q, the origin is %q", signer.Name(), c.Origin)
	}
	return note.Sign(&note.Note{Text: c.String()}, signer)
}

// Signed is a checkpoint that the node's key vouches for. It comes only from
// Open.
type Signed struct {
	Checkpoint
	Note []byte // the whole note, with the lines of other keys
}

// Open verifies a signed checkpoint by the node's key (see NewVerifier).
func Open(noteBytes []byte, v note.Verifier) (*Signed, error) {
	u, sigs, err := parseNote(noteBytes)
	if err != nil {
		return nil, err
	}
	if u.Origin != v.Name() {
		return nil, problem.New("checkpoint.key-name", "origin", "the origin is %q, the key is named %.200q", u.Origin, v.Name())
	}
	lines := 0
	for _, s := range sigs {
		if s.Name == v.Name() && s.Hash == v.KeyHash() {
			lines++
		}
	}
	if lines == 0 {
		return nil, problem.New("checkpoint.unsigned", "signature", "no line of the note is by the key %s+%08x", v.Name(), v.KeyHash())
	}
	// note.Open looks only at the first of several lines by one key.
	if lines > 1 {
		return nil, problem.New("checkpoint.repeated", "signature", "%d lines of the note are by the key %s+%08x, expected one", lines, v.Name(), v.KeyHash())
	}
	if _, err := note.Open(noteBytes, note.VerifierList(v)); err != nil {
		return nil, problem.New("checkpoint.signature", "signature", "the signature by the key %s+%08x does not verify", v.Name(), v.KeyHash()).
			With("note", string(noteBytes))
	}
	return &Signed{Checkpoint: u.Checkpoint, Note: noteBytes}, nil
}

// Unverified is what a note claims. Nobody has checked a signature.
type Unverified struct {
	Checkpoint
	Note []byte
}

// ParseUnverified reads a signed checkpoint without looking at its signatures:
// to learn its origin and size, by which the key that must have signed it is
// found.
func ParseUnverified(noteBytes []byte) (*Unverified, error) {
	u, _, err := parseNote(noteBytes)
	return u, err
}

// parseNote reads a note and its signature lines, verifying none.
//
// note.Open with no known key gives all lines in order, without the repeated
// ones and whatever way their base64 was spelt. So a note that is the same
// when it is written again has one spelling.
func parseNote(b []byte) (*Unverified, []note.Signature, error) {
	if len(b) > MaxNote {
		return nil, nil, problem.New("checkpoint.note", "", "the note has %d bytes, at most %d are allowed", len(b), MaxNote)
	}
	_, err := note.Open(b, nil)
	unverified, ok := errors.AsType[*note.UnverifiedNoteError](err)
	if !ok {
		return nil, nil, problem.New("checkpoint.note", "", "not a signed note: %v", err)
	}
	n := unverified.Note
	again := n.Text + "\n"
	for _, s := range n.UnverifiedSigs {
		again += "— " + s.Name + " " + s.Base64 + "\n"
		if _, err := syntax.Base64(s.Base64); err != nil {
			return nil, nil, problem.New("checkpoint.note", "signature", "%v", err)
		}
	}
	if again != string(b) {
		return nil, nil, problem.New("checkpoint.note", "signature", "a signature line is there twice")
	}
	c, err := Parse(n.Text)
	if err != nil {
		return nil, nil, err
	}
	return &Unverified{Checkpoint: c, Note: b}, n.UnverifiedSigs, nil
}
