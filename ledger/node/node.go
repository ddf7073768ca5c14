// Package node runs a ledger: store, bus, ingest, console and the local socket.
//
// A node owns one data directory:
//
//	DIR/FORMAT, store, artifacts, second-place   see package store
//	DIR/node.key        the node's private key, mode 0600
//	DIR/jetstream       the bus's files: a buffer, no evidence
//	DIR/node.sock       the local API (HTTP), for the commands of this machine
//	DIR/snapshots       copies that commands read; emptied at each start
//
// Invariants: the store is open once at a time (its lock), so one node writes
// it; what stops the node is either the caller's context, and then everything in
// hand is finished first, or an unknown outcome of a commit, and then the
// process must end at once. TestServe and TestKillNode hold this.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/bus"
	"evidence-ledger/ledger/console"
	"evidence-ledger/ledger/ingest"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/trust"
)

// Config says how a node runs. It is the manual of `ledger serve`.
type Config struct {
	// Dir is the data directory, made by `ledger init`.
	Dir string
	// NodeKey is the node's key file; "" means DIR/node.key.
	NodeKey string
	// Keys says how keys are opened, and with which password.
	Keys sign.Options
	// SecondPlace is the folder of the newest checkpoint's second place, best
	// on another disk; "" means DIR/second-place.
	SecondPlace string
	// Predecessor names, in a genesis that is made, the ledger that the new one
	// goes on from.
	Predecessor *trust.Predecessor
	// NATS is where collectors connect: an address and a port, of loopback
	// unless there is TLS.
	NATS string
	// TLS is required of all collectors where it is given.
	TLS bus.TLS
	// HTTP is where tiles and checkpoint are served: a loopback address and a
	// port; "" serves none.
	HTTP string
	// QueueBytes bounds what waits in the stream EVIDENCE; 0 means 1 GiB.
	QueueBytes int64
	// MinFree is how many bytes must be free on the disk of Dir; below it
	// nothing is taken, and collectors keep what they have. 0 means 256 MiB.
	MinFree uint64
	// AcceptClock takes the machine's clock as right though it seems wrong.
	AcceptClock bool
	Logger      *slog.Logger
}

func (c Config) withDefaults() Config {
	// The node goes on under the same name whatever its working folder is.
	if abs, err := filepath.Abs(c.Dir); err == nil {
		c.Dir = abs
	}
	if c.NodeKey == "" {
		c.NodeKey = filepath.Join(c.Dir, "node.key")
	}
	if c.MinFree == 0 {
		c.MinFree = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) second() *store.SecondPlace {
	folder := c.SecondPlace
	if folder == "" {
		folder = store.SecondPlaceFolder(nil, c.Dir)
	}
	return store.NewSecondPlace(nil, folder)
}

// Node is a running node.
type Node struct {
	c      Config
	store  *store.Store
	ledger *ledger.Ledger
	bus    *bus.Bus
	ingest *ingest.Ingest
	local  *http.Server
	web    *http.Server
	socket net.Listener
	listen net.Listener
}

// openLedger opens store and ledger of a directory for writing.
func openLedger(c Config) (*store.Store, *ledger.Ledger, error) {
	s, err := store.Open(c.Dir, store.Options{Logger: c.Logger.With("component", "store")})
	if err != nil {
		return nil, nil, err
	}
	key, err := c.Keys.Node(c.NodeKey)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the node's key: %w", err), s.Close())
	}
	clock := ledger.SystemClock()
	clock.Accept = c.AcceptClock
	l, err := ledger.Open(ledger.Config{Store: s, Artifacts: store.NewArtifacts(nil, c.Dir), Second: c.second(), Node: key, Clock: clock, Conflicts: filepath.Join(c.Dir, "conflict"),
		NextNode: func() (*sign.Key, error) { return c.Keys.Node(c.nextKey()) }, Rotated: c.rotated})
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, l, nil
}

// Start opens everything; collectors can publish when it returns. Run works.
func Start(ctx context.Context, c Config) (n *Node, err error) {
	c = c.withDefaults()
	n = &Node{c: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.store, n.ledger, err = openLedger(c); errors.Is(err, store.ErrLocked) {
		return n, running(c.Dir, err)
	} else if err != nil {
		return n, err
	}
	if err := os.RemoveAll(n.snapshots()); err != nil {
		return n, fmt.Errorf("remove old snapshots: %w", err)
	}
	if n.bus, err = bus.Start(ctx, bus.Options{
		Listen: c.NATS, TLS: c.TLS, StoreDir: filepath.Join(c.Dir, "jetstream"), MaxBytes: c.QueueBytes,
		Authorize: n.authorize, Logger: c.Logger,
	}); err != nil {
		return n, err
	}
	if err := n.bus.Serve(answers{n.ledger}); err != nil {
		return n, err
	}
	n.ingest = &ingest.Ingest{Ledger: n.ledger, Bus: n.bus, Schemas: event.Builtin(), Logger: c.Logger.With("component", "ingest"), Ready: n.ready}
	if err := n.listenLocal(); err != nil {
		return n, err
	}
	if c.HTTP == "" {
		return n, nil
	}
	if n.listen, err = listenLoopback(c.HTTP); err != nil {
		return n, err
	}
	n.web = server(console.Handler(n.ledger))
	return n, nil
}

// RunningError says that the directory has its node already.
type RunningError struct{ Status }

func (e *RunningError) Error() string {
	return fmt.Sprintf("a node runs on this directory already: %s with %d entries, at %s", e.Origin, e.Size, e.NATS)
}

// running finds out who has the store open.
func running(dir string, why error) error {
	client, err := Dial(dir)
	if err != nil {
		return why
	}
	status, err := client.Status()
	if err != nil {
		return why
	}
	return &RunningError{status}
}

func server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute}
}

func listenLoopback(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is no address and port: %w", address, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address: checkpoint and tiles are served without TLS, put a proxy in front of 127.0.0.1", host)
	}
	return net.Listen("tcp", address)
}

// NATS is the address for collectors, HTTP that of the tiles ("" where none).
func (n *Node) NATS() string { return n.bus.ClientURL() }

// HTTP is the address of the tiles, "" where none are served.
func (n *Node) HTTP() string {
	if n.listen == nil {
		return ""
	}
	return "http://" + n.listen.Addr().String()
}

// Ledger is the node's ledger.
func (n *Node) Ledger() *ledger.Ledger { return n.ledger }

// Run works until the context ends, finishes what is in hand and closes
// everything. ledger.ErrCrashStop (wrapped) means that the process must end.
func (n *Node) Run(ctx context.Context) error {
	head := n.ledger.Head()
	n.c.Logger.Info("serving", "origin", head.Origin, "entries", head.Size, "nats", n.NATS(), "http", n.HTTP(), "dir", n.c.Dir)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.ingest.Run(ctx) })
	g.Go(func() error { return serve(ctx, n.local, n.socket) })
	if n.web != nil {
		g.Go(func() error { return serve(ctx, n.web, n.listen) })
	}
	g.Go(func() error { return n.expire(ctx) })
	g.Go(func() error { return n.watch(ctx) })
	err := g.Wait()
	if errors.Is(err, ledger.ErrCrashStop) {
		return err // nothing is closed in good order: only Open knows the state
	}
	if err = errors.Join(err, n.close()); err == nil {
		n.c.Logger.Info("stopped")
	}
	return err
}

// serve runs one HTTP server until the context ends.
func serve(ctx context.Context, s *http.Server, l net.Listener) error {
	stopped := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			s.Close()
		}
	})
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// expire closes, now and then, the connections of keys whose time is over.
func (n *Node) expire(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.bus.Reauthorize()
			n.removeCopies()
		}
	}
}

// copyAge is how old a copy is when whoever asked for it must have gone without
// removing it, as from a folder mounted read-only.
const copyAge = 24 * time.Hour

func (n *Node) removeCopies() {
	copies, err := os.ReadDir(n.snapshots())
	if err != nil {
		return // none was ever made
	}
	for _, c := range copies {
		if info, err := c.Info(); err == nil && time.Since(info.ModTime()) > copyAge {
			if err := os.RemoveAll(filepath.Join(n.snapshots(), c.Name())); err != nil {
				n.c.Logger.Warn("remove an old copy", "err", err)
			}
		}
	}
}

// watch ends the node when the store fails in the background, or the ledger
// while it appends for somebody else than ingest.
func (n *Node) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.ledger.Failed():
		return n.ledger.Err()
	case <-n.store.Failed():
		return fmt.Errorf("%w: %w", n.store.Err(), ledger.ErrCrashStop)
	}
}

func (n *Node) close() error {
	var errs []error
	if n.bus != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		errs = append(errs, n.bus.Close(ctx))
	}
	for _, l := range []net.Listener{n.socket, n.listen} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// authorize is what an NKEY may do by the log, now.
func (n *Node) authorize(nkey string) (bus.Grant, bool) {
	e, ok := n.ledger.State().ByNKey(nkey)
	now := time.Now()
	if !ok || now.Before(e.From) || !e.Until.IsZero() && !now.Before(e.Until) {
		return bus.Grant{}, false
	}
	return bus.Grant{Name: e.Name, Types: e.Types}, true
}

// ready holds ingest back before the disk is full: what JetStream and the
// spools hold stays there, and nothing is half written.
func (n *Node) ready() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(n.c.Dir, &fs); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", n.c.Dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < n.c.MinFree {
		return fmt.Errorf("the disk of %s has %d MiB free, %d are needed: make room, the node goes on by itself", n.c.Dir, free>>20, n.c.MinFree>>20)
	}
	return nil
}

func (n *Node) snapshots() string { return filepath.Join(n.c.Dir, "snapshots") }
