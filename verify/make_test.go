package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
	"evidence-ledger/verify/trust"
)

// What follows makes the vectors: always the same ones, from keys whose seeds
// are the SHA-256 of a name.

const (
	vectorOrigin = "ledger.example.org/vectors"
	zeros64      = "0000000000000000000000000000000000000000000000000000000000000000"
	ones64       = "1111111111111111111111111111111111111111111111111111111111111111"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type testKey struct {
	private crypto.Signer
	public  *key.Public
}

func seedOf(name string) []byte {
	sum := sha256.Sum256([]byte("evidence-ledger test key " + name))
	return sum[:]
}

func edKey(name string) testKey {
	private := ed25519.NewKeyFromSeed(seedOf(name))
	return testKey{private, must(key.FromCrypto(private.Public(), nil))}
}

func ecKey(name string) testKey {
	private := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seedOf(name)))
	return testKey{private, must(key.FromCrypto(private.Public(), nil))}
}

// sign is deterministic, for ECDSA by RFC 6979.
func (k testKey) sign(message []byte) []byte {
	if _, ok := k.private.(ed25519.PrivateKey); ok {
		return must(k.private.Sign(nil, message, crypto.Hash(0)))
	}
	sum := sha256.Sum256(message)
	return must(k.private.Sign(nil, sum[:], crypto.SHA256))
}

var (
	nodeKey, alice, bob, web1 = edKey("node"), edKey("alice"), edKey("bob"), edKey("web-1")
	db1, stranger, second     = ecKey("db-1"), edKey("stranger"), edKey("second")
)

func vkeyOf(k testKey) string { return checkpoint.VKey(vectorOrigin, k.public.Ed25519()) }

// sealed is the envelope of a payload, signed by keys.
func sealed(payload string, keys ...testKey) []byte {
	var sigs []event.Signature
	for _, k := range keys {
		sigs = append(sigs, event.Signature{KeyID: k.public.ID(), Sig: k.sign(event.PAE([]byte(payload)))})
	}
	return event.Wrap([]byte(payload), sigs)
}

func hexSum(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func uuid(n int) string { return fmt.Sprintf("019cabcd-0000-7000-8000-%012d", n) }

// ownPayload is a statement about the ledger itself.
func ownPayload(typ string, n int, members string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"` + vectorOrigin + `","digest":{"sha256":"` + hexSum([]byte(vectorOrigin)) +
		`"}}],"predicateType":"urn:evidence-ledger:` + typ + `:v1","predicate":{"event":{"id":"` + uuid(n) + `","ledger":"` + vectorOrigin +
		`","observedAt":"2026-03-01T08:00:00Z"},"summary":"made for a test","data":` + members + `}}`
}

func genesisPayload() string {
	return ownPayload("trust.genesis", 0, `{"origin":"`+vectorOrigin+`","organisation":"Example","node":{"vkey":"`+vkeyOf(nodeKey)+`","publicKey":"`+nodeKey.public.String()+
		`"},"admins":{"threshold":2,"keys":[{"name":"alice","publicKey":"`+alice.public.String()+`"},{"name":"bob","publicKey":"`+bob.public.String()+`"}]}}`)
}

// enrolPayload lets a key in, on top of the action basis; more are further
// members of data.
func enrolPayload(n int, basis, name string, k testKey, more string) string {
	possession := k.sign(trust.PossessionMessage(vectorOrigin, name, k.public.ID()))
	return ownPayload("trust.collector-enrolled", n, `{"basis":"`+hexSum([]byte(basis))+`","name":"`+name+`","publicKey":"`+k.public.String()+
		`","possession":"`+b64(possession)+`","types":["patch.*"]`+more+`}`)
}

func artifactOf(name string, n int) []byte {
	return fmt.Appendf(nil, "raw evidence %d of %s\n", n, name)
}

// runPayload is number seq of a collector's patch runs; before is the payload
// with the number before.
func runPayload(n int, name string, seq int, before string) string {
	prev := zeros64
	if seq > 1 {
		prev = hexSum([]byte(before))
	}
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"history.log","digest":{"sha256":"` + hexSum(artifactOf(name, seq)) +
		`"}}],"predicateType":"urn:evidence-ledger:patch.run.completed:v1","predicate":{"event":{"id":"` + uuid(n) + `","ledger":"` + vectorOrigin +
		`","collector":"` + name + `","seq":` + fmt.Sprint(seq) + `,"prev":"` + prev + `","observedAt":"2026-03-01T09:00:00Z",` +
		`"method":{"name":"patchrun","version":"1.0.0","config":"` + ones64 + `"}},"scope":{"host":"` + name + `"},"outcome":"pass",` +
		`"summary":"1 package upgraded","data":{"tool":"apt","packages":[{"name":"openssl"}]}}}`
}

func rejectionsPayload(n int) string {
	return ownPayload("ledger.rejections", n, `{"from":"2026-03-01T08:00:00.000000Z","to":"2026-03-01T09:00:00.000000Z","collectors":{"web-1":{"event.schema":1}}}`)
}

// edit replaces the first old by new; it must be there.
func edit(s, old, new string) string {
	if !strings.Contains(s, old) {
		panic(fmt.Sprintf("%q is not in %s", old, s))
	}
	return strings.Replace(s, old, new, 1)
}

// builder appends as a node does.
type builder struct {
	chain   *entry.Chain
	tree    *checkpoint.Tree
	node    testKey // signs the checkpoints
	time    time.Time
	log     *logCase
	entries []*entry.Entry
}

func newBuilder() *builder {
	return &builder{
		chain: entry.NewChain(), tree: &checkpoint.Tree{}, node: nodeKey, time: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC),
		log: &logCase{Now: "2026-03-01T12:00:00Z", Tiles: map[string]item{}, Artifacts: map[string]item{}},
	}
}

// next is the header that follows.
func (b *builder) next(stream string) entry.Header {
	return b.chain.Next(stream, b.time.Add(time.Duration(b.chain.Size())*time.Second))
}

func (b *builder) add(typ string, envelope []byte) *builder {
	return b.put(must(entry.New(b.next(entry.StreamOf(typ)), envelope)))
}

// put appends an entry, whatever its header says.
func (b *builder) put(e *entry.Entry) *builder {
	b.entries = append(b.entries, e)
	b.log.Entries = append(b.log.Entries, item{data: e.Raw})
	b.chain.Skip(e)
	for _, t := range b.tree.Add(e.Leaf()) {
		b.log.Tiles[checkpoint.TilePath(t.Tile)] = item{data: t.Data}
	}
	return b
}

// head is the checkpoint as it is now.
func (b *builder) head() checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: vectorOrigin, Size: b.tree.Size(), Root: b.tree.Root()}
}

func noteBy(c checkpoint.Checkpoint, k testKey) []byte {
	return must(checkpoint.Sign(c, must(checkpoint.NewSigner(c.Origin, k.private))))
}

func (b *builder) sign() *builder {
	c := b.head()
	b.log.Checkpoints = append(b.log.Checkpoints, row{Size: c.Size, Note: noteBy(c, b.node)})
	return b
}

func (b *builder) keep(name string, seq int) *builder {
	a := artifactOf(name, seq)
	b.log.Artifacts[hexSum(a)] = item{data: a}
	return b
}

func (b *builder) identity() string {
	return (&checkpoint.Identity{Origin: vectorOrigin, VKey: vkeyOf(nodeKey), Genesis: b.entries[0].Leaf()}).String()
}

func (b *builder) done() *logCase {
	id := b.identity()
	b.log.Identity = &id
	return b.log
}

// The payloads of the small log, which all vectors share.
var (
	genesis   = genesisPayload()
	enrolWeb1 = enrolPayload(1, genesis, "web-1", web1, "")
	run1      = runPayload(2, "web-1", 1, "")
	run2      = runPayload(3, "web-1", 2, run1)
	reject4   = rejectionsPayload(4)
	run3      = runPayload(5, "web-1", 3, run2)
	enrolDB1  = enrolPayload(6, enrolWeb1, "db-1", db1, `,"validFrom":"2026-03-01T10:00:07.000000Z","validUntil":"2026-03-01T10:00:09.000000Z"`)
	runDB1    = runPayload(7, "db-1", 1, "")
)

const (
	typeRun    = "patch.run.completed"
	typeReject = "ledger.rejections"
)

// smallLog has eight entries and checkpoints of 2, 4, 5 and 8 of them.
func smallLog() *builder {
	b := newBuilder()
	b.add(trust.TypeGenesis, sealed(genesis, nodeKey, alice, bob))
	b.add(trust.TypeEnrolled, sealed(enrolWeb1, alice, bob)).sign()
	b.add(typeRun, sealed(run1, web1)).keep("web-1", 1)
	b.add(typeRun, sealed(run2, web1)).keep("web-1", 2).sign()
	b.add(typeReject, sealed(reject4, nodeKey)).sign()
	b.add(typeRun, sealed(run3, web1)).keep("web-1", 3)
	b.add(trust.TypeEnrolled, sealed(enrolDB1, alice, bob))
	b.add(typeRun, sealed(runDB1, db1)).keep("db-1", 1).sign()
	return b
}

// wideLog fills a tile.
func wideLog() *builder {
	b := newBuilder()
	b.add(trust.TypeGenesis, sealed(genesis, nodeKey, alice, bob)).sign()
	for n := 1; n < 257; n++ {
		b.add(typeReject, sealed(rejectionsPayload(n), nodeKey))
	}
	return b.sign()
}

// collection gathers the vectors of one file.
type collection struct {
	file  string
	rules map[string]string // rule -> code, of FORMAT.md
	vectorFile
}

func (c *collection) good(why string, in any) {
	c.Vectors = append(c.Vectors, &vector{Name: fmt.Sprintf("good-%d", len(c.Vectors)), Why: why, In: jsonOf(in)})
}

func (c *collection) bad(rule, where, why string, in any) {
	c.Vectors = append(c.Vectors, &vector{Name: fmt.Sprintf("%s-%d", rule, len(c.Vectors)), Rule: rule, Expect: c.code(rule), Where: where, Why: why, In: jsonOf(in)})
}

func (c *collection) code(rule string) string {
	code, ok := c.rules[rule]
	if !ok {
		panic("FORMAT.md has no rule " + rule)
	}
	return code
}

func jsonOf(v any) jsontext.Value { return must(json.Marshal(v, json.Deterministic(true))) }

func (c *collection) write() {
	b := must(json.Marshal(c.vectorFile, json.Deterministic(true), jsontext.WithIndent(" ")))
	if err := os.WriteFile(filepath.Join("testdata/vectors", c.file+".json"), append(b, '\n'), 0o666); err != nil {
		panic(err)
	}
}

// writeVectors writes all files anew.
func writeVectors(t *testing.T) {
	rules := map[string]string{}
	for _, r := range readRules(t) {
		rules[r.number] = r.code
	}
	made := 0
	for _, m := range []struct {
		file, kind, about string
		make              func(*collection)
	}{
		{"key", "key", "public keys", makeKeys},
		{"vkey", "vkey", "verifier keys of signed notes", makeVKeys},
		{"event", "event", "envelope, statement, predicate and schema; no signature is verified", makeEvents},
		{"signature", "signature", "the first signature of an envelope under a given key", makeSignatures},
		{"entry", "entry", "the framing of one entry", makeEntries},
		{"chain", "chain", "entries from 0 on", makeChains},
		{"note", "note", "signed checkpoints", makeNotes},
		{"sign", "sign", "what signing a checkpoint gives", makeSigns},
		{"proof", "proof", "inclusion proofs with their checkpoints", makeProofs},
		{"consistency", "consistency", "consistency proofs", makeConsistencies},
		{"tilepath", "tilepath", "paths of tiles", makeTilePaths},
		{"entrybundle", "entrybundle", "entry bundles", makeEntryBundles},
		{"identity", "identity", "identity lines", makeIdentities},
		{"receipt", "receipt", "receipts of events", makeReceipts},
		{"submission", "submission", "submissions on their subjects", makeSubmissions},
		{"notice", "notice", "what the node answers", makeNotices},
		{"trust", "trust", "the events of a log, with the times of their entries", makeTrust},
		{"log", "log", "a log as somebody keeps it", makeLogs},
		{"log-trust", "log", "a log in which the node's key, a collector and the admins change", makeTrustLogs},
		{"log-tiles", "log", "a log that fills a tile", makeTileLogs},
	} {
		c := &collection{file: m.file, rules: rules, vectorFile: vectorFile{Kind: m.kind, About: m.about}}
		m.make(c)
		c.write()
		made += len(c.Vectors)
	}
	t.Logf("%d vectors", made)
}

// hashes as lines of a proof.
func lines(hashes []tlog.Hash) string { return string(checkpoint.FormatConsistency(hashes)) }

func cut(b []byte, n int) []byte { return bytes.Clone(b[:len(b)-n]) }

// leafOf is a leaf hash as it stands in headers; tlog.Hash would print base64.
func leafOf(b *builder, index int) [32]byte { return b.entries[index].Leaf() }
