// Package bus carries submissions to the node and answers back to collectors.
// It is the only package of the node that knows nats-server.
//
// Idea: an embedded nats-server with JetStream holds what collectors have
// published until the node has committed it. JetStream is a buffer here, never
// a store of evidence: what counts is the log and, until its receipt is
// verified, the collector's spool.
//
//	collector -> node   evidence.v1.<collector>.<type>      stream EVIDENCE, consumer ledger
//	node -> collector   ledger.v1.notices.<collector>       core NATS
//	request, reply      ledger.v1.{checkpoint,consistency,trust}
//	                    ledger.v1.{receipt,refusals,last}.<collector>   (see service.go)
//
// Invariants, each held by a test:
//
//   - What was acknowledged to a publisher is synced to disk, and stays until
//     the node acknowledges it: work queue, sync always, no limit but MaxBytes,
//     and a full stream refuses what is new (TestFullStreamRefuses,
//     TestRestartKeepsMessages). Delete and purge are denied by the stream
//     itself, for everybody (TestStreamDenies).
//   - Whoever connects proves an NKEY by signing the server's nonce, and may
//     then do what its Grant says and nothing else (TestWhoMayConnect,
//     TestWhatMayBePublished, TestWhatMayBeRead). Each collector has a subject
//     space of its own, so that no reply subject leads to anybody else
//     (TestReplySubjectReachesNothing). A grant that is taken away closes the
//     connection (TestReauthorizeClosesRevoked).
//   - Without TLS only loopback addresses are listened on (TestOnlyLoopback).
//     With TLS every client speaks it from the first byte on, checks the name
//     in our certificate, and shows one of its own where client CAs are
//     configured (TestTLS). Renewed files are taken without a restart, and
//     broken ones change nothing (TestReload).
//   - A message that was handed out and not acknowledged comes again: after 30
//     seconds while the node runs, at once after a restart, in stream order
//     (TestRestartKeepsMessages).
//
// A stream's sequence number is no identity: after a damage on disk the server
// may use numbers again. It serves for one alarm only (see LastSequence).
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"evidence-ledger/verify/syntax"
)

const (
	// Stream is the JetStream stream that holds submissions.
	Stream = "EVIDENCE"
	// Consumer is the node's durable consumer on Stream.
	Consumer = "ledger"
	// MaxPayload bounds every message, headers included.
	MaxPayload = 1 << 20
	// DefaultMaxBytes is the stream's size where Options.MaxBytes is 0.
	DefaultMaxBytes = 1 << 30
)

const (
	submissions = "evidence.v1.>"
	notices     = "ledger.v1.notices."

	ackWait       = 30 * time.Second
	maxAckPending = 4096
	duplicates    = 2 * time.Minute
	startTimeout  = 30 * time.Second
	// fetchBytes is where one Fetch stops, fetchStep how many messages it asks
	// for at a time: at most fetchStep * MaxPayload more are in memory.
	fetchBytes = 32 << 20
	fetchStep  = 32
	// maxStore is the server's own limit, above any stream's: the stream bounds
	// itself. A nearer one would keep a server from opening the stream that was
	// made under a greater MaxBytes (TestMaxBytesMayShrink).
	maxStore = 1 << 50
)

// Options says where the bus listens, where it keeps its files and who may
// connect.
type Options struct {
	// Listen is an address and a port, as "127.0.0.1:4222"; without TLS it is
	// one of loopback. Port 0 takes a free one; see ClientURL.
	Listen string
	// TLS, where given, is required of every client.
	TLS TLS
	// StoreDir is the folder of JetStream's files, made where it is missing.
	// No two servers may use one at the same time: the caller holds a lock.
	StoreDir string
	// MaxBytes bounds the stream EVIDENCE; 0 means DefaultMaxBytes.
	MaxBytes int64
	// Authorize tells what a public NKEY may do, false where nothing. It is
	// asked at each connect and by Reauthorize, never by two goroutines at
	// once, and must not call the Bus.
	Authorize func(nkey string) (Grant, bool)
	// Logger receives the server's log, nothing goes to standard output.
	Logger *slog.Logger
}

// Bus is a running server and the node's own connection to it.
type Bus struct {
	log      *slog.Logger
	access   *access
	certs    *certificates // nil without TLS
	server   *server.Server
	conn     *nats.Conn
	closed   chan struct{} // the node's connection is closed
	js       jetstream.JetStream
	consumer jetstream.Consumer

	mu      sync.Mutex
	service micro.Service
}

// Start runs the server, makes or opens the stream and its consumer, and
// returns once collectors can publish. The caller calls Close.
func Start(ctx context.Context, o Options) (*Bus, error) {
	if err := o.TLS.check(); err != nil {
		return nil, err
	}
	host, port, err := address(o.Listen, o.TLS != TLS{})
	if err != nil {
		return nil, err
	}
	if o.StoreDir == "" || o.Authorize == nil {
		return nil, errors.New("bus: StoreDir and Authorize are required")
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	own, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	b := &Bus{log: o.Logger.With("component", "bus"), closed: make(chan struct{})}
	if b.access, err = newAccess(own, o.Authorize, b.log); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.start(ctx, o, host, port, own); err != nil {
		b.abort()
		return nil, fmt.Errorf("bus: %w", err)
	}
	return b, nil
}

func (b *Bus) start(ctx context.Context, o Options, host string, port int, own nkeys.KeyPair) error {
	if err := b.run(ctx, o, host, port); err != nil {
		return err
	}
	if err := b.connect(own); err != nil {
		return err
	}
	return b.open(ctx, o.MaxBytes)
}

// address takes an address apart; without TLS it refuses one that others can
// reach.
func address(listen string, secure bool) (string, int, error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("bus: %q is not an address such as 127.0.0.1:4222: %w", listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("bus: %q: the port is not a number from 0 to 65535", listen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); !secure && (err != nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("bus: cannot listen on %q: without TLS (a certificate and its key) only a loopback address (127.0.0.1, ::1) is allowed", listen)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

// run starts the server and waits until it takes connections.
func (b *Bus) run(ctx context.Context, o Options, host string, port int) error {
	options := &server.Options{
		ServerName:                 "ledger",
		Host:                       host,
		Port:                       port,
		NoSigs:                     true,
		NoLog:                      true, // the server's own logger; ours is set below
		MaxPayload:                 MaxPayload,
		JetStream:                  true,
		JetStreamMaxStore:          maxStore,
		StoreDir:                   o.StoreDir,
		SyncAlways:                 true,
		DisableJetStreamBanner:     true,
		Accounts:                   []*server.Account{server.NewAccount(nodeAccount)},
		AlwaysEnableNonce:          true,
		CustomClientAuthentication: b.access,
	}
	if o.TLS != (TLS{}) {
		var err error
		if b.certs, err = newCertificates(o.TLS, b.log); err != nil {
			return err
		}
		options.TLSConfig, options.TLSTimeout, options.TLSHandshakeFirst = b.certs.server(), tlsTimeout.Seconds(), true
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	b.server = s
	logger := &serverLog{log: b.log, fatal: make(chan string, 1)}
	s.SetLoggerV2(logger, b.log.Enabled(ctx, slog.LevelDebug), false, false)
	if err := b.access.wire(s); err != nil {
		return err
	}
	s.Start()
	if err := ready(ctx, s, logger); err != nil {
		return err
	}
	if b.access.node.JetStreamEnabled() {
		return nil
	}
	return b.access.node.EnableJetStream(nil, nil)
}

// ready waits until the server takes connections or says why it cannot.
func ready(ctx context.Context, s *server.Server, logger *serverLog) error {
	for !s.ReadyForConnections(50 * time.Millisecond) {
		select {
		case why := <-logger.fatal:
			return errors.New(why)
		case <-ctx.Done():
			return fmt.Errorf("the NATS server did not get ready: %w", ctx.Err())
		default:
		}
	}
	return nil
}

// connect is the node's own connection, inside the process, under a key that
// lives as long as the process does.
func (b *Bus) connect(own nkeys.KeyPair) error {
	pub, err := own.PublicKey()
	if err != nil {
		return err
	}
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("ledger node"),
		nats.Nkey(pub, own.Sign),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.log.Error("node's own connection", "subject", subject, "error", err)
		}))
	if err != nil {
		return fmt.Errorf("the node's own connection: %w", err)
	}
	b.js, err = jetstream.New(b.conn)
	return err
}

// open makes the stream and the consumer, or brings those that exist to the
// configuration of this program.
func (b *Bus) open(ctx context.Context, maxBytes int64) error {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        Stream,
		Description: "submissions that the node has not committed yet",
		Subjects:    []string{submissions},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes,
		Duplicates:  duplicates,
		DenyDelete:  true,
		DenyPurge:   true,
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", Stream, err)
	}
	b.consumer, err = b.js.CreateOrUpdateConsumer(ctx, Stream, jetstream.ConsumerConfig{
		Durable:       Consumer,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", Consumer, err)
	}
	// Whoever had messages in hand died with the last process: let them come
	// again now, not after ackWait.
	if _, err := b.js.ResetConsumer(ctx, Stream, Consumer); err != nil {
		return fmt.Errorf("consumer %s: %w", Consumer, err)
	}
	return nil
}

// ClientURL is where collectors connect, as "nats://127.0.0.1:4222", or with
// TLS as "tls://127.0.0.1:4222".
func (b *Bus) ClientURL() string { return b.server.ClientURL() }

// Notify tells a collector something about its submissions. It is a push to
// those who listen now: a collector that was away asks (see Handler).
func (b *Bus) Notify(collector string, body []byte) error {
	if err := syntax.Collector(collector); err != nil {
		return fmt.Errorf("bus: notice: %w", err)
	}
	if err := b.conn.Publish(notices+collector, body); err != nil {
		return fmt.Errorf("bus: notice to %s: %w", collector, err)
	}
	return nil
}

// LastSequence is the stream's last sequence number. Below what was fetched
// before, the stream has lost messages: the caller raises an alarm.
func (b *Bus) LastSequence(ctx context.Context) (uint64, error) {
	s, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return 0, fmt.Errorf("bus: stream %s: %w", Stream, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Reauthorize asks Authorize again for each connection and closes those whose
// grant is gone or is another one. The node calls it after each trust entry,
// and from time to time because grants also end by the clock. The TLS files are
// looked at, too: what is wrong with them is then known before somebody
// connects.
func (b *Bus) Reauthorize() {
	b.access.reauthorize()
	if b.certs != nil {
		b.certs.current()
	}
}

// Close lets requests in hand be answered, then stops the server. What was not
// acknowledged is there at the next Start.
func (b *Bus) Close(ctx context.Context) error {
	var errs []error
	b.mu.Lock()
	if b.service != nil {
		errs = append(errs, b.service.Stop())
		b.service = nil
	}
	b.mu.Unlock()
	if err := b.conn.Drain(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		errs = append(errs, err)
	}
	select {
	case <-b.closed:
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	b.abort()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bus: close: %w", err)
	}
	return nil
}

// abort closes the connection and stops the server, as far as they exist.
// LameDuckShutdown is no use here: it waits for clients to go elsewhere.
func (b *Bus) abort() {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}
