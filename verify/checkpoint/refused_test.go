package checkpoint_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
)

const (
	origin = "ledger.example.org/test"
	root   = "hDngOd6XdA5X2nc/5O4OhNPJDUy/3WWSMvcYuHRyOkM="
	text   = origin + "\n7\n" + root + "\n"
)

// private is a key for tests, always the same.
var private = ed25519.NewKeyFromSeed([]byte("thirty-two bytes for a test key."))

func signer(t testing.TB, name string) note.Signer {
	t.Helper()
	s, err := checkpoint.NewSigner(name, private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(t testing.TB, name string) note.Verifier {
	t.Helper()
	v, pub, err := checkpoint.NewVerifier(checkpoint.VKey(name, private.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	if !pub.Equal(private.Public()) {
		t.Fatal("NewVerifier gives another public key")
	}
	return v
}

// signText signs any text, also one that is no checkpoint.
func signText(t testing.TB, text string, signers ...note.Signer) string {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// line makes a signature line of a key that nobody knows.
func line(name, raw string) string {
	return "— " + name + " " + base64.StdEncoding.EncodeToString([]byte(raw)) + "\n"
}

func TestSignThenOpen(t *testing.T) {
	c, err := checkpoint.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := checkpoint.Sign(c, signer(t, origin))
	if err != nil {
		t.Fatal(err)
	}
	if got := open(t, b, verifier(t, origin)); got != c {
		t.Errorf("Open = %+v, want %+v", got, c)
	}
	if _, err := checkpoint.Open([]byte(string(b)+manyLines(12, strings.Repeat("x", 4000))), verifier(t, origin)); err != nil {
		t.Errorf("a note of nearly 64 KiB: %v", err)
	}
	// Other keys' lines are ignored, whatever they hold.
	more := string(b) + line("witness.example.org", "idididid and a cosignature") + line(origin, "another key ID")
	s, err := checkpoint.Open([]byte(more), verifier(t, origin))
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Note) != more {
		t.Error("Open lost lines of other keys")
	}

	_, err = checkpoint.Sign(c, signer(t, "other.example.org"))
	wantCode(t, err, "checkpoint.key-name")
	_, err = checkpoint.Sign(checkpoint.Checkpoint{Origin: origin, Size: checkpoint.MaxSize + 1}, signer(t, origin))
	wantCode(t, err, "checkpoint.size")
}

func TestRefusedCheckpoints(t *testing.T) {
	for _, c := range []struct{ name, text, code string }{
		{"empty", "", "checkpoint.lines"},
		{"no line feed at the end", strings.TrimSuffix(text, "\n"), "checkpoint.lines"},
		{"an extension line", text + "more\n", "checkpoint.lines"},
		{"an empty line", text + "\n", "checkpoint.lines"},
		{"no root", origin + "\n7\n", "checkpoint.lines"},
		{"text after the last line", text + "x", "checkpoint.lines"},
		{"no origin", "\n7\n" + root + "\n", "checkpoint.origin"},
		{"origin in capitals", "Ledger\n7\n" + root + "\n", "checkpoint.origin"},
		{"origin of 201 bytes", strings.Repeat("a", 201) + "\n7\n" + root + "\n", "checkpoint.origin"},
		{"size with a zero", origin + "\n07\n" + root + "\n", "checkpoint.size"},
		{"size with a sign", origin + "\n-7\n" + root + "\n", "checkpoint.size"},
		{"size beyond 2^53", origin + "\n9007199254740993\n" + root + "\n", "checkpoint.size"},
		{"size beyond 2^64", origin + "\n18446744073709551616\n" + root + "\n", "checkpoint.size"},
		{"root too short", origin + "\n7\nAAAA\n", "checkpoint.root"},
		{"root without padding", origin + "\n7\n" + root[:43] + "\n", "checkpoint.root"},
		{"root with other last bits", origin + "\n7\n" + root[:42] + "N=\n", "checkpoint.root"},
		{"root in the URL alphabet", origin + "\n7\n" + strings.ReplaceAll(root, "/", "_") + "\n", "checkpoint.root"},
		{"carriage return", origin + "\n7\n" + root + "\r\n", "checkpoint.root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.Parse(c.text)
			wantCode(t, err, c.code)
		})
	}
}

func TestRefusedNotes(t *testing.T) {
	good := signText(t, text, signer(t, origin))
	v := verifier(t, origin)
	witness := line("witness.example.org", "idididid and a cosignature")
	sig := good[len(text)+1:]
	for _, c := range []struct{ name, note, code string }{
		{"empty", "", "checkpoint.note"},
		{"no signature", text + "\n", "checkpoint.note"},
		{"no empty line", text + sig, "checkpoint.note"},
		{"a hyphen for the dash", strings.Replace(good, "—", "-", 1), "checkpoint.note"},
		{"no line feed at the end", strings.TrimSuffix(good, "\n"), "checkpoint.note"},
		{"a tab", strings.Replace(good, "\n7\n", "\n7\t\n", 1), "checkpoint.note"},
		{"invalid UTF-8", strings.Replace(good, "\n7\n", "\n\xff\n", 1), "checkpoint.note"},
		{"over 64 KiB", good + manyLines(13, strings.Repeat("x", 4000)), "checkpoint.note"},
		{"over 100 lines", good + manyLines(100, ""), "checkpoint.note"},
		{"a witness line twice", good + witness + witness, "checkpoint.note"},
		{"base64 with other last bits", good + "— w.example AAAAAAB=\n", "checkpoint.note"},
		{"text that is no checkpoint", signText(t, "go away\n", signer(t, origin)), "checkpoint.lines"},
		{"an extension line", signText(t, text+"more\n", signer(t, origin)), "checkpoint.lines"},
		{"another log's name, same key", signText(t, "other.example.org\n7\n"+root+"\n", signer(t, origin)), "checkpoint.key-name"},
		{"signed by another only", text + "\n" + witness, "checkpoint.unsigned"},
		{"the node's line twice", good + sig, "checkpoint.note"},
		{"the node's line again, with another signature", good + forged(sig), "checkpoint.repeated"},
		{"another size", strings.Replace(good, "\n7\n", "\n8\n", 1), "checkpoint.signature"},
		{"another root", strings.Replace(good, "\nhD", "\nhE", 1), "checkpoint.signature"},
		{"another signature", text + "\n" + forged(sig), "checkpoint.signature"},
		{"a signature cut short", text + "\n" + strings.Replace(sig, sig[len(sig)-13:], "AAAA\n", 1), "checkpoint.signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.Open([]byte(c.note), v)
			wantCode(t, err, c.code)
		})
	}
}

func manyLines(n int, more string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line("w.example", fmt.Sprint("idid", i, more)))
	}
	return b.String()
}

// forged changes one bit of a signature line's signature.
func forged(sig string) string {
	f := strings.Fields(sig)
	raw, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		panic(err)
	}
	raw[len(raw)-40] ^= 1
	return line(f[1], string(raw))
}

// vkeyOf writes a verifier key of any type and length with its right key ID.
func vkeyOf(name string, data []byte) string {
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(sum[:]), base64.StdEncoding.EncodeToString(data))
}

func TestRefusedVerifierKeys(t *testing.T) {
	pub := private.Public().(ed25519.PublicKey)
	typed := append([]byte{1}, pub...)
	good := checkpoint.VKey(origin, pub)
	if vkeyOf(origin, typed) != good {
		t.Fatal("VKey and the test do not agree")
	}
	f := strings.Split(good, "+")
	identityPoint := append([]byte{1, 1}, make([]byte, 31)...)
	for _, c := range []struct{ name, vkey, code string }{
		{"empty", "", "vkey.name"},
		{"a name that is no origin", vkeyOf("Ledger", typed), "vkey.name"},
		{"a name with a space", vkeyOf("a b", typed), "vkey.name"},
		{"name only", origin, "vkey.type"},
		{"type of a cosignature", vkeyOf(origin, append([]byte{4}, pub...)), "vkey.type"},
		{"33 bytes", vkeyOf(origin, append(typed, 0)), "vkey.type"},
		{"31 bytes", vkeyOf(origin, typed[:32]), "vkey.type"},
		{"small order", vkeyOf(origin, identityPoint), "key.weak"},
		{"another key ID", f[0] + "+00000000+" + f[2], "vkey.encoding"},
		{"key ID in capitals", f[0] + "+" + strings.ToUpper(f[1]) + "+" + f[2], "vkey.encoding"},
		{"no key ID", f[0] + "++" + f[2], "vkey.encoding"},
		{"key without padding", strings.TrimRight(good, "=") + "*", "vkey.encoding"},
		{"a space at the end", good + " ", "vkey.encoding"},
		{"another field", good + "+x", "vkey.encoding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := checkpoint.NewVerifier(c.vkey)
			wantCode(t, err, c.code)
		})
	}
}

func TestRefusedIdentities(t *testing.T) {
	vkey := checkpoint.VKey(origin, private.Public().(ed25519.PublicKey))
	genesis := strings.Repeat("ab", 32)
	good := "evidence-ledger-identity@v1 " + origin + " " + vkey + " " + genesis
	for _, line := range []string{good, good + "\n", good + " 7 " + root} {
		id, err := checkpoint.ParseIdentity(line)
		if err != nil {
			t.Fatal(err)
		}
		if id.String() != strings.TrimSuffix(line, "\n") {
			t.Errorf("%q was written again as %q", line, id)
		}
	}
	id, _ := checkpoint.ParseIdentity(good + " 7 " + root)
	if id.Floor.String() != text {
		t.Errorf("the floor is %+v", id.Floor)
	}
	for _, c := range []struct{ name, line, code string }{
		{"empty", "", "identity.format"},
		{"other version", strings.Replace(good, "@v1", "@v2", 1), "identity.format"},
		{"two spaces", strings.Replace(good, " ", "  ", 1), "identity.format"},
		{"five fields", good + " 7", "identity.format"},
		{"seven fields", good + " 7 " + root + " x", "identity.format"},
		{"no genesis", strings.TrimSuffix(good, " "+genesis), "identity.format"},
		{"another origin", strings.Replace(good, origin, "other.example.org", 1), "identity.key-name"},
		{"a key that is none", strings.Replace(good, vkey, origin+"+x", 1), "vkey.type"},
		{"genesis in capitals", strings.ToUpper(genesis), "identity.format"},
		{"genesis too short", good[:len(good)-2], "identity.genesis"},
		{"carriage return", good + "\r\n", "identity.genesis"},
		{"two line feeds", good + "\n\n", "identity.genesis"},
		{"floor of no size", good + " x " + root, "checkpoint.size"},
		{"floor of no root", good + " 7 x", "checkpoint.root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.ParseIdentity(c.line)
			wantCode(t, err, c.code)
		})
	}
}

func TestRefusedProofs(t *testing.T) {
	good := string(read(t, "receipt-3.tlog-proof"))
	hash := root + "\n"
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the receipt has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	_, afterIndex, _ := strings.Cut(good, "index 3\n")
	note := good[strings.Index(good, "\n\n")+2:]
	for _, c := range []struct{ name, proof, code string }{
		{"empty", "", "proof.format"},
		{"other version", replace("@v1", "@v2"), "proof.format"},
		{"a first line alone", "c2sp.org/tlog-proof@v1\n\n" + note, "proof.format"},
		{"no empty line", "c2sp.org/tlog-proof@v1\nindex 3\n", "proof.format"},
		{"no index", replace("index 3\n", ""), "proof.format"},
		{"index before extra", "c2sp.org/tlog-proof@v1\nindex 3\nextra AA==\n" + afterIndex, "proof.hash"},
		{"extra twice", replace("index", "extra AA==\nindex"), "proof.format"},
		{"extra with other last bits", "c2sp.org/tlog-proof@v1\nextra AB==\nindex 3\n" + afterIndex, "proof.extra"},
		{"extra with two spaces", replace("extra ", "extra  "), "proof.extra"},
		{"index with a zero", replace("index 3", "index 03"), "proof.index"},
		{"negative index", replace("index 3", "index -3"), "proof.index"},
		{"index too large", replace("index 3", "index 9223372036854775808"), "proof.index"},
		{"a hash too short", replace("index 3\n", "index 3\nAAAA\n"), "proof.hash"},
		{"a hash with a carriage return", replace("index 3\n", "index 3\n"+root+"\r\n"), "proof.hash"},
		{"65 hashes", replace("index 3\n", "index 3\n"+strings.Repeat(hash, 62)), "proof.length"},
		{"over 80 KiB", replace("extra ", "extra "+strings.Repeat("AAAA", 21000)), "proof.size"},
		{"no checkpoint", good[:strings.Index(good, "\n\n")+2], "checkpoint.note"},
		{"a checkpoint that is none", replace("\n7\n", "\n07\n"), "checkpoint.size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.ParseProof([]byte(c.proof))
			wantCode(t, err, c.code)
		})
	}
	if _, err := checkpoint.ParseProof([]byte(replace("index 3\n", "index 3\n"+strings.Repeat(hash, 61)))); err != nil {
		t.Errorf("64 hashes: %v", err)
	}
}

func TestRefusedInclusion(t *testing.T) {
	p, err := checkpoint.ParseProof(read(t, "receipt-3.tlog-proof"))
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, p.Checkpoint, exampleVerifier(t))
	leaf := exampleLeaves(t)[3]
	for name, change := range map[string]func(p *checkpoint.Proof, c *checkpoint.Checkpoint, leaf *tlog.Hash){
		"another leaf":      func(_ *checkpoint.Proof, _ *checkpoint.Checkpoint, leaf *tlog.Hash) { leaf[0] ^= 1 },
		"another index":     func(p *checkpoint.Proof, _ *checkpoint.Checkpoint, _ *tlog.Hash) { p.Index = 2 },
		"index at the size": func(p *checkpoint.Proof, _ *checkpoint.Checkpoint, _ *tlog.Hash) { p.Index = 7 },
		"index of 2^64-1":   func(p *checkpoint.Proof, _ *checkpoint.Checkpoint, _ *tlog.Hash) { p.Index = 1<<64 - 1 },
		"another size":      func(_ *checkpoint.Proof, c *checkpoint.Checkpoint, _ *tlog.Hash) { c.Size = 9 },
		"empty log":         func(_ *checkpoint.Proof, c *checkpoint.Checkpoint, _ *tlog.Hash) { c.Size = 0 },
		"another root":      func(_ *checkpoint.Proof, c *checkpoint.Checkpoint, _ *tlog.Hash) { c.Root[0] ^= 1 },
		"a hash less":       func(p *checkpoint.Proof, _ *checkpoint.Checkpoint, _ *tlog.Hash) { p.Hashes = p.Hashes[:2] },
		"a hash more": func(p *checkpoint.Proof, _ *checkpoint.Checkpoint, leaf *tlog.Hash) {
			p.Hashes = append(p.Hashes[:3:3], *leaf)
		},
	} {
		p, c, leaf := *p, c, leaf
		change(&p, &c, &leaf)
		if err := p.Verify(c, leaf); problem.Of(err) == nil || problem.Of(err).Code != "proof.inclusion" {
			t.Errorf("%s: got %v, want proof.inclusion", name, err)
		}
	}
	c.Size = 1 << 63
	wantCode(t, p.Verify(c, leaf), "checkpoint.size")
}

func TestRefusedConsistency(t *testing.T) {
	v := exampleVerifier(t)
	old, new := open(t, read(t, "checkpoints/3"), v), open(t, read(t, "checkpoint"), v)
	proof, err := checkpoint.ParseConsistency(read(t, "consistency/3"))
	if err != nil {
		t.Fatal(err)
	}
	empty := checkpoint.Checkpoint{Origin: old.Origin, Root: (&checkpoint.Tree{}).Root()}
	other := func(c checkpoint.Checkpoint, size uint64) checkpoint.Checkpoint {
		c.Root[0] ^= 1
		c.Size = size
		return c
	}
	foreign := new
	foreign.Origin = "other.example.org"
	for _, c := range []struct {
		name     string
		old, new checkpoint.Checkpoint
		proof    []tlog.Hash
		code     string // empty: consistent
	}{
		{"as it is", old, new, proof, ""},
		{"the same", new, new, nil, ""},
		{"from nothing", empty, new, nil, ""},
		{"from nothing to nothing", empty, empty, nil, ""},
		{"another log", old, foreign, proof, "proof.origin"},
		{"another old root", other(old, 3), new, proof, "proof.consistency"},
		{"another new root", old, other(new, 7), proof, "proof.consistency"},
		{"a fork", new, other(new, 7), nil, "proof.consistency"},
		{"a rollback", new, old, proof, "proof.consistency"},
		{"a rollback to nothing", new, empty, nil, "proof.consistency"},
		{"no proof", old, new, nil, "proof.consistency"},
		{"a hash less", old, new, proof[1:], "proof.consistency"},
		{"a hash more", old, new, append(proof[:len(proof):len(proof)], new.Root), "proof.consistency"},
		{"the same with a proof", new, new, proof, "proof.consistency"},
		{"from nothing with a proof", empty, new, proof, "proof.consistency"},
		{"from an empty log of another root", other(empty, 0), new, nil, "proof.consistency"},
		{"to an empty log of another root", empty, other(empty, 0), nil, "proof.consistency"},
		{"too large", old, other(new, 1<<63), proof, "checkpoint.size"},
		{"both too large", other(old, 1<<62), other(new, 1<<62+1), proof, "checkpoint.size"},
	} {
		err := checkpoint.CheckConsistency(c.old, c.new, c.proof)
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		t.Run(c.name, func(t *testing.T) { wantCode(t, err, c.code) })
	}
}

func TestRefusedConsistencyFiles(t *testing.T) {
	for _, c := range []struct{ name, file, code string }{
		{"no line feed at the end", root, "proof.hash"},
		{"an empty line", root + "\n\n", "proof.hash"},
		{"only a line feed", "\n", "proof.hash"},
		{"carriage return", root + "\r\n", "proof.hash"},
		{"65 hashes", strings.Repeat(root+"\n", 65), "proof.length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.ParseConsistency([]byte(c.file))
			wantCode(t, err, c.code)
		})
	}
	if p, err := checkpoint.ParseConsistency(nil); err != nil || len(p) != 0 {
		t.Errorf("an empty proof: %v, %v", p, err)
	}
}

func TestRefusedTilePaths(t *testing.T) {
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "0/000", "/tile/0/000", "tile/8/0/000", "tile/data/000", "tile/-1/000", "tile/entries/entries/000",
		"tile/0/0", "tile/0/0000", "tile/0/x000/000", "tile/0/001/000", "tile/00/000", "tile/0/+01", "tile/0/000/", "tile/0/000.p/0",
		"tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p", "tile/0/000.p/", "tile/7/000", "tile/64/000", "tile/6/001", "tile/5/033",
		"tile/0/x035/x184/x372/x088/833", "tile/0/x999/x999/x999/x999/x999/x999/x999/999", "tile/0/x018/x446/x744/x073/x709/x551/616",
	} {
		_, err := checkpoint.ParseTilePath(path)
		if p := problem.Of(err); p == nil || p.Code != "tile.path" {
			t.Errorf("%q: got %v, want a problem tile.path", path, err)
		}
	}
}

func TestEntryBundles(t *testing.T) {
	entries := [][]byte{[]byte("a"), {}, make([]byte, 65535)}
	b := checkpoint.EntryBundle(entries)
	got, err := checkpoint.ParseEntryBundle(b, 3)
	if err != nil || len(got) != 3 || string(got[0]) != "a" || len(got[1]) != 0 || len(got[2]) != 65535 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	for name, bad := range map[string][]byte{"a byte less": b[:len(b)-1], "half a length": b[:4], "a byte more": append(b[:len(b):len(b)], 0), "an entry more": append(b[:len(b):len(b)], 0, 0)} {
		t.Run(name, func(t *testing.T) {
			_, err := checkpoint.ParseEntryBundle(bad, 3)
			wantCode(t, err, "tile.entries")
		})
	}
}
