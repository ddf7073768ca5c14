package agent

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"evidence-ledger/collectors/publish"
)

// Run collects at its start and on the schedule, publishes, and answers on the
// socket, until ctx ends. ready is called once the socket answers.
func (a *Agent) Run(ctx context.Context, ready func()) error {
	schedule, err := cron.ParseStandard(a.config.Schedule)
	if err != nil {
		return err
	}
	listener, err := a.listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.running.Store(true)
	defer a.running.Store(false)
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	serving, publishing := make(chan error, 1), make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	go func() {
		defer close(publishing) // who asks again gets nil
		publishing <- a.publisher.Run(ctx)
	}()
	ready()
	err = a.schedule(ctx, schedule, publishing)
	// Everything that uses the spool has ended before the caller closes it.
	cancel()
	shut, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	shutErr := server.Shutdown(shut)
	<-serving
	if err == nil {
		err = <-publishing
	}
	return errors.Join(err, shutErr)
}

// freshWait is how long a collection waits for the node's newest checkpoint.
// Without a network the events are signed all the same, after an older one.
const freshWait = 3 * time.Second

// refresh lets the next events be signed after the node's newest checkpoint, if
// it comes in time.
func (a *Agent) refresh(ctx context.Context, wait time.Duration) {
	if a.running.Load() {
		select {
		case <-a.publisher.Fresh():
		case <-time.After(wait):
		case <-ctx.Done():
		}
		return
	}
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := a.publisher.Refresh(short)
	if _, told := errors.AsType[*publish.Conflict](err); err != nil && !told && ctx.Err() == nil {
		a.log.Warn("signing after an older checkpoint, or none", "problem", err)
	}
}

// schedule returns nil when ctx ends, or the publisher's error.
func (a *Agent) schedule(ctx context.Context, s cron.Schedule, publishing <-chan error) error {
	a.refresh(ctx, freshWait)
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-publishing:
			if ctx.Err() != nil {
				return err // it was told to
			}
			return errors.Join(errors.New("publishing has stopped"), err)
		case <-next.C:
		}
		events, err := a.Collect(ctx, "")
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.log.Error("collecting", "problem", err)
		}
		a.log.Info("collected", "events", events, "pending", a.spool.Stats().Pending)
		next.Reset(time.Until(s.Next(time.Now())))
	}
}

// listen opens the socket. One that lies there is left over: whoever made it
// would hold the spool.
func (a *Agent) listen() (net.Listener, error) {
	path := filepath.Join(a.dir, socketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("the socket for other commands: %w", err)
	}
	return listener, os.Chmod(path, 0o600)
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", reply(func(r *http.Request) (any, error) { return a.Status(r.Context()) }))
	mux.HandleFunc("POST /once", reply(func(r *http.Request) (any, error) {
		wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
		if err != nil {
			return nil, err
		}
		return a.Once(r.Context(), r.URL.Query().Get("type"), wait)
	}))
	mux.HandleFunc("POST /retry", reply(func(r *http.Request) (any, error) { return a.Retry(r.Context()) }))
	return mux
}

func reply(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if errors.Is(err, context.Canceled) {
			err = errors.New("the collector that was running has been stopped; nothing is lost, what was collected stays on the spool")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// An error here is the other side's going away.
		_ = json.MarshalWrite(w, v)
	}
}

// Client reaches the folder's running agent.
type Client struct{ http *http.Client }

// Dial returns a client where an agent is running in the folder, else nil.
func Dial(dir string) *Client {
	path := filepath.Join(dir, socketFile)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil
	}
	conn.Close()
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status is the running agent's.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[*Status](ctx, c, http.MethodGet, "/status")
}

// Once has the running agent collect now.
func (c *Client) Once(ctx context.Context, typ string, wait time.Duration) (*Report, error) {
	return call[*Report](ctx, c, http.MethodPost, "/once?"+url.Values{"type": {typ}, "wait": {wait.String()}}.Encode())
}

// Retry has the running agent put the refused events back.
func (c *Client) Retry(ctx context.Context) (int, error) {
	return call[int](ctx, c, http.MethodPost, "/retry")
}

// Close does nothing: the agent goes on.
func (c *Client) Close() error { return nil }

func call[T any](ctx context.Context, c *Client, method, path string) (out T, err error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://collector"+path, nil)
	if err != nil {
		return out, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return out, fmt.Errorf("the running collector: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return out, fmt.Errorf("the running collector: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return out, errors.New(strings.TrimSpace(string(body)))
	}
	return out, json.Unmarshal(body, &out)
}
