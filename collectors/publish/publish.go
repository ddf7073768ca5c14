// Package publish carries what is on the spool to the node, until the node's
// receipt for each event has been verified. It is the only one of the
// collectors that knows NATS.
//
// Invariants:
//
//   - An item is released for nothing but a receipt whose entry holds exactly
//     the spooled envelope, under a checkpoint that the pinned identity's key
//     signed and that the node has proved consistent with the newest verified
//     one. Neither the broker's ack nor its "duplicate" is delivery.
//   - The newest checkpoint starts at the pinned genesis (size 1), moves only
//     over a consistency proof, and never back. With each submission goes the
//     one that the event's after names, so every collector is a witness.
//   - What has neither receipt nor refusal after Patience is asked for by its
//     id; what the node does not know is sent again, the same bytes.
//   - A refusal releases nothing: it moves the item to the spool's refused
//     bucket, and only when it is about the very payload (see counts).
//   - To a tls:// address nothing is said before the node has shown a
//     certificate for its host that the configured CAs vouch for (TestTLS), and
//     to any other machine there is no way but tls://.
//   - Nothing is sent while the node knows higher numbers of our key than the
//     spool does: then the spool was lost or rolled back.
//
// One goroutine, in Run or Drain, owns all of this; the rest is thread-safe.
package publish

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"evidence-ledger/collectors/spool"
	"evidence-ledger/verify"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/submission"
)

type checkpointProof = []tlog.Hash

// Config says who publishes what to whom. TLS and the last two may be absent.
type Config struct {
	// URL of the node's NATS server, as nats://127.0.0.1:4222, or
	// tls://ledger.example.org:4222 from another machine.
	URL string
	// TLS says whom to believe at a tls:// address.
	TLS TLS
	// Name is the enrolled name.
	Name string
	// SeedFile holds the NKEY seed.
	SeedFile string
	// KeyID is the id of the signing key whose numbers the spool counts.
	KeyID string
	// Identity is the node's, pinned.
	Identity *checkpoint.Identity
	Spool    *spool.Spool
	Log      *slog.Logger
	// Window is how many events may wait for their receipts at once; 0 is 256.
	Window int
	// Patience is how long to wait for a receipt before asking; 0 is 5 s.
	Patience time.Duration
}

const (
	windowBytes  = 16 << 20 // of bodies waiting for their receipts
	maxBackoff   = 30 * time.Second
	refreshEvery = time.Minute
	asksARound   = 256
	// soon is when to ask for what an outage may have swallowed.
	soon = 250 * time.Millisecond
)

// ErrAhead says that the node has higher numbers of our key than the spool.
var ErrAhead = errors.New("the node's last numbers are ahead of the spool's")

// Publisher is one connection's worth of publishing.
type Publisher struct {
	config Config
	keys   verify.Keys // the identity's key, or what the admins have rotated it to
	wake   chan struct{}
	// reconnected is set from outside that goroutine.
	reconnected atomic.Bool
	fresh       chan struct{} // closed at the first refresh that came to an end

	// Owned by the goroutine in run.
	nc      *nats.Conn
	js      jetstream.JetStream
	newest  checkpoint.Checkpoint
	moved   *checkpoint.Signed // newest, while it is not on the spool yet
	flights map[string]*flight
	bytes   int
	cursor  uint64

	mu     sync.Mutex
	status Status
	away   string // why there is no connection, as far as it is known
}

// flight is one item that waits for its receipt.
type flight struct {
	order uint64
	size  int
	due   time.Time // when to ask for it
	wait  time.Duration
	taken jetstream.PubAckFuture // the broker's answer, nil once it was looked at
}

// hurry asks soon, whatever was waited for before.
func (f *flight) hurry(patience time.Duration) {
	f.due, f.wait = time.Now().Add(min(soon, patience)), patience/2
}

// Status is what a person wants to know of the publishing.
type Status struct {
	Connected bool   `json:"connected"`
	InFlight  int    `json:"inFlight"`
	Size      uint64 `json:"size"` // of the newest verified checkpoint
	// Conflict says how the node contradicts itself, until it no longer does.
	Conflict string `json:"conflict,omitempty"`
	// BadReceipts did not verify; OddRefusals did not count.
	BadReceipts uint64    `json:"badReceipts"`
	OddRefusals uint64    `json:"oddRefusals"`
	LastFault   string    `json:"lastFault,omitempty"`
	FaultAt     time.Time `json:"faultAt,omitzero"`
}

// New checks the configuration and reads the newest checkpoint off the spool.
func New(c Config) (*Publisher, error) {
	if c.Window <= 0 {
		c.Window = 256
	}
	if c.Patience <= 0 {
		c.Patience = 5 * time.Second
	}
	keys, err := knownKeys(c)
	if err != nil {
		return nil, err
	}
	p := &Publisher{config: c, keys: keys, wake: make(chan struct{}, 1), fresh: make(chan struct{}), newest: start(c.Identity), flights: map[string]*flight{}}
	stored, err := c.Spool.Checkpoint()
	if err != nil {
		return nil, err
	}
	if stored != nil {
		signed, err := verify.Checkpoint(stored, keys)
		if err != nil {
			return nil, fmt.Errorf("the newest checkpoint on the spool is not of the pinned identity: %w", err)
		}
		p.newest = signed.Checkpoint
	}
	p.status.Size = p.newest.Size
	return p, nil
}

// Wake makes a running publisher look at the whole spool at once.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status returns a copy.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Publisher) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	again := p.status.LastFault == text
	p.status.LastFault, p.status.FaultAt = text, time.Now().UTC()
	p.mu.Unlock()
	if again {
		p.config.Log.Debug(text)
		return
	}
	p.config.Log.Error(text)
}

// Run publishes until ctx ends, and then returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	err := p.run(ctx, func() bool { return false })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Drain publishes until nothing is pending.
func (p *Publisher) Drain(ctx context.Context) error {
	return p.run(ctx, func() bool { return p.config.Spool.Stats().Pending == 0 })
}

func (p *Publisher) run(ctx context.Context, done func() bool) (err error) {
	if done() {
		return nil
	}
	if p.nc, err = p.connect(); err != nil {
		return err
	}
	defer p.nc.Close()
	if p.js, err = jetstream.New(p.nc,
		jetstream.WithPublishAsyncMaxPending(4*p.config.Window),
		jetstream.WithPublishAsyncTimeout(maxBackoff),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			if errors.Is(err, nats.ErrDisconnected) {
				return // that is told once for the connection, not for each event
			}
			p.fault("the broker did not take %s: %v", m.Header.Get(jetstream.MsgIDHeader), err)
		})); err != nil {
		return err
	}
	notices := make(chan *nats.Msg, 4*p.config.Window)
	if _, err = p.nc.ChanSubscribe("ledger.v1.notices."+p.config.Name, notices); err != nil {
		return err
	}
	if err := p.awaitNumbers(ctx); err != nil {
		return err
	}
	p.refresh(ctx)
	clear(p.flights)
	p.bytes, p.cursor = 0, 0
	return p.loop(ctx, done, notices)
}

func (p *Publisher) loop(ctx context.Context, done func() bool, notices <-chan *nats.Msg) error {
	tick := time.NewTicker(min(p.config.Patience/4, 500*time.Millisecond))
	defer tick.Stop()
	newest := time.NewTicker(refreshEvery)
	defer newest.Stop()
	for !done() {
		if err := p.fill(); err != nil {
			return err
		}
		p.observe()
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-notices:
			err = p.settle(ctx, p.gather(m, notices))
		case <-p.wake:
			p.cursor = 0
		case <-tick.C:
			err = p.overdue(ctx)
		case <-newest.C:
			p.refresh(ctx)
		}
		if err != nil {
			return err
		}
	}
	p.observe()
	return nil
}

func (p *Publisher) observe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Connected, p.status.InFlight, p.status.Size = p.nc.IsConnected(), len(p.flights), p.newest.Size
}

// awaitNumbers asks for the node's last numbers until it answers.
func (p *Publisher) awaitNumbers(ctx context.Context) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := p.checkNumbers(ctx)
		if err == nil || errors.Is(err, ErrAhead) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		p.observe()
		if p.nc.IsConnected() {
			p.fault("the node's last numbers: %v", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (p *Publisher) checkNumbers(ctx context.Context) error {
	body, err := p.request(ctx, "ledger.v1.last."+p.config.Name, map[string]string{"keyid": p.config.KeyID})
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var reply struct {
		Last map[string]struct {
			Seq     uint64 `json:"seq"`
			Payload string `json:"payload"`
		} `json:"last"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("the reply cannot be read: %w", err)
	}
	own, err := p.config.Spool.Numbers(p.config.KeyID)
	if err != nil {
		return err
	}
	for typ, theirs := range reply.Last {
		ours := own[typ]
		if theirs.Seq > ours.Seq || theirs.Seq == ours.Seq && theirs.Seq > 0 && theirs.Payload != hex.EncodeToString(ours.Payload[:]) {
			return fmt.Errorf("%w: %s is at %d there and at %d here", ErrAhead, typ, theirs.Seq, ours.Seq)
		}
	}
	return nil
}

// fill publishes pending items in order while the window has room.
func (p *Publisher) fill() error {
	for p.nc.IsConnected() && len(p.flights) < p.config.Window && p.bytes < windowBytes {
		items, err := p.config.Spool.Pending(p.cursor, min(16, p.config.Window-len(p.flights)))
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			if p.flights[item.ID] == nil {
				f := &flight{order: item.Order, wait: p.config.Patience}
				if err = p.send(item, f); err != nil {
					p.fault("publishing %s: %v", item.ID, err)
					return nil // again with the next round
				}
				f.due = time.Now().Add(f.wait)
				p.flights[item.ID] = f
				p.bytes += f.size
			}
			p.cursor = item.Order
		}
	}
	return nil
}

func (p *Publisher) send(item *spool.Item, f *flight) (err error) {
	s := submission.Submission{Envelope: item.Envelope, Artifacts: item.Artifacts, Checkpoint: item.Checkpoint}
	m := nats.NewMsg(submission.Subject(p.config.Name, item.Type))
	m.Header.Set(jetstream.MsgIDHeader, item.ID)
	m.Data = s.Body()
	f.size = len(m.Data)
	f.taken, err = p.js.PublishMsgAsync(m)
	return err
}

// outage hurries what may have been lost on its way, or whose notice may have:
// all of it after the connection came back, else what the broker did not take,
// and what it has already. That is what an earlier process of ours sent.
// TestDuplicateIsAskedFor, TestKillNode. What came back may be an older copy.
func (p *Publisher) outage(ctx context.Context) {
	back := p.reconnected.Swap(false)
	if back {
		p.refresh(ctx)
	}
	for _, f := range p.flights {
		if f.taken != nil {
			select {
			case ack := <-f.taken.Ok():
				f.taken = nil
				if ack.Duplicate {
					f.hurry(p.config.Patience)
				}
			case <-f.taken.Err():
				f.taken = nil
				f.hurry(p.config.Patience)
			default:
			}
		}
		if back {
			f.hurry(p.config.Patience)
		}
	}
}

func (p *Publisher) land(id string) {
	if f := p.flights[id]; f != nil {
		p.bytes -= f.size
		delete(p.flights, id)
	}
}

// gather takes what else has arrived already, so that one transaction of the
// spool releases all of it.
func (p *Publisher) gather(first *nats.Msg, more <-chan *nats.Msg) []*submission.Notice {
	var notices []*submission.Notice
	for m := first; ; {
		if n, err := submission.ParseNotice(m.Data); err != nil {
			p.fault("a notice that cannot be read: %v", err)
		} else {
			notices = append(notices, n)
		}
		if len(notices) >= p.config.Window {
			return notices
		}
		select {
		case m = <-more:
		default:
			return notices
		}
	}
}

// settle judges notices and lets the spool go of what is verified.
func (p *Publisher) settle(ctx context.Context, notices []*submission.Notice) error {
	var receipts []*receipt
	var refused []*submission.Refusal
	for _, n := range notices {
		item, err := p.config.Spool.Get(n.ID)
		if errors.Is(err, spool.ErrUnknown) {
			p.land(n.ID) // released or refused before
			continue
		}
		if err != nil {
			return err
		}
		if n.Refusal != nil {
			if counts(item, n.Refusal) {
				p.land(item.ID)
				refused = append(refused, n.Refusal)
				err = p.config.Spool.Refuse(item.ID, *n.Refusal)
			} else {
				p.oddRefusal(item.ID, n.Refusal)
			}
			if err != nil {
				return err
			}
			continue
		}
		r, err := p.checkReceipt(ctx, item, n.Receipt)
		if err != nil {
			p.badReceipt(item.ID, err)
			continue
		}
		receipts = append(receipts, r)
	}
	if len(refused) > 0 { // a line a batch: thousands may have the same reason
		first := refused[0]
		p.config.Log.Warn("the node refused events", "count", len(refused), "first", first.Code, "where", first.Where, "text", first.Text)
	}
	return p.release(ctx, receipts)
}

// release walks the receipts' checkpoints from small to large, so that each
// distinct one costs one consistency proof.
func (p *Publisher) release(ctx context.Context, receipts []*receipt) error {
	slices.SortStableFunc(receipts, func(a, b *receipt) int { return cmp.Compare(a.checkpoint.Size, b.checkpoint.Size) })
	var good []spool.Received
	judged := map[checkpoint.Checkpoint]error{}
	for _, r := range receipts {
		err, known := judged[r.checkpoint.Checkpoint]
		if !known {
			err = p.follow(ctx, r.checkpoint)
			judged[r.checkpoint.Checkpoint] = err
		}
		switch {
		case err == nil:
			good = append(good, r.received)
		case problem.Of(err) != nil:
			p.badReceipt(r.received.ID, err)
		default: // the node did not answer: the receipt will be asked for again
			p.fault("the receipt for %s cannot be checked yet: %v", r.received.ID, err)
		}
	}
	if len(good) == 0 {
		return nil
	}
	if _, err := p.config.Spool.Release(p.moved, good...); err != nil {
		return err
	}
	p.moved = nil
	for _, r := range good {
		p.land(r.ID)
	}
	return nil
}

func (p *Publisher) badReceipt(id string, err error) {
	p.fault("the receipt for %s does not verify, the event stays on the spool: %v", id, err)
	p.mu.Lock()
	p.status.BadReceipts++
	p.mu.Unlock()
}

func (p *Publisher) oddRefusal(id string, r *submission.Refusal) {
	p.fault("a refusal of %s does not count, the event stays on the spool: %s: %s: %s", id, r.Code, r.Where, r.Text)
	p.mu.Lock()
	p.status.OddRefusals++
	p.mu.Unlock()
}

// overdue asks for what has had no notice in time.
func (p *Publisher) overdue(ctx context.Context) error {
	if !p.nc.IsConnected() {
		return nil
	}
	p.outage(ctx)
	var notices []*submission.Notice
	for _, id := range p.due(time.Now()) {
		f := p.flights[id]
		body, err := p.request(ctx, "ledger.v1.receipt."+p.config.Name, map[string]string{"id": id})
		f.wait = min(2*f.wait, maxBackoff)
		f.due = time.Now().Add(f.wait)
		switch {
		case notFound(err):
			if err := p.again(id); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			// The node does not answer: the others need not be asked now.
			p.fault("%v", err)
			return p.settle(ctx, notices)
		default:
			n, err := submission.ParseNotice(body)
			if err != nil || n.ID != id {
				p.fault("the node's answer for %s cannot be read: %v", id, err)
				continue
			}
			notices = append(notices, n)
		}
	}
	return p.settle(ctx, notices)
}

// due returns the ids to ask for, in the spool's order.
func (p *Publisher) due(now time.Time) []string {
	var ids []string
	for id, f := range p.flights {
		if !now.Before(f.due) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(p.flights[a].order, p.flights[b].order) })
	return ids[:min(len(ids), asksARound)]
}

// again sends an item that the node does not know, the same bytes.
func (p *Publisher) again(id string) error {
	item, err := p.config.Spool.Get(id)
	if errors.Is(err, spool.ErrUnknown) {
		p.land(id)
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.send(item, p.flights[id]); err != nil {
		p.fault("publishing %s: %v", id, err)
	}
	p.flights[id].taken = nil // that the broker has it by now tells nothing new
	return nil
}
