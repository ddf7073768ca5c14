package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/syntax"
)

const (
	// MaxHashes is the largest number of hashes of a proof.
	MaxHashes = 64

	// maxProof bounds a proof file: the note, the hashes, and an extra line
	// of a few kilobytes. An entry's header has at most 512 bytes.
	maxProof = MaxNote + 16<<10

	proofMagic = "c2sp.org/tlog-proof@v1"
)

// Proof is the content of a .tlog-proof file: that one entry is in the log of
// a checkpoint. Each line ends with one LF:
//
//	c2sp.org/tlog-proof@v1
//	extra <base64>                   may be absent
//	index <N>
//	<base64 hash>                    none or more, from the leaf to the root
//	<empty line>
//	<checkpoint, a signed note>
//
// In a receipt, extra is the entry's header up to and including its empty
// line. So whoever has the envelope computes the leaf by himself, as
// SHA-256(0x00 || extra || envelope).
//
// A parsed Proof proves nothing yet. Open its Checkpoint, then Verify.
type Proof struct {
	Extra      []byte // nil where the line is absent
	Index      uint64
	Hashes     []tlog.Hash
	Checkpoint []byte // the note; not verified
}

// ParseProof reads a .tlog-proof file.
func ParseProof(b []byte) (*Proof, error) {
	if len(b) > maxProof {
		return nil, problem.New("proof.size", "", "the proof has %d bytes, at most %d are allowed", len(b), maxProof)
	}
	head, checkpoint, found := bytes.Cut(b, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if lines[0] != proofMagic {
		return nil, problem.New("proof.format", "", "the first line is %.60q, expected %q", lines[0], proofMagic)
	}
	if !found {
		return nil, problem.New("proof.format", "", "no empty line ends the hashes")
	}
	p := &Proof{Checkpoint: checkpoint}
	lines, err := p.parseExtra(lines[1:])
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, problem.New("proof.format", "index", "the line index is not where it must be")
	}
	p.Index, err = syntax.Decimal(lines[0][len("index "):])
	if err != nil {
		return nil, problem.New("proof.index", "index", "%v", err)
	}
	if p.Hashes, err = parseHashes(lines[1:]); err != nil {
		return nil, err
	}
	if _, err := ParseUnverified(checkpoint); err != nil {
		return nil, err
	}
	return p, nil
}

// parseExtra reads the extra line where it is there, and returns the others.
func (p *Proof) parseExtra(lines []string) (rest []string, err error) {
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "extra ") {
		return lines, nil
	}
	p.Extra, err = syntax.Base64(lines[0][len("extra "):])
	if err != nil {
		return nil, problem.New("proof.extra", "extra", "%v", err)
	}
	return lines[1:], nil
}

// Marshal returns the .tlog-proof file.
func (p *Proof) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(proofMagic + "\n")
	if p.Extra != nil {
		fmt.Fprintf(&b, "extra %s\n", base64.StdEncoding.EncodeToString(p.Extra))
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	b.Write(FormatConsistency(p.Hashes))
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// Verify checks that the log of c has the leaf at the proof's index. The caller
// says with c whom it believes: c is from Open, of the proof's own note or of
// another.
func (p *Proof) Verify(c Checkpoint, leaf tlog.Hash) error {
	if err := checkSize(c.Size); err != nil {
		return err
	}
	if err := tlog.CheckRecord(p.Hashes, int64(c.Size), c.Root, int64(p.Index), leaf); err != nil {
		return problem.New("proof.inclusion", "", "the proof does not lead from the leaf at index %d to the root at size %d", p.Index, c.Size).
			With("leaf", leaf.String()).With("checkpoint", c.String())
	}
	return nil
}

// CheckConsistency checks that the log of old is the beginning of the log of
// new: nothing was changed, dropped or inserted since. Two heads of one size
// must have one root, and then the proof is empty; it is also empty where old
// is the empty log.
func CheckConsistency(old, new Checkpoint, proof []tlog.Hash) error {
	if old.Origin != new.Origin {
		return problem.New("proof.origin", "origin", "the checkpoints are of two logs, %q and %q", old.Origin, new.Origin)
	}
	for _, n := range []uint64{old.Size, new.Size} {
		if err := checkSize(n); err != nil {
			return err
		}
	}
	if !consistent(old, new, proof) {
		return problem.New("proof.consistency", "", "%s", inconsistency(old, new)).
			With("old", old.String()).With("new", new.String())
	}
	return nil
}

// consistent is tlog.CheckTree, and its missing case: every log begins with
// the empty one, which needs no proof.
func consistent(old, new Checkpoint, proof []tlog.Hash) bool {
	if old.Size == 0 {
		return old.Root == emptyRoot && len(proof) == 0 && (new.Size > 0 || new.Root == emptyRoot)
	}
	return tlog.CheckTree(proof, int64(new.Size), new.Root, int64(old.Size), old.Root) == nil
}

// inconsistency says in one sentence what kind of thing has been seen.
func inconsistency(old, new Checkpoint) string {
	switch {
	case new.Size < old.Size:
		return fmt.Sprintf("the newer checkpoint has %d entries, fewer than the %d of the older: a rollback", new.Size, old.Size)
	case new.Size == old.Size && new.Root != old.Root:
		return fmt.Sprintf("two checkpoints of size %d have different roots: a fork", old.Size)
	default:
		return fmt.Sprintf("the proof does not lead from the root at size %d to the root at size %d", old.Size, new.Size)
	}
}

var emptyRoot = tlog.Hash(sha256.Sum256(nil))

// ParseConsistency reads a consistency proof: base64 hashes in the order of RFC
// 6962, one a line, each line ended by one LF. An empty proof has no bytes.
func ParseConsistency(b []byte) ([]tlog.Hash, error) {
	if len(b) == 0 {
		return nil, nil
	}
	text, found := strings.CutSuffix(string(b), "\n")
	if !found {
		return nil, problem.New("proof.hash", "", "no line feed ends the last line")
	}
	return parseHashes(strings.Split(text, "\n"))
}

// FormatConsistency writes a consistency proof.
func FormatConsistency(proof []tlog.Hash) []byte {
	var b bytes.Buffer
	for _, h := range proof {
		b.WriteString(h.String() + "\n")
	}
	return b.Bytes()
}

func parseHashes(lines []string) (hashes []tlog.Hash, err error) {
	if len(lines) > MaxHashes {
		return nil, problem.New("proof.length", "", "the proof has %d lines, at most %d hashes are allowed", len(lines), MaxHashes)
	}
	for i, line := range lines {
		h, err := parseHash(line)
		if err != nil {
			return nil, problem.New("proof.hash", fmt.Sprintf("hash %d", i), "%v", err)
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}
