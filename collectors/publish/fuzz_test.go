package publish

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/submission"
)

// parrot speaks as much of the NATS protocol as it takes to answer each request
// on a subject with the same bytes. It is a nats.CustomDialer.
type parrot struct {
	answers atomic.Pointer[map[string][]byte] // by the subject's third part
}

func (p *parrot) Dial(string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go p.serve(server)
	return client, nil
}

func (p *parrot) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprintf(c, "INFO {\"server_id\":\"parrot\",\"version\":\"2.11.0\",\"proto\":1,\"max_payload\":1048576}\r\n")
	r, sid := bufio.NewReader(c), ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "PING":
			fmt.Fprint(c, "PONG\r\n")
		case words[0] == "SUB":
			sid = words[len(words)-1]
		case words[0] == "PUB" && len(words) == 4:
			n, _ := strconv.Atoi(words[3])
			if _, err := io.CopyN(io.Discard, r, int64(n)+2); err != nil {
				return
			}
			body := (*p.answers.Load())[strings.Split(words[1], ".")[2]]
			fmt.Fprintf(c, "MSG %s %s %d\r\n%s\r\n", words[2], sid, len(body), body)
		}
	}
}

// fuzzLog is the one history that the node signed, and its checkpoints.
type fuzzLog struct {
	identity *checkpoint.Identity
	entries  []*entry.Entry
	heads    []checkpoint.Checkpoint // by size
	hashes   []tlog.Hash
	sign     func(checkpoint.Checkpoint) []byte
}

func (l *fuzzLog) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func newFuzzLog(f *testing.F) *fuzzLog {
	const origin = "ledger.example.org/evidence"
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, err := checkpoint.NewSigner(origin, private)
	if err != nil {
		f.Fatal(err)
	}
	l := &fuzzLog{heads: make([]checkpoint.Checkpoint, 1), sign: func(c checkpoint.Checkpoint) []byte {
		note, err := checkpoint.Sign(c, signer)
		if err != nil {
			f.Fatal(err)
		}
		return note
	}}
	chain, at := entry.NewChain(), entry.Header{}.Time
	for i := range 8 {
		stream := "patch.run.completed"
		if i == 0 {
			stream = "trust"
		}
		e, err := entry.New(chain.Next(stream, at.AddDate(2025, 0, i)), fmt.Appendf(nil, `{"number":%d}`, i))
		if err == nil {
			err = chain.Add(e)
		}
		if err != nil {
			f.Fatal(err)
		}
		more, err := tlog.StoredHashesForRecordHash(int64(i), e.Leaf(), tlog.HashReaderFunc(l.read))
		if err != nil {
			f.Fatal(err)
		}
		l.hashes, l.entries = append(l.hashes, more...), append(l.entries, e)
		root, err := tlog.TreeHash(int64(i+1), tlog.HashReaderFunc(l.read))
		if err != nil {
			f.Fatal(err)
		}
		l.heads = append(l.heads, checkpoint.Checkpoint{Origin: origin, Size: uint64(i + 1), Root: root})
	}
	l.identity = &checkpoint.Identity{Origin: origin, VKey: checkpoint.VKey(origin, private.Public().(ed25519.PublicKey)), Genesis: l.entries[0].Leaf()}
	return l
}

func (l *fuzzLog) publisher(f *testing.F) *Publisher {
	s, err := spool.Open(filepath.Join(f.TempDir(), "spool.db"), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	p, err := New(Config{Name: "web-1", KeyID: strings.Repeat("0", 64), Identity: l.identity, Spool: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// FuzzReplies: whatever the node's service answers, the newest checkpoint is of
// the history that the node proved, and never a smaller one. What is called a
// conflict, the node has signed.
func FuzzReplies(f *testing.F) {
	l := newFuzzLog(f)
	p, bird := l.publisher(f), &parrot{}
	nc, err := nats.Connect("nats://parrot.invalid", nats.SetCustomDialer(bird))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	p.nc = nc
	reply := func(member, text string) []byte {
		raw, err := json.Marshal(map[string]string{member: text})
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	const known = 3
	for size := uint64(1); size <= 8; size++ {
		old, new := min(size, known), max(size, known)
		proof, err := tlog.ProveTree(int64(new), int64(old), tlog.HashReaderFunc(l.read))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(reply("checkpoint", string(l.sign(l.heads[size]))), reply("proof", string(checkpoint.FormatConsistency(proof))), []byte(`{"last":{"patch.run.completed":{"seq":1,"payload":"00"}}}`))
	}
	fork := l.heads[5]
	fork.Root = l.heads[4].Root
	f.Add(reply("checkpoint", string(l.sign(fork))), reply("proof", ""), []byte(`{"last":null}`))
	f.Add([]byte(`{}`), []byte(`null`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, shown, proof, last []byte) {
		bird.answers.Store(&map[string][]byte{"checkpoint": shown, "consistency": proof, "last": last})
		p.newest, p.moved = l.heads[known], nil
		err := p.newestOfNode(context.Background())
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrConnectionClosed) {
			t.Fatalf("the parrot does not answer: %v", err)
		}
		if n := p.newest; n.Size < known || n.Size > 8 || n != l.heads[n.Size] {
			t.Fatalf("the newest checkpoint is %v", n)
		}
		var in struct {
			Checkpoint string `json:"checkpoint"`
		}
		signed := false
		if json.Unmarshal(shown, &in) == nil {
			_, openErr := verify.Checkpoint([]byte(in.Checkpoint), p.keys)
			signed = openErr == nil
		}
		if _, conflict := errors.AsType[*Conflict](err); (err == nil || conflict) && !signed {
			t.Fatalf("the node signed no such checkpoint: %v", err)
		}
		var said struct {
			Last map[string]struct {
				Seq uint64 `json:"seq"`
			} `json:"last"`
		}
		ahead := false
		if json.Unmarshal(last, &said) == nil {
			for _, number := range said.Last {
				ahead = ahead || number.Seq > 0 // the spool is empty
			}
		}
		if err := p.checkNumbers(context.Background()); err == nil && ahead || errors.Is(err, ErrAhead) && !ahead {
			t.Fatalf("ahead: %t, but: %v", ahead, err)
		}
	})
}

// FuzzNotice: a notice that is taken for a receipt proves the spooled envelope,
// byte for byte; one that is taken for a refusal is about the spooled payload.
func FuzzNotice(f *testing.F) {
	l := newFuzzLog(f)
	p := l.publisher(f)
	const id = "019cabcd-0000-7000-8000-000000000003"
	const at = 3
	item := &spool.Item{ID: id, Type: "patch.run.completed", Envelope: l.entries[at].Envelope}
	for i, e := range l.entries {
		hashes, err := tlog.ProveRecord(8, int64(i), tlog.HashReaderFunc(l.read))
		if err != nil {
			f.Fatal(err)
		}
		receipt := (&checkpoint.Proof{Index: uint64(i), Hashes: hashes, Extra: e.Header.Bytes(), Checkpoint: l.sign(l.heads[8])}).Marshal()
		f.Add((&submission.Notice{ID: id, Receipt: string(receipt)}).JSON())
	}
	for _, r := range []submission.Refusal{
		{Code: "event.schema", Text: "no", Payload: hex.EncodeToString(item.Payload[:]), Time: "2026-03-01T10:00:00.000000Z"},
		{Code: "event.signature", Text: "no", Payload: hex.EncodeToString(item.Payload[:]), Time: "2026-03-01T10:00:00.000000Z"},
		{Code: "authority.type", Text: "no", Payload: hex.EncodeToString(item.Payload[:]), Signed: true, Time: "2026-03-01T10:00:00.000000Z"},
	} {
		f.Add((&submission.Notice{ID: id, Refusal: &r}).JSON())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := submission.ParseNotice(body)
		if err != nil {
			return
		}
		if r := n.Refusal; r != nil {
			if counts(item, r) && (r.Payload != hex.EncodeToString(item.Payload[:]) || r.Code == "event.signature" && !r.Signed) {
				t.Fatalf("it counts: %+v", r)
			}
			return
		}
		r, err := p.checkReceipt(context.Background(), item, n.Receipt)
		if err != nil {
			return
		}
		if r.received.Index != at || r.received.ID != id || r.received.Receipt != n.Receipt || r.checkpoint.Checkpoint != l.heads[r.checkpoint.Size] {
			t.Fatalf("taken for a receipt: %+v", r)
		}
	})
}
