package publish

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"evidence-ledger/ledger/sign"
)

// GenerateSeed makes an NKEY user, writes its seed to path, which must not
// exist, and returns its public half for the enrolment.
func GenerateSeed(path string) (public string, err error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	seed, err := user.Seed()
	if err != nil {
		return "", err
	}
	if err := sign.WriteSecret(path, append(seed, '\n')); err != nil {
		return "", err
	}
	return user.PublicKey()
}

// loadSeed reads a seed file that only its owner can read.
func loadSeed(path string) (nkeys.KeyPair, string, error) {
	secret, err := sign.ReadSecret(path)
	if err != nil {
		return nil, "", err
	}
	user, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(secret))))
	if err != nil {
		return nil, "", fmt.Errorf("%s is not an NKEY seed: %w", path, err)
	}
	public, err := user.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, "", fmt.Errorf("%s is not the NKEY seed of a user", path)
	}
	return user, public, nil
}

// connect returns at once; the connection is made, and made again, for ever
// behind it. Nothing is buffered while there is none: what is spooled goes out
// from the spool.
func (p *Publisher) connect() (*nats.Conn, error) {
	user, public, err := loadSeed(p.config.SeedFile)
	if err != nil {
		return nil, err
	}
	down := func(_ *nats.Conn, err error) {
		if err != nil {
			p.down(err)
		}
	}
	secure, err := p.config.TLS.options(p.config.URL)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", p.config.URL, err)
	}
	nc, err := nats.Connect(p.config.URL, append(secure,
		nats.Name("collector "+p.config.Name),
		nats.Nkey(public, user.Sign),
		nats.CustomInboxPrefix("_INBOX."+p.config.Name),
		nats.IgnoreDiscoveredServers(), // the address is ours to say
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(time.Duration(attempts)*500*time.Millisecond, 10*time.Second)
		}),
		nats.ReconnectErrHandler(down),
		nats.DisconnectErrHandler(down),
		nats.ReconnectHandler(func(*nats.Conn) {
			p.reconnected.Store(true)
			p.Wake()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrAuthorization) {
				p.down(err)
				return
			}
			p.fault("nats: %v", err)
		}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", p.config.URL, err)
	}
	return nc, nil
}

// down remembers and tells why there is no connection.
func (p *Publisher) down(err error) {
	text := p.unreachable()
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		text = "the node does not know this collector's NKEY: is it enrolled? (`ledger collector enrol`)"
	case !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, io.EOF):
		text = fmt.Sprintf("%s: %v", text, err)
	}
	p.mu.Lock()
	p.away = text
	p.mu.Unlock()
	p.fault("%s", text)
}

func (p *Publisher) unreachable() string { return "the node is not reachable at " + p.config.URL }

// awayError is why nothing can be asked now.
func (p *Publisher) awayError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.New(cmp.Or(p.away, p.unreachable()))
}

// serviceError is what the node's micro service answered instead of a reply.
type serviceError struct {
	Code int
	Text string
}

func (e *serviceError) Error() string { return fmt.Sprintf("the node answers %d: %s", e.Code, e.Text) }

// notFound tells a node that does not know from one that cannot answer.
func notFound(err error) bool {
	var s *serviceError
	return errors.As(err, &s) && s.Code == 404
}

const requestTimeout = 3 * time.Second

// request asks the node's micro service and returns the reply's body.
func (p *Publisher) request(ctx context.Context, subject string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reply, err := p.nc.RequestWithContext(ctx, subject, body)
	if errors.Is(err, nats.ErrReconnectBufExceeded) || err != nil && !p.nc.IsConnected() {
		return nil, p.awayError()
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", subject, err)
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		n, _ := strconv.Atoi(code)
		return nil, fmt.Errorf("asking %s: %w", subject, &serviceError{n, reply.Header.Get(micro.ErrorHeader)})
	}
	return reply.Data, nil
}
